"""Plain requests that are repeated while their error is a passing one, by stamina.

Never a transaction: whoever repeats one must first know what became of it. Callers report the error that is left after
the last attempt, so stamina itself neither logs nor counts the attempts before it (by default it does both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stamina import RetryingCaller
from stamina.instrumentation import set_on_retry_hooks

__all__ = ["retry"]

_T = TypeVar("_T")

set_on_retry_hooks([])


def retry(
    action: Callable[[], _T],
    is_passing: Callable[[Exception], bool],
    *,
    attempts: int | None = None,
    timeout_s: float | None = None,
    wait_s: float,
    wait_max_s: float | None = None,
) -> _T:
    """Return ``action()``, repeated while it raises an error that *is_passing*.

    Args:
        action: what is asked; it changes nothing when it is repeated.
        is_passing: tells an error that may go away by itself.
        attempts: at most, the first one included; None means any number.
        timeout_s: no attempt begins later; None means at any time.
        wait_s: before the second attempt; each further wait is twice as long.
        wait_max_s: the longest wait, by default *wait_s*.
    """
    repeat = RetryingCaller(
        attempts=attempts,
        timeout=timeout_s,
        wait_initial=wait_s,
        wait_max=wait_s if wait_max_s is None else wait_max_s,
        wait_jitter=0.0,
    )
    return repeat(is_passing, action)
