"""Choosing and joining the parts: which edge serves which port."""

from __future__ import annotations

import os
import socket
import time

from streamal.assembly import topic_partitions
from streamal.config import Config
from streamal.edge.snapshots import DirectorySnapshots
from streamal.edge.sqlite import SqliteLog, SqliteTransport, Synchronous
from streamal.errors import ConfigError
from streamal.ports import Clock, Snapshots

__all__ = ["WallClock", "create_topics", "open_log", "open_transport", "snapshots"]


class WallClock(Clock):
    """The time of day."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


def create_topics(config: Config) -> None:
    """Make the database and its topics, if they are not there."""
    log = SqliteLog(config.transport.path, create=True)
    try:
        for topic, partitions in topic_partitions(config).items():
            log.create(topic, partitions)
    finally:
        log.close()


def open_log(config: Config, synchronous: Synchronous = "FULL") -> SqliteLog:
    """Return the topics, without a seat in the group; *synchronous* says when what is appended reaches the disk.

    Raises:
        ConfigError: there is no such database.
    """
    if not config.transport.path.exists():
        raise ConfigError(f"transport.path: there is no database {config.transport.path}; `streamal run` makes it")
    return SqliteLog(config.transport.path, synchronous=synchronous)


def open_transport(config: Config, synchronous: Synchronous = "FULL") -> SqliteTransport:
    """Return a worker's seat, topics made where needed; *synchronous* says when a commit reaches the disk."""
    create_topics(config)
    instance = f"{socket.gethostname()}-{os.getpid()}"
    topics = config.topics
    return SqliteTransport(
        config.transport.path, config.transport.group, instance, topics.events, topics.labels, synchronous=synchronous
    )


def snapshots(config: Config) -> Snapshots | None:
    """Return the snapshot cache, or none where it is switched off."""
    directory = config.snapshots.directory
    return None if directory is None else DirectorySnapshots(directory)
