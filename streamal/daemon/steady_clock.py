"""The time that a worker believes. A jump of the clock that the monotonic clock did not see has to last first.

A virtual machine that resumes, a wrong time server: for some seconds the clock may be a year ahead. Who believes it
expires all open requests and closes every cap for a year, and what is committed cannot be taken back (F64).
"""

from __future__ import annotations

from streamal.daemon.exporter import Logger
from streamal.ports import Clock, Meter

__all__ = ["SteadyClock"]


class SteadyClock:
    """The clock of a worker: it follows small corrections at once, a jump only when it has lasted."""

    def __init__(self, clock: Clock, jump_s: float, settle_s: float, meter: Meter, log: Logger) -> None:
        """Follow *clock*.

        Args:
            clock: the time of day, and a monotonic clock beside it.
            jump_s: a difference between the two of up to so many seconds is a correction.
            settle_s: a jump that has lasted for so many seconds of the monotonic clock is believed.
            meter: shows how far the clock is from the time that is believed.
            log: is told of each jump, of its end, and when it is believed.
        """
        self._clock, self._jump_s, self._settle_s, self._meter, self._log = clock, jump_s, settle_s, meter, log
        self._believed: float | None = None
        self._elapsed = self._since = self._jump = 0.0

    def monotonic(self) -> float:
        """Return seconds for measuring how long something takes: no jump changes them."""
        return self._clock.monotonic()

    def now(self) -> float:
        """Return the time that is believed, in seconds since the epoch; it goes back only with a jump that has lasted.

        The first time is believed as it is: there is nothing to compare it with.
        """
        now, elapsed = self._clock.now(), self._clock.monotonic()
        if self._believed is None:
            self._meter.gauge("clock_jump_seconds", 0.0)
            self._believed = now
        else:
            self._believed = self._judge(self._believed, self._believed + (elapsed - self._elapsed), now, elapsed)
        self._elapsed = elapsed
        return self._believed

    def follow(self, noted: float) -> float:
        """Return the time that is believed, but not one before *noted*, from the log, if that is only a little ahead.

        What is noted further ahead was written by a worker with a wrong clock. Its error must not spread.
        """
        now = self.now()
        return noted if now < noted <= now + self._jump_s else now

    def _judge(self, before: float, expected: float, now: float, elapsed: float) -> float:
        """Return the time to believe where the clock says *now*, and *expected* has passed by the monotonic one."""
        jump = now - expected
        if abs(jump) <= self._jump_s:
            if self._jump:
                self._log.info("clock_right_again")
            self._note(0.0)
            return max(before, now)
        if not self._jump or abs(jump - self._jump) > self._jump_s:
            self._log.warning("clock_jumped", seconds=round(jump, 1), believed_in_s=self._settle_s)
            self._since = elapsed
        self._note(jump)
        if elapsed - self._since < self._settle_s:
            return expected
        self._log.warning("clock_jump_believed", seconds=round(jump, 1))
        self._note(0.0)
        return now

    def _note(self, jump: float) -> None:
        if jump != self._jump:
            self._meter.gauge("clock_jump_seconds", jump)
        self._jump = jump
