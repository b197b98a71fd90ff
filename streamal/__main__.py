"""``python -m streamal`` and the command ``streamal``."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line under a fixed hash seed.

    Some River models keep their classes in a set and break ties in its order, which for strings depends on the
    hash seed: a worker that was started anew must fold the log to the same model.
    """
    if "PYTHONHASHSEED" not in os.environ:
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    from streamal.cli import app  # noqa: PLC0415

    app(prog_name="streamal")


if __name__ == "__main__":
    main()
