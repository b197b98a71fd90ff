"""What a partition has counted: differences between two labels' counts tell of all the events between them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MILLION", "Seen"]

MILLION = 1_000_000


class Seen(NamedTuple):
    """The counts up to an event, that one included; kept with the partition's state, carried by requests and examples.

    *confidence* is the sum of the predictions' top probabilities in millionths: whole, so that no rounding gathers
    over the years. *unreachable* counts the events that had no chance of being asked.
    """

    events: int = 0
    confidence: int = 0
    unreachable: int = 0
