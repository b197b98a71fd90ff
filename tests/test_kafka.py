"""What is Kafka's own: rebalances, expired offsets, deleted records, limits, settings of topics."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import kafka
import pytest

from streamal.bootstrap import transports
from streamal.bootstrap.transports.kafka import python_connection
from streamal.config import Config, TransportConfig, load_config
from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from streamal.edge.kafka import python as edge
from streamal.edge.kafka.python import Connection, KafkaTransport, TopicSettings, create_topics, differences
from streamal.errors import ConfigError, Fatal, InconsistentLog, Uncommitted
from tests.kafka_broker import Cluster
from tests.kafka_world import CLIENTS, NUMBERS, Client, World, copy_all, copy_until, echo, on_both, take


@pytest.fixture(params=CLIENTS)
def world(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    """Topics of their own, and workers of each client."""
    made = World(kafka, client=request.param)
    yield made
    made.close()


def test_an_absent_cluster_is_waited_for_and_then_given_up() -> None:
    """Nobody listens: Fatal, after the time-out, with the address."""
    began = time.monotonic()
    with pytest.raises(Fatal, match=r"no Kafka at 127\.0\.0\.1:1 within 1 s") as raised:
        Connection("127.0.0.1:1", timeout_s=1.0).admin()
    assert raised.value.exit_code == 1
    assert 0.5 < time.monotonic() - began < 60  # the default


# Who owns what


@pytest.mark.kafka
@pytest.mark.parametrize("clients", list(product(CLIENTS, CLIENTS)), ids=" ".join)
def test_a_worker_that_joins_gets_its_share_and_no_record_is_lost_or_doubled(
    kafka: Cluster, clients: tuple[Client, Client]
) -> None:
    """What was polled and not committed before the rebalance is polled again, by whoever owns it now (F12)."""
    world = World(kafka, partitions=2)
    try:
        world.feed(b"a", partition=0)
        world.feed(b"b", partition=1)
        first, second = (world.worker(client=client) for client in clients)
        take(first, world.events, 2)
        assert len(first.assignment()[1]) == 3
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(copy_until, world, worker, 2) for worker in (first, second)]:
                done.result()
        assert (world.copied(0), world.copied(1)) == ([b"a"], [b"b"])
        owned = [set(worker.assignment()[1]) for worker in (first, second)]
        assert sorted(owned[0] | owned[1]) == [
            TopicPartition(world.events, 0),
            TopicPartition(world.events, 1),
            TopicPartition(world.labels, 0),
        ]
        assert owned[0]
        assert owned[1]
        assert not owned[0] & owned[1]
    finally:
        world.close()


@pytest.mark.kafka
def test_offsets_of_a_generation_that_is_over_are_refused(world: World) -> None:
    """The broker compares the membership beside the offsets; the worker rewinds, and goes on (KIP-447, F11, F12)."""
    world.feed(b"1")
    worker = world.worker()
    records = take(worker, world.events, 1)
    assert worker._membership is not None
    if isinstance(worker, KafkaTransport):
        worker._membership = worker._membership._replace(generation_id=worker._membership.generation_id + 1)
    else:  # librdkafka's own encoding: a mark, then the generation
        generation = int.from_bytes(worker._membership[7:11], sys.byteorder)
        worker._membership = (
            worker._membership[:7] + (generation + 1).to_bytes(4, sys.byteorder) + worker._membership[11:]
        )
    with pytest.raises(Uncommitted, match=r"(?i)illegal_?generation"):
        worker.commit(*echo(world, records))
    worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"1"]


@pytest.mark.kafka
def test_a_nameless_worker_whose_transaction_has_timed_out_goes_on(world: World) -> None:
    """Nobody else has its transactional id: it is the coordinator that has fenced it, and it may come back."""
    world.feed(b"1", b"2")
    worker = world.worker()
    records = take(worker, world.events, 2)
    usurper = world.connection.producer(transactional_id=worker._options.transactional_id)
    usurper.init_transactions()
    usurper.close(timeout=2)
    with pytest.raises(Uncommitted, match="timed out"):
        worker.commit(*echo(world, records))
    worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"1", b"2"]


# What is stored, and what is not any more


@pytest.mark.kafka
def test_offsets_that_have_expired_stop_the_worker(world: World) -> None:
    """The group has no offsets, yet there are predictions: InconsistentLog, for the state is lost with them."""
    world.feed(b"1")
    worker = world.worker(predictions_topic=world.out)
    worker.commit(*echo(world, take(worker, world.events, 1)))
    worker.close()
    admin = world.admin()
    admin.delete_groups([world.name])
    admin.close()
    with pytest.raises(InconsistentLog, match="expired") as raised:
        take(world.worker(predictions_topic=world.out), world.events, 1)
    assert raised.value.exit_code == 2


@pytest.mark.kafka
def test_a_first_commit_that_comes_while_the_offsets_are_read_is_met(world: World) -> None:
    """The former owner commits between our question for offsets and that for predictions: they are asked for again."""
    world.feed(b"0", b"1")
    former = world.worker(predictions_topic=world.out)
    former.commit(*echo(world, take(former, world.events, 1, at_once=1)[:1]))
    former.close()
    worker, answers = world.worker(predictions_topic=world.out), list[object]()
    fetch_states = worker._fetch_states

    def fetch_too_early(places: Sequence[TopicPartition], timeout_s: float) -> dict[TopicPartition, OffsetAndMetadata]:
        answers.append(places)
        return fetch_states(places, timeout_s) if len(answers) > 1 else {}

    worker._fetch_states = fetch_too_early  # type: ignore[method-assign]
    assert [record.value for record in take(worker, world.events, 1)] == [b"1"]
    assert len(answers) > 1


@pytest.mark.kafka
def test_records_that_were_deleted_stop_the_worker(world: World) -> None:
    """The committed offset, or a reader's, is below the log's start: InconsistentLog; from 0, what is left (F14)."""
    world.feed(b"1", b"2", b"3", b"4")
    worker = world.worker()
    records = take(worker, world.events, 1, at_once=1)
    worker.commit(*echo(world, records))
    worker.close()
    admin = world.admin()
    admin.delete_records({kafka.TopicPartition(world.events, 0): 3})
    admin.close()
    with pytest.raises(InconsistentLog):
        take(world.worker(), world.events, 1)
    with pytest.raises(InconsistentLog, match="starts at 3"):
        world.log.read(world.events, 0, 1, 10)
    assert [record.value for record in world.log.read(world.events, 0, 0, 10)] == [b"4"]


@pytest.mark.kafka
def test_a_group_without_offsets_starts_at_the_first_record_that_is_left(world: World) -> None:
    """Nothing is skipped and nothing is reset: the start is an explicit one."""
    world.feed(b"1", b"2", b"3")
    admin = world.admin()
    admin.delete_records({kafka.TopicPartition(world.events, 0): 1})
    admin.close()
    worker = world.worker()
    assert [record.value for record in take(worker, world.events, 2)] == [b"2", b"3"]
    assert worker.assignment()[1][TopicPartition(world.events, 0)] == OffsetAndMetadata(1, "")


@pytest.mark.kafka
def test_a_state_above_the_brokers_limit_is_fatal(world: World) -> None:
    """It is measured before it is sent, in bytes; the broker would refuse it, and the transaction with it (F16)."""
    worker = world.worker()
    take(worker, world.events, 0)
    with pytest.raises(Fatal, match="4098 bytes"):
        worker.commit([], {TopicPartition(world.events, 0): OffsetAndMetadata(0, "é" * 2049)})


@pytest.mark.kafka
def test_a_record_above_the_topics_limit_is_fatal(world: World) -> None:
    """It would be so at the next attempt too; the text says which limit."""
    worker = world.worker()
    with pytest.raises(Fatal, match=r"max\.message\.bytes"):
        worker.commit([OutputRecord(world.out, 0, None, b"x" * 2_000_000)], {})
    assert world.copied() == []


@pytest.mark.kafka
def test_a_topic_that_is_not_there_is_a_config_error(world: World) -> None:
    """Reading, appending, committing and taking a seat name the topic and the remedy."""
    worker = world.worker()
    calls: list[Callable[[], object]] = [
        lambda: world.log.end("nonsense", 0),
        lambda: world.log.read(world.out, 7, 0, 1),
        lambda: worker.commit([OutputRecord("nonsense", 0, None, b"x")], {}),
        lambda: world.open_worker("g", "nonsense", world.labels),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="streamal topics create"):
            call()


@pytest.mark.kafka
@on_both
def test_labels_have_one_partition(kafka: Cluster, client: Client) -> None:
    """Their owner is the trainer, and there is one."""
    world = World(kafka, partitions=2, client=client)
    with pytest.raises(ConfigError, match="must have 1 partition"):
        world.open_worker("g", world.labels, world.events)
    world.close()


@pytest.mark.kafka
def test_each_difference_of_a_topic_is_named(world: World) -> None:
    """Missing, partitions, retention, size: one line each; what was created by us has none."""
    name = f"{world.name}.made"
    right = TopicSettings(name, 2, {"retention.ms": "-1"}, {"max.message.bytes": 2_000_000})
    assert differences(world.connection, [right]) == [f"topic '{name}' is missing"]
    assert create_topics(world.connection, [right]) == [name]
    assert create_topics(world.connection, [right]) == []
    assert differences(world.connection, [right]) == []
    wrong = TopicSettings(name, 3, {"cleanup.policy": "compact"}, {"max.message.bytes": 3_000_000})
    assert differences(world.connection, [wrong]) == [
        f"topic '{name}' has 2 partitions, not 3",
        f"topic '{name}' has cleanup.policy=delete, not compact",
        f"topic '{name}' has max.message.bytes=2000000, less than 3000000",
    ]


# Errors and settings


@pytest.mark.parametrize("secret", ["sasl_password", "ssl_key_password"])
def test_passwords_come_from_the_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """In a file or on the command line they are refused; from the environment they reach the client only (F52)."""
    login = 'security = { protocol = "SASL_SSL", sasl_mechanism = "PLAIN", sasl_username = "me"'
    variable = f"STREAMAL_TRANSPORT__SECURITY__{secret.upper()}"
    monkeypatch.setenv("STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD", "other")
    file = tmp_path / "config.toml"
    file.write_text(f'[transport]\n{login}, {secret} = "hunter2" }}\n')
    with pytest.raises(ConfigError, match=variable) as raised:
        load_config(file)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="environment only"):
        load_config(None, [f"transport.security.{secret}=hunter2"])
    file.write_text(f"[transport]\n{login} }}\n")
    monkeypatch.setenv(variable, "hunter2")
    config = load_config(file)
    connection = python_connection(config)
    assert connection.security["security_protocol"] == "SASL_SSL"
    assert connection.security["ssl_password" if "key" in secret else "sasl_plain_password"] == "hunter2"
    assert "hunter2" not in f"{config!r} {connection!r} {config.model_dump_json()}"
    monkeypatch.delenv("STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD")
    with pytest.raises(ConfigError, match="password in the environment"):
        load_config(file)


@pytest.mark.parametrize(
    "setting",
    [
        "bootstrap_servers=kafka",
        "instance='a b'",
        "session_timeout_s=0.1",
        "security={protocol='SASL_SSL'}",
        "kind=nats",
    ],
)
def test_wrong_settings_of_the_transport_are_refused(setting: str) -> None:
    """The text names the key."""
    with pytest.raises(ConfigError, match=f"transport.{setting.partition('=')[0]}"):
        load_config(None, [f"transport.{setting}"])


def test_the_public_names_are_those_of_the_package() -> None:
    """Whoever joins the parts needs these."""
    assert sorted(edge.__all__) == edge.__all__
    assert all(hasattr(edge, name) for name in edge.__all__)


@pytest.mark.kafka
def test_a_worker_does_not_start_on_topics_that_cannot_keep_the_promises(kafka: Cluster) -> None:
    """What is missing or different is named, with the command that makes it right."""
    nowhere = f"nowhere.{os.getpid()}.{next(NUMBERS)}"
    names = {role: f"{nowhere}.{role}" for role in ("events", "labels", "predictions", "requests")}
    config = Config(transport=TransportConfig(kind="kafka", bootstrap_servers=kafka.bootstrap))
    config = config.model_copy(update={"topics": config.topics.model_copy(update=names)})
    with pytest.raises(ConfigError, match=rf"topic '{names['events']}' is missing.*streamal topics create") as raised:
        transports.open_transport(config)
    assert raised.value.exit_code == 2
