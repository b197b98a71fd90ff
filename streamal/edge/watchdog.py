"""A timer outside the interpreter that ends a process whose loop does not come back (`faulthandler`).

A model can loop in C code that never gives the interpreter back: then no signal handler and no thread of Python runs
any more. The timer of `faulthandler` is a thread of C; it prints where every thread is, and ends the process with 1.
"""

from __future__ import annotations

import faulthandler
import sys
import time

__all__ = ["Watchdog"]


class Watchdog:
    """The only owner of the process's one timer: `faulthandler` has one, and a second owner would switch it off."""

    def __init__(self) -> None:
        self._last_at: float | None = None

    def arm(self, seconds: float) -> None:
        """End the process in *seconds*, unless `disarm` or another `arm` comes first."""
        self._start(seconds)

    def disarm(self) -> None:
        """Stop the timer, but for the deadline of `end_within`."""
        if self._last_at is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            self._start(float("inf"))

    def end_within(self, seconds: float) -> None:
        """End the process in *seconds* whatever `arm` and `disarm` say: it was asked to end."""
        if self._last_at is None:
            self._last_at = time.monotonic() + seconds
        self._start(seconds)

    def _start(self, seconds: float) -> None:
        if self._last_at is not None:
            seconds = min(seconds, self._last_at - time.monotonic())
        faulthandler.dump_traceback_later(max(0.001, seconds), exit=True, file=sys.__stderr__ or sys.stderr)
