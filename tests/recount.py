"""The promises once more: by the verifier, and counted here with nothing of streamal, neither reader nor decoder."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from streamal.bootstrap import build, transports
from streamal.config import Config
from streamal.inspection.verify.verify import verify
from tests.outside import CLASSES, POISON_EVENTS, POISON_REPLIES, Outside

SHARE, BURST = 0.1, 20  # of the default configuration


class Found(NamedTuple):
    """A record of a topic, as any reader of committed records sees it."""

    key: str
    """Its own coordinates, "partition-offset"."""
    partition: int
    name: str
    value: bytes | None


def require_promises(outside: Outside) -> Counter[str]:
    """Fail with what the verifier or the recount has found; return how much there was to look at."""
    config, log = outside.config, transports.open_log(outside.config)
    try:
        parts, group = build(config), config.transport.group
        checks = verify(log, parts.rules, parts.budget, group, parts.new_fold, rederive=True)
    finally:
        log.close()
    assert [(check.promise, check.where) for check in checks if check.broken] == []
    assert all(check.looked_at for check in checks)
    found = recount(config, outside.in_time)
    assert checks[0].looked_at == found["accepted"] + found["refused"]
    return found


def committed_records(config: Config, topic: str) -> list[Found]:
    """Return all committed records of *topic*, partition by partition."""
    reader = KafkaConsumer(
        bootstrap_servers=config.transport.bootstrap_servers.split(","),
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=32 * 1024 * 1024,
    )
    try:
        places = [TopicPartition(topic, partition) for partition in sorted(reader.partitions_for_topic(topic))]
        reader.assign(places)
        reader.seek_to_beginning(*places)
        ends, found = reader.end_offsets(places), defaultdict[TopicPartition, list[Any]](list)
        while any(reader.position(place) < ends[place] for place in places):
            for place, records in reader.poll(timeout_ms=200).items():
                found[place] += records
    finally:
        reader.close()
    return [
        Found(f"{one.partition}-{one.offset}", one.partition, (one.key or b"").decode(), one.value)
        for place in places
        for one in found[place]
    ]


def recount(config: Config, in_time: Mapping[str, str | None]) -> Counter[str]:
    """Fail unless the topics keep the promises; return how much there was to look at.

    Args:
        config: what the workers ran with, as `tests.chaos.configured` writes it.
        in_time: requests that were answered before their deadline for certain, and how.
    """
    topics = config.topics
    events = committed_records(config, topics.events)
    replies = committed_records(config, topics.labels)
    refused = {each.key for each in events if _is_poison(each.value, POISON_EVENTS)}
    accepted = {each.key for each in events} - refused
    said = [(each.partition, json.loads(each.value or b"")) for each in committed_records(config, topics.predictions)]
    assert Counter(prediction["event"] for _, prediction in said) == dict.fromkeys(accepted, 1)
    _require_budget(said, config.transport.partitions)

    poison = {each.key for each in replies if _is_poison(each.value, POISON_REPLIES)}
    told = {each.key: json.loads(each.value or b"") for each in replies if b'"event"' in (each.value or b"")}
    letters = [json.loads(each.value or b"") for each in committed_records(config, topics.dead_letters)]
    buried = Counter((letter["topic"], f"{letter['partition']}-{letter['offset']}") for letter in letters)
    expected = [(topics.events, key) for key in refused] + [(topics.labels, key) for key in poison]
    expected += [(topics.labels, key) for key, label in told.items() if label["event"] not in accepted]
    assert buried == dict.fromkeys(expected, 1)

    requests = committed_records(config, topics.requests)
    asked = Counter(each.name for each in requests if each.value is not None)
    assert asked == {prediction["event"]: 1 for _, prediction in said if prediction.get("asked")}
    assert Counter(each.name for each in requests if each.value is None) == asked
    training = [json.loads(each.value or b"") for each in committed_records(config, topics.training)]
    assert Counter(record["request"] for record in training if record["kind"] != "natural") == asked
    _require_natural(training, {label["event"] for label in told.values()} & accepted)
    good = [json.loads(each.value or b"") for each in replies if each.key not in poison and each.key not in told]
    _require_first_replies(training, good, in_time)
    kinds = Counter(str(record["kind"]) for record in training)
    return kinds + Counter(accepted=len(accepted), refused=len(refused), poison=len(poison), asked=asked.total())


def _is_poison(value: bytes | None, poison: tuple[bytes | None, ...]) -> bool:
    return value in poison or len(value or b"") > 1_048_576


def _require_budget(said: list[tuple[int, dict[str, Any]]], partitions: int) -> None:
    """In every prefix of every partition: requests <= share * accepted + the partition's part of the burst."""
    assert BURST % partitions == 0
    accepted, asked = Counter[int](), Counter[int]()
    for partition, prediction in said:
        accepted[partition] += 1
        asked[partition] += bool(prediction.get("asked"))
        assert asked[partition] <= SHARE * accepted[partition] + BURST / partitions + 1e-9, prediction


def _require_natural(training: list[dict[str, Any]], told: set[str]) -> None:
    """Each event about which the truth came by itself was learned from that once, or from the label that was bought."""
    learned = Counter(record["event"] for record in training if record["kind"] == "natural")
    assert learned == dict.fromkeys(learned, 1)
    assert learned.keys() <= told
    assert told - learned.keys() <= {record["request"] for record in training if record["kind"] == "example"}


def _require_first_replies(
    training: list[dict[str, Any]], good: list[dict[str, Any]], in_time: Mapping[str, str | None]
) -> None:
    """What was learned is the first reply to each request; who answered in time was heard."""
    first: dict[str, str | None] = {}
    for reply in good:
        first.setdefault(reply["request"], reply.get("label"))
    learned = {
        record["request"]: record.get("label") for record in training if record["kind"] in {"example", "abstention"}
    }
    assert {key: first[key] for key in learned} == learned
    assert {key: learned.get(key, "nothing") for key in in_time} == dict(in_time)
    assert set(learned.values()) <= {*CLASSES, None}
