"""Plans: which fault strikes at which I/O point. A plan is asked at every point, in order, and knows nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random

Plan = Callable[[int, str], str | None]
"""(number of the I/O point in this run, its name) -> the fault that strikes there, or None."""

ANYWHERE = ("crash", "zombie", "replaced", "pause", "rebalance", "signal")
KINDS = (*ANYWHERE, "abort", "unknown", "slow")
"""``slow``: the transaction is committed, but its markers reach some of the topics only later (KIP-98)."""
UNCOMMITTED = ("send:", "commit:before", "rewind:", "poll:before")
"""Where a transport may say that the transaction has not happened."""


def fits(fault: str, point: str) -> bool:
    """Whether *fault* can happen at *point*."""
    if fault == "abort":
        return point.startswith(UNCOMMITTED)
    return fault in ANYWHERE or (fault, point) in {("unknown", "commit:after"), ("slow", "commit:before")}


def no_faults(number: int, point: str) -> str | None:
    """Strike nowhere."""
    return None


def at(faults: Mapping[int, str]) -> Plan:
    """Return the plan that strikes at the points of these numbers, wherever the fault can happen there."""

    def plan(number: int, point: str) -> str | None:
        fault = faults.get(number)
        return fault if fault is not None and fits(fault, point) else None

    return plan


def at_random(seed: int, kinds: Collection[str]) -> Plan:
    """Return the plan of a swarm run: *kinds* of faults, all at a rate that the seed chooses."""
    rng = Random(f"faults {seed}")
    chosen = [kind for kind in KINDS if kind in kinds]
    rate = rng.choice((0.002, 0.006, 0.02))
    often = rng.choice((rate, 0.2))

    def plan(number: int, point: str) -> str | None:
        # commits are few among the points, and the most interesting: some runs strike there more often
        drawn = rng.random()
        if drawn >= often or not chosen or (drawn >= rate and not point.startswith(("send", "commit"))):
            return None
        fault = rng.choice(chosen)
        return fault if fits(fault, point) else None

    return plan
