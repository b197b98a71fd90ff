"""What every kind of transport provides: the fields of one entry in the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streamal.config import Config
from streamal.edge.sqlite import Synchronous
from streamal.ports import Log, Transport

__all__ = ["TransportKind"]


class TransportKind(NamedTuple):
    """One kind of transport.

    Attributes:
        describe: return where the topics are, for people.
        open_log: return the topics, without membership in the group. *synchronous* says when an append reaches the
            disk, where that is ours to say.
        open_transport: return the membership of the worker with this name in the group.
        create_topics: make the topics that are not there, with so many replicas, and return their names.
        group_members: return who consumes in the group at the moment; a ConfigError where there are no groups.
        look_ahead: raise `Unreadable` for a batch among the next that the client would die of.
        problems: return a line for each way in which the topics are not what the promises need.
        describe_topics: return topic -> partitions, compaction, retention and compression, for people.
        advice: what to do about such problems; "" where the lines themselves say it.
        run_creates_topics: a worker makes missing topics itself; otherwise somebody makes them on purpose.
        many_workers: several workers can share the topics.
    """

    describe: Callable[[Config], str]
    open_log: Callable[[Config, Synchronous], Log]
    open_transport: Callable[[Config, str, Synchronous], Transport]
    create_topics: Callable[[Config, int | None], Sequence[str]]
    group_members: Callable[[Config], Sequence[str]]
    look_ahead: Callable[[Config], None]
    problems: Callable[[Config], Sequence[str]]
    describe_topics: Callable[[Config], Mapping[str, str]]
    advice: str
    run_creates_topics: bool
    many_workers: bool
