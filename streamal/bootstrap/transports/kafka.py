"""Topics in a Kafka cluster, for any number of workers, over one of two clients.

A client is imported when it is used: that takes a third of a second, for which users of SQLite need not wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING

from streamal import INSTALL
from streamal.bootstrap.rules import topic_names, topic_partitions
from streamal.bootstrap.transports.kind import TransportKind
from streamal.config import Config, reveal
from streamal.core.records import TopicPartition
from streamal.edge.kafka.base_transport import WorkerOptions
from streamal.edge.sqlite import Synchronous
from streamal.errors import ConfigError, Unreadable
from streamal.ports import Log, Transport, scan

if TYPE_CHECKING:
    from streamal.edge.kafka import librdkafka, python

__all__ = ["KAFKA", "librdkafka_connection", "python_connection"]

_DAY_MS = 86_400_000
_OVERHEAD_BYTES = 65_536
"""What a request or an example carries beside the features, generously."""

_AHEAD = 10_000
"""More records of a partition than librdkafka fetches ahead."""

_BATCH_RECORDS = 32
"""So many records of the largest size may a compressed batch hold. Producers bound a batch by its compressed size, a
megabyte at most: with the limits as they are, JSON may shrink to a thirtieth."""


def _describe(config: Config) -> str:
    return f"Kafka at {config.transport.bootstrap_servers}"


def _open_log(config: Config, synchronous: Synchronous) -> Log:  # noqa: ARG001  (the brokers' disks are not ours)
    _require_client(config)
    if config.transport.client == "confluent":
        from streamal.edge.kafka.librdkafka import ConfluentLog  # noqa: PLC0415

        return ConfluentLog(librdkafka_connection(config))
    from streamal.edge.kafka.python import KafkaLog  # noqa: PLC0415

    return KafkaLog(python_connection(config))


def _open_transport(config: Config, name: str, synchronous: Synchronous) -> Transport:  # noqa: ARG001  (likewise)
    _require_client(config)
    transport, topics = config.transport, config.topics
    options = WorkerOptions(
        transport.group,
        topics.events,
        topics.labels,
        instance=transport.instance,
        name=name,
        session_timeout_s=transport.session_timeout_s,
        predictions_topic=topics.predictions,
    )
    if transport.client == "confluent":
        from streamal.edge.kafka.librdkafka import ConfluentTransport  # noqa: PLC0415

        return ConfluentTransport(librdkafka_connection(config), options)
    from streamal.edge.kafka.python import KafkaTransport  # noqa: PLC0415

    return KafkaTransport(python_connection(config), options)


def _create_topics(config: Config, replicas: int | None) -> Sequence[str]:
    from streamal.edge.kafka.python import create_topics  # noqa: PLC0415

    return create_topics(python_connection(config), _topic_settings(config), replicas)


def _group_members(config: Config) -> Sequence[str]:
    from streamal.edge.kafka.python import group_members  # noqa: PLC0415

    return group_members(python_connection(config), config.transport.group)


def _look_ahead(config: Config) -> None:
    """Read what the group comes to next with kafka-python, which inflates within a bound, if the client has none."""
    if config.transport.client != "confluent":
        return
    from streamal.edge.kafka.base_transport import skip_advice  # noqa: PLC0415
    from streamal.edge.kafka.python import KafkaLog  # noqa: PLC0415

    log, topics = KafkaLog(python_connection(config)), config.topics
    try:
        committed = log.committed(config.transport.group)
        for topic, partitions in ((topics.events, config.transport.partitions), (topics.labels, 1)):
            for partition in range(partitions):
                state = committed.get(TopicPartition(topic, partition))
                deque(islice(scan(log, topic, partition, state.offset if state else 0), _AHEAD), maxlen=0)
    except Unreadable as error:
        advice = (
            'start the workers with transport.client = "kafka-python": they consume what comes before it. Then '
            f"{skip_advice(error.topic, error.partition, error.offset)}"
        )
        raise Unreadable(error.topic, error.partition, error.offset, error.why, advice) from error
    finally:
        log.close()


def _problems(config: Config) -> Sequence[str]:
    _require_client(config)
    from streamal.edge.kafka.python import differences  # noqa: PLC0415

    return differences(python_connection(config), _topic_settings(config))


def _describe_topics(config: Config) -> Mapping[str, str]:
    from streamal.edge.kafka.python import describe_topics  # noqa: PLC0415

    return describe_topics(python_connection(config), list(topic_partitions(config)))


KAFKA = TransportKind(
    describe=_describe,
    open_log=_open_log,
    open_transport=_open_transport,
    create_topics=_create_topics,
    group_members=_group_members,
    look_ahead=_look_ahead,
    problems=_problems,
    describe_topics=_describe_topics,
    advice=(
        "`streamal topics create` makes those that are missing; change settings with `kafka-configs.sh --alter`, "
        "or set transport.partitions to what is there"
    ),
    run_creates_topics=False,
    many_workers=True,
)


def _require_client(config: Config) -> None:
    """Raise a ConfigError that says how to install the configured client, if it is not there."""
    if config.transport.client == "confluent" and find_spec("confluent_kafka") is None:
        raise ConfigError(
            f"transport.client: confluent-kafka is not installed; run `{INSTALL.format(extra='confluent')}`, "
            "or set transport.client to kafka-python"
        )


def python_connection(config: Config) -> python.Connection:
    """Return the address of the cluster and the login, in the words of kafka-python."""
    from streamal.edge.kafka.python import Connection  # noqa: PLC0415

    security = config.transport.security
    settings = {
        "security_protocol": security.protocol,
        "sasl_mechanism": security.sasl_mechanism,
        "sasl_plain_username": security.sasl_username,
        "sasl_plain_password": reveal(security.sasl_password),
        "ssl_cafile": security.ssl_cafile and str(security.ssl_cafile),
        "ssl_certfile": security.ssl_certfile and str(security.ssl_certfile),
        "ssl_keyfile": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl_password": reveal(security.ssl_key_password),
        "ssl_check_hostname": security.ssl_check_hostname,
    }
    inflated_bytes_max = _BATCH_RECORDS * config.limits.record_bytes
    return Connection(
        config.transport.bootstrap_servers, settings, config.transport.connect_timeout_s, inflated_bytes_max
    )


def librdkafka_connection(config: Config) -> librdkafka.Connection:
    """Return the address of the cluster and the login, in the words of librdkafka."""
    from streamal.edge.kafka.librdkafka import Connection  # noqa: PLC0415

    transport, security = config.transport, config.transport.security
    settings = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.sasl_mechanism,
        "sasl.username": security.sasl_username,
        "sasl.password": reveal(security.sasl_password),
        "ssl.ca.location": security.ssl_cafile and str(security.ssl_cafile),
        "ssl.certificate.location": security.ssl_certfile and str(security.ssl_certfile),
        "ssl.key.location": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl.key.password": reveal(security.ssl_key_password),
        "ssl.endpoint.identification.algorithm": "https" if security.ssl_check_hostname else "none",
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return Connection(transport.bootstrap_servers, given, transport.connect_timeout_s, group=transport.group)


def _topic_settings(config: Config) -> list[python.TopicSettings]:
    """Return what a cluster's topics have to be: the training log is kept for ever, the requests are compacted.

    The inputs are not compacted: that would take events and replies before they are consumed. How long the others are
    kept is a choice, which a new topic makes.
    """
    from streamal.edge.kafka.python import TopicSettings  # noqa: PLC0415

    topics = topic_names(config)
    exactly = {
        topics.training: {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        topics.requests: {"cleanup.policy": "compact"},
        topics.events: {"cleanup.policy": "delete"},
        topics.labels: {"cleanup.policy": "delete"},
    }
    days = {topics.events: 7, topics.predictions: 7, topics.labels: 30, topics.dead_letters: 30}
    at_first = {
        topic: {"cleanup.policy": "delete", "retention.ms": str(kept * _DAY_MS), "retention.bytes": "-1"}
        for topic, kept in days.items()
    }
    # features come back in requests and examples, a number perhaps longer than it was written: 1 is 1.0 there
    bytes_max = 2 * config.limits.record_bytes + _OVERHEAD_BYTES
    inputs = {topics.events, topics.labels}
    return [
        TopicSettings(
            topic,
            partitions,
            exactly.get(topic, {}),
            {} if topic in inputs else {"max.message.bytes": bytes_max},
            {"compression.type": "producer", **at_first.get(topic, {})},
        )
        for topic, partitions in topic_partitions(config).items()
    ]
