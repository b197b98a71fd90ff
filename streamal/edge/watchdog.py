"""A timer outside the interpreter that ends a process whose loop does not come back (`faulthandler`).

A model can loop in C code that never gives the interpreter back: then no signal handler and no thread of Python runs
any more. The timer of `faulthandler` is a thread of C; it prints where every thread is, and ends the process with 1.
"""

from __future__ import annotations

import faulthandler
import sys

__all__ = ["Watchdog"]


class Watchdog:
    """The only owner of the process's one timer: `faulthandler` has one, and a second owner would switch it off."""

    def arm(self, seconds: float) -> None:
        """End the process in *seconds*, unless `disarm` or another `arm` comes first."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)

    def disarm(self) -> None:
        """Stop the timer."""
        faulthandler.cancel_dump_traceback_later()
