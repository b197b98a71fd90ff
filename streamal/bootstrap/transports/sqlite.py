"""Topics in one SQLite file, for one worker."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from streamal.bootstrap.rules import topic_partitions
from streamal.bootstrap.transports.kind import TransportKind
from streamal.config import Config
from streamal.edge.sqlite import SqliteLog, SqliteTransport, Synchronous
from streamal.errors import ConfigError, InconsistentLog
from streamal.ports import Log, Transport

__all__ = ["SQLITE"]


def _describe(config: Config) -> str:
    path = config.transport.path
    return str(path) if path.exists() else f"{path}, which does not exist yet; `streamal run` makes it"


def _open_log(config: Config, synchronous: Synchronous) -> Log:
    path = config.transport.path
    if not path.exists():
        raise ConfigError(f"transport.path: there is no database {path}; `streamal run` makes it")
    return SqliteLog(path, synchronous=synchronous)


def _open_transport(config: Config, name: str, synchronous: Synchronous) -> Transport:
    transport, topics = config.transport, config.topics
    return SqliteTransport(
        transport.path,
        transport.group,
        name,
        topics.events,
        topics.labels,
        predictions_topic=topics.predictions,
        synchronous=synchronous,
    )


def _create_topics(config: Config, replicas: int | None) -> Sequence[str]:  # noqa: ARG001  (a file has no replicas)
    _require_not_emptied(config)
    log = SqliteLog(config.transport.path, create=True)
    try:
        wanted = topic_partitions(config)
        missing = [topic for topic in wanted if log.partitions(topic) == 0]
        for topic, partitions in wanted.items():
            log.create(topic, partitions)
        return missing
    finally:
        log.close()


def _require_not_emptied(config: Config) -> None:
    """Raise InconsistentLog if the file is empty although snapshots were made of its topics (F69)."""
    path, directory = config.transport.path, config.snapshots.directory
    if not path.is_file() or path.stat().st_size or directory is None or not directory.is_dir():
        return
    if any(each.is_file() for each in directory.iterdir()):
        raise InconsistentLog(
            f"{path} is empty, but {directory} holds snapshots: somebody has emptied the database. Restore a copy; or, "
            "to begin anew, remove the file and the snapshots"
        )


def _problems(config: Config) -> Sequence[str]:
    path, directory = config.transport.path, config.transport.path.parent
    if not directory.is_dir():
        return [f"transport.path: the directory {directory} does not exist; make it"]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [f"transport.path: {directory} is not a directory that this user may write to"]
    return [*_strange_partitions(config)] if path.exists() else []


def _describe_topics(config: Config) -> Mapping[str, str]:
    return {
        topic: f"{partitions} partition{'s' * (partitions > 1)}, kept for ever"
        for topic, partitions in topic_partitions(config).items()
    }


def _strange_partitions(config: Config) -> Iterator[str]:
    """Yield a line for each topic that has another number of partitions than the configuration says."""
    log = _open_log(config, "FULL")
    try:
        for topic, partitions in topic_partitions(config).items():
            have = log.partitions(topic)
            if have not in (0, partitions):
                yield (
                    f"transport.partitions: topic {topic!r} has {have} partitions, not {partitions}; "
                    "their number cannot change: set it to what is there, or start a new file"
                )
    finally:
        log.close()


def _group_members(config: Config) -> Sequence[str]:
    raise ConfigError(
        f"{_describe(config)} has neither groups nor batches: this command is for Kafka. A damaged file is named by "
        "`streamal check`; restore it from a backup"
    )


SQLITE = TransportKind(
    describe=_describe,
    open_log=_open_log,
    open_transport=_open_transport,
    create_topics=_create_topics,
    group_members=_group_members,
    look_ahead=lambda _: None,
    problems=_problems,
    describe_topics=_describe_topics,
    advice="",
    run_creates_topics=True,
    many_workers=False,
)
