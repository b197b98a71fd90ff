"""``python -m streamal`` and the command ``streamal``."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line under a fixed hash seed; a plain ``streamal health`` without all that the others need.

    Some River models keep their classes in a set and break ties in its order, which for strings depends on the
    hash seed: a worker that was started anew must fold the log to the same model.
    """
    if (health := _health_arguments(sys.argv[1:])) is not None:
        sys.exit(_health(*health))
    if "PYTHONHASHSEED" not in os.environ:
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    if os.getpid() == 1:
        _end_on_sigterm()
    from streamal.cli import app  # noqa: PLC0415

    app(prog_name="streamal")


def _end_on_sigterm() -> None:
    """End this process on SIGTERM, which the kernel keeps from the first process of a container without a handler."""
    import signal  # noqa: PLC0415  (too dear for a health check)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _health_arguments(words: list[str]) -> tuple[str, list[str], str] | None:
    """Return the arguments of `require_alive` if *words* are a plain ``health``; None leaves the words to Typer.

    >>> _health_arguments(["health", "--config", "a.toml", "--set", "server.port=1"])
    ('a.toml', ['server.port=1'], 'server')
    >>> _health_arguments(["health", "--help"])
    """
    if words[:1] != ["health"]:
        return None
    path, overrides, section, rest = "config.toml", [], "server", words[1:]
    while rest:
        match rest:
            case ["--label-page", *rest]:
                section = "label_page"
            case ["--config" | "-c", str(path), *rest]:
                pass
            case ["--set", str(override), *rest]:
                overrides.append(override)
            case _:
                return None
    return path, overrides, section


def _health(path: str, overrides: list[str], section: str) -> int:
    """Return the exit code of ``streamal health``, the same as by way of `streamal.cli`."""
    from streamal.edge.health import require_alive  # noqa: PLC0415  (an engine asks every few seconds)
    from streamal.errors import StreamalError  # noqa: PLC0415

    try:
        require_alive(path, overrides, section)
    except StreamalError as error:
        sys.stderr.write(f"streamal: {ascii(str(error))[1:-1]}\n")  # whoever answers may not command the terminal
        return error.exit_code
    return 0


if __name__ == "__main__":
    main()
