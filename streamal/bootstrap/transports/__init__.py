"""The registry of transports: for each ``transport.kind``, how to describe, open, create and check its topics.

A new kind is one file beside this one, one entry in `TRANSPORTS`, and one value of ``transport.kind``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from streamal.bootstrap.transports.kafka import KAFKA
from streamal.bootstrap.transports.kind import TransportKind
from streamal.bootstrap.transports.sqlite import SQLITE
from streamal.config import Config
from streamal.edge.sqlite import Synchronous
from streamal.errors import ConfigError
from streamal.ports import Log, Transport

__all__ = [
    "TRANSPORTS",
    "create_topics",
    "describe_topics",
    "describe_transport",
    "ensure_topics",
    "look_ahead",
    "open_alone",
    "open_log",
    "open_transport",
    "require_topics",
    "topic_problems",
    "worker_name",
]

TRANSPORTS: Mapping[str, TransportKind] = {"sqlite": SQLITE, "kafka": KAFKA}
"""``transport.kind`` -> that kind."""


def describe_transport(config: Config) -> str:
    """Return where the topics are, for people."""
    return _kind(config).describe(config)


def open_log(config: Config, synchronous: Synchronous = "FULL") -> Log:
    """Return the topics, without membership in the group; *synchronous* says when an append reaches SQLite's disk.

    Raises:
        ConfigError: there is no such database, or the client is not installed.
    """
    return _kind(config).open_log(config, synchronous)


def open_transport(config: Config, synchronous: Synchronous = "FULL") -> Transport:
    """Return the membership of this worker in the group; *synchronous* says when a commit reaches SQLite's disk.

    Raises:
        ConfigError: the topics are not what the promises need, or the client is not installed.
    """
    kind = _kind(config)
    if kind.run_creates_topics:
        kind.create_topics(config, None)
    else:
        require_topics(config)
    return kind.open_transport(config, worker_name(config), synchronous)


def open_alone(config: Config) -> Transport:
    """Return a membership in a group that has no other member, for one transaction outside the loop.

    It has the transactional id of this worker, and fences it. It is no static member, so it leaves the group at once.

    Raises:
        ConfigError: the group has members, or there are no groups.
    """
    kind = _kind(config)
    if members := kind.group_members(config):
        raise ConfigError(
            f"group {config.transport.group!r} has {len(members)} members ({', '.join(members[:3])}): stop all "
            f"workers, and wait for {config.transport.session_timeout_s:g} s (transport.session_timeout_s)"
        )
    # kafka-python, for librdkafka would inflate a bomb that is to be skipped
    changes = {"instance": None, "client": "kafka-python"}
    nobody = config.model_copy(update={"transport": config.transport.model_copy(update=changes)})
    return kind.open_transport(nobody, worker_name(config), "FULL")


def look_ahead(config: Config) -> None:
    """Raise `Unreadable` if the group comes next to a batch that the configured client would die of (F59)."""
    _kind(config).look_ahead(config)


def create_topics(config: Config, replicas: int | None = None) -> Sequence[str]:
    """Make the topics that are not there and return their names; *replicas* is for a cluster."""
    return _kind(config).create_topics(config, replicas)


def ensure_topics(config: Config) -> None:
    """Make the topics that are not there, if a worker would do so too; in a cluster they are made on purpose only."""
    if _kind(config).run_creates_topics:
        create_topics(config)


def describe_topics(config: Config) -> Mapping[str, str]:
    """Return topic -> its partitions, compaction, retention and compression, for people."""
    return _kind(config).describe_topics(config)


def topic_problems(config: Config) -> Sequence[str]:
    """Return one line for each way in which the topics are not what the promises need."""
    return _kind(config).problems(config)


def require_topics(config: Config) -> None:
    """Raise a ConfigError that names each way in which the topics, or the client, are not what is needed."""
    problems = topic_problems(config)
    if problems:
        advice = _kind(config).advice
        raise ConfigError(f"{describe_transport(config)}: {'; '.join(problems)}{advice and f'. {advice}'}")


def worker_name(config: Config) -> str:
    """Return what tells this process apart in the logs and in the group: its instance, or host and process."""
    return config.transport.instance or f"{socket.gethostname()}-{os.getpid()}"


def _kind(config: Config) -> TransportKind:
    return TRANSPORTS[config.transport.kind]
