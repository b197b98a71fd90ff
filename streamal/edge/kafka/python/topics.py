"""Topics of a cluster: create the missing ones, and compare the settings of the others with what is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from streamal.edge.kafka.python.connection import Connection, retry_passing, translate_errors
from streamal.errors import ConfigError

__all__ = ["TopicSettings", "create_topics", "describe_topics", "differences", "group_members"]

_REPLICAS = 3  # where there are so many brokers: one may fail without stopping anybody
_SAFE = {"unclean.leader.election.enable": "false"}


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """The settings that one topic must have.

    Attributes:
        exactly: Kafka's topic settings that a promise rests on, as text.
        at_least: settings that may also be greater.
        at_first: settings that a new topic gets, and that may be changed.
    """

    name: str
    partitions: int
    exactly: Mapping[str, str] = field(default_factory=dict)
    at_least: Mapping[str, int] = field(default_factory=dict)
    at_first: Mapping[str, str] = field(default_factory=dict)


def create_topics(connection: Connection, wanted: Sequence[TopicSettings], replicas: int | None = None) -> list[str]:
    """Create the topics that are missing and return their names; existing ones stay as they are.

    A ConfigError, before anything is created, if an existing one has another number of partitions.

    Args:
        connection: the cluster.
        wanted: the topics.
        replicas: copies of each record; by default 3, or one on each broker if there are fewer.
    """
    admin = connection.admin()
    try:
        with translate_errors("create the topics"):
            there = set(admin.list_topics())
            copies = replicas or min(_REPLICAS, len(admin.describe_cluster()["brokers"]))
            made = [topic for topic in wanted if topic.name not in there]
            if made:
                _require_partitions(admin, [topic for topic in wanted if topic.name in there])
            for topic in made:
                _create(admin, topic, copies)
            if made:
                admin.wait_for_topics([topic.name for topic in made])
            return [topic.name for topic in made]
    finally:
        admin.close()


def differences(connection: Connection, wanted: Sequence[TopicSettings]) -> list[str]:
    """Return one line for each way in which the topics differ from *wanted*."""
    admin = connection.admin()
    try:
        with translate_errors("look at the topics"):
            found, missing = retry_passing(lambda: _describe_topics(admin, [topic.name for topic in wanted]))
            there = [topic for topic in wanted if topic.name not in missing]
            lines = [f"topic {name!r} is missing" for name in missing]
            for topic in there:
                have = [partition["replica_nodes"] for partition in found[topic.name]["partitions"]]
                lines += _find_differences(topic, len(have), min(map(len, have)), _configs(admin, topic))
            return lines
    finally:
        admin.close()


def group_members(connection: Connection, group: str) -> list[str]:
    """Return who is in *group* at the moment, by instance or client and host."""
    admin = connection.admin()
    try:
        with translate_errors(f"look at group {group!r}"):
            described = retry_passing(lambda: admin.describe_groups([group]))[group]
            return sorted(
                each.get("group_instance_id") or f"{each['client_id']}{each['client_host']}"
                for each in described["members"]
            )
    finally:
        admin.close()


def describe_topics(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """Return what the cluster does with the records of each of the topics *names*, and with a group's offsets."""
    admin = connection.admin()
    try:
        with translate_errors("look at the topics"):
            found, missing = retry_passing(lambda: _describe_topics(admin, names))
            lines = {}
            for name in (name for name in names if name not in missing):
                partitions = len(found[name]["partitions"])
                lines[name] = _describe_configs(partitions, _configs(admin, TopicSettings(name, partitions)))
            return lines | _describe_offsets(admin)
    finally:
        admin.close()


def _require_partitions(admin: KafkaAdminClient, topics: Sequence[TopicSettings]) -> None:
    """Raise a ConfigError for the first of *topics* that has another number of partitions than it should."""
    found, _ = retry_passing(lambda: _describe_topics(admin, [topic.name for topic in topics])) if topics else ({}, [])
    for topic in topics:
        have = len(found[topic.name]["partitions"])
        if have != topic.partitions:
            raise ConfigError(
                f"topic {topic.name!r} is there with {have} partitions, not {topic.partitions} (a producer may have "
                "made it: auto.create.topics.enable). Nothing was created: delete that topic, or set "
                f"transport.partitions = {have}"
            )


def _describe_configs(partitions: int, configs: Mapping[str, str]) -> str:
    """Return one line: partitions, compaction, retention, compression."""
    policies = configs.get("cleanup.policy", "delete")
    kept = [f"compacted, tombstones kept {_duration(configs.get('delete.retention.ms', '-1'))}"]
    if "delete" in policies:
        duration, size = _duration(configs.get("retention.ms", "-1")), configs.get("retention.bytes", "-1")
        kept = [*(["compacted"] if "compact" in policies else []), f"kept {duration}"]
        kept += [f"at most {int(size):,} bytes a partition"] if int(size) >= 0 else []
    compression = configs.get("compression.type", "producer")
    kept.append("compressed as the producer does" if compression == "producer" else f"compression {compression}")
    return f"{partitions} partition{'s' * (partitions != 1)}, {', '.join(kept)}"


def _describe_offsets(admin: KafkaAdminClient) -> dict[str, str]:
    """Return how long the offsets of a stopped group are kept; nothing without the permission to ask."""

    def ask() -> dict[str, Any]:
        broker = admin.describe_cluster()["brokers"][0]
        node = broker["broker_id"] if "broker_id" in broker else broker["node_id"]  # asked by either of two APIs
        resource = ConfigResource(ConfigResourceType.BROKER, str(node))
        (described,) = admin.describe_configs([resource], config_filter="all")["broker"].values()
        return dict(described)

    try:
        minutes = int(retry_passing(ask)["offsets.retention.minutes"]["value"])
    except (errors.KafkaError, KeyError, TypeError):  # TypeError: the value is kept from us
        return {}
    return {"group offsets": f"kept {_duration(str(minutes * 60_000))} after the last worker has stopped"}


def _duration(milliseconds: str) -> str:
    """Return a time-out of Kafka's in words.

    >>> _duration("604800000"), _duration("5400000"), _duration("-1")
    ('for 7 days', 'for 1.5 hours', 'for ever')
    """
    hours = int(milliseconds) / 3_600_000
    if hours < 0:
        return "for ever"
    return f"for {hours / 24:g} days" if hours >= 48 else f"for {hours:g} hours"


def _create(admin: KafkaAdminClient, topic: TopicSettings, copies: int) -> None:
    least = {"min.insync.replicas": max(1, copies - 1), **topic.at_least}
    configs = {**topic.at_first, **_SAFE, **topic.exactly, **{name: str(value) for name, value in least.items()}}
    made = {"num_partitions": topic.partitions, "replication_factor": copies, "configs": configs}
    try:
        admin.create_topics({topic.name: made})
    except errors.TopicAlreadyExistsError:  # somebody was faster
        return


def _describe_topics(
    admin: KafkaAdminClient, names: Sequence[str]
) -> tuple[Mapping[str, Mapping[str, Any]], list[str]]:
    """Return (the topics that exist by name, the names of the missing ones); any other error is raised."""
    found = {topic["name"]: topic for topic in admin.describe_topics(list(names))}
    missing = []
    for name in names:
        error = errors.for_code(found[name]["error_code"])
        if error is errors.UnknownTopicOrPartitionError:
            missing.append(name)
        elif error is not errors.NoError:
            raise error(name)
    return found, missing


def _configs(admin: KafkaAdminClient, topic: TopicSettings) -> Mapping[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name)
    described = retry_passing(lambda: admin.describe_configs([resource], config_filter="all"))["topic"][topic.name]
    return {name: str(entry["value"]) for name, entry in described.items()}


def _find_differences(topic: TopicSettings, partitions: int, copies: int, configs: Mapping[str, str]) -> Iterator[str]:
    if partitions != topic.partitions:
        yield f"topic {topic.name!r} has {partitions} partitions, not {topic.partitions}"
    in_sync = int(configs.get("min.insync.replicas", "1"))
    if copies > 1 and in_sync < 2:
        yield f"topic {topic.name!r} has min.insync.replicas={in_sync}, not 2: a commit may be lost with one broker"
    if copies > 1 and in_sync >= copies:
        yield f"topic {topic.name!r} has min.insync.replicas={in_sync} of {copies}: one broker less stops everything"
    for name, value in {**_SAFE, **topic.exactly}.items():
        if configs.get(name, "") != value:
            yield f"topic {topic.name!r} has {name}={configs.get(name, '')}, not {value}"
    for name, least in topic.at_least.items():
        if int(configs.get(name, "0")) < least:
            yield f"topic {topic.name!r} has {name}={configs.get(name, '')}, less than {least}"
