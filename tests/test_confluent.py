"""The second Kafka client where it is not as the first: getting it, its settings, its errors, when it pays."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamal import INSTALL
from streamal.bootstrap import transports
from streamal.bootstrap.transports.kafka import librdkafka_connection
from streamal.cli import check
from streamal.config import Config, load_config
from streamal.core.records import TopicPartition
from streamal.edge.kafka.librdkafka import Connection
from streamal.edge.kafka.librdkafka.connection import translate_errors
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted
from tests.kafka_broker import Cluster
from tests.kafka_world import World, copy_all

KAFKA = ["transport.kind=kafka", "transport.bootstrap_servers=127.0.0.1:1"]
CONFLUENT = [*KAFKA, "transport.client=confluent"]


def test_without_the_extra_the_text_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened: a ConfigError with the command, from the log as from the check of the topics."""
    monkeypatch.setattr("streamal.bootstrap.transports.kafka.find_spec", lambda name: None)
    for opened in (transports.open_log, transports.require_topics, transports.open_transport):
        with pytest.raises(ConfigError, match=re.escape(INSTALL.format(extra="confluent"))):
            opened(load_config(None, CONFLUENT))


def test_the_security_is_said_in_the_words_of_librdkafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has its name there; what is not set is not passed on, and the password is in no text (F52)."""
    monkeypatch.setenv("STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD", "hunter2")
    login = "protocol='SASL_SSL', sasl_mechanism='PLAIN', sasl_username='me', ssl_cafile='ca.pem'"
    config = load_config(None, [*CONFLUENT, f"transport.security={{ {login}, ssl_check_hostname=false }}"])
    connection = librdkafka_connection(config)
    assert connection.security == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "ssl.ca.location": "ca.pem",
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert "hunter2" not in repr(connection)


def test_a_setting_that_the_client_refuses_is_a_config_error() -> None:
    """A certificate that is not there is found before anything is opened."""
    security = {"security.protocol": "SSL", "ssl.ca.location": "/nowhere/ca.pem"}
    with pytest.raises(ConfigError, match=r"check \[transport\]"):
        Connection("127.0.0.1:1", security).admin()


def test_an_absent_cluster_is_waited_for_and_then_given_up() -> None:
    """Nobody listens: Fatal, after the time-out, with the address."""
    with pytest.raises(Fatal, match=r"no Kafka at 127\.0\.0\.1:1 within 1 s") as raised:
        Connection("127.0.0.1:1", timeout_s=1.0).admin()
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        (KafkaError.FENCED_INSTANCE_ID, Fenced),
        (KafkaError._FENCED, Fenced),
        (KafkaError._FATAL, Fenced),
        (KafkaError.INVALID_PRODUCER_EPOCH, Fenced),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigError),
        (KafkaError._AUTHENTICATION, ConfigError),
        (KafkaError._AUTO_OFFSET_RESET, InconsistentLog),
        (KafkaError.MSG_SIZE_TOO_LARGE, Fatal),
        (KafkaError.ILLEGAL_GENERATION, Uncommitted),
        (KafkaError._TIMED_OUT, Uncommitted),
    ],
)
def test_each_error_of_the_client_has_a_meaning(code: int, ours: type[StreamalError]) -> None:
    """By its code, also where a SystemError has grown around it (R8)."""
    inner = KafkaException(KafkaError(code))
    for outer in (inner, SystemError("a result with an exception set")):
        with pytest.raises(StreamalError) as raised, translate_errors("do it"):
            raise outer from (None if outer is inner else inner)
        assert type(raised.value) is ours
        assert str(raised.value).startswith("cannot do it: ")


@pytest.mark.kafka
@pytest.mark.slow
def test_who_asks_for_a_groups_offsets_survives_an_outage(fragile: Cluster) -> None:
    """Through half a minute without a broker there is an error, and then the answer; the process lives on (R13)."""
    world = World(fragile, client="confluent")
    node, asked = fragile.nodes[0], TopicPartition(world.events, 0)
    try:
        world.feed(b"1", b"2")
        copy_all(world, world.worker())
        assert world.log.committed(world.name)[asked].offset == 2
        node.kill()
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(answered, world, asked)
            time.sleep(25.0)
            assert not told.done()
            node.start()
            assert told.result() == 2
    finally:
        fragile.wait()
        world.close()


def answered(world: World, asked: TopicPartition) -> int:
    """Return the offset that is committed, once there is an answer."""
    deadline = time.monotonic() + 120.0
    while True:
        try:
            return world.log.committed(world.name)[asked].offset
        except Uncommitted:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("settings", "predict_us", "advised"),
    [(KAFKA, 150.0, True), (KAFKA, 250.0, False), (CONFLUENT, 50.0, False), ([], 50.0, False)],
)
def test_a_light_model_is_advised_to_take_the_cheaper_client(
    settings: list[str], predict_us: float, advised: bool
) -> None:
    """Only on Kafka, with the dear client, and where the model per event is below 200 µs."""
    config: Config = load_config(None, settings)
    assert ("advice" in check._advice(config, predict_us, 100.0)) == advised
