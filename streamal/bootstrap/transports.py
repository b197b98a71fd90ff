"""Choosing and joining the parts: which edge serves which port."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from streamal.bootstrap.rules import topic_names, topic_partitions
from streamal.config import Config, ServerConfig
from streamal.edge.snapshots import DirectorySnapshots
from streamal.edge.sqlite import SqliteLog, SqliteTransport, Synchronous
from streamal.errors import ConfigError
from streamal.ports import Clock, Log, Snapshots, Transport

if TYPE_CHECKING:
    from streamal.edge.kafka import librdkafka as confluent
    from streamal.edge.kafka import python as kafka

__all__ = [
    "AdminPort",
    "WallClock",
    "admin_port",
    "create_topics",
    "make_topics",
    "open_log",
    "open_transport",
    "require_topics",
    "snapshots",
    "topic_problems",
    "where",
    "worker_name",
]

_OVERHEAD_BYTES = 65_536
"""What a request or an example carries beside the features, generously."""


class AdminPort(NamedTuple):
    """How a daemon's admin port is asked from its own machine; see `streamal.edge.scrape.ask`."""

    url: str
    token: str | None
    certificate: str | None


class WallClock(Clock):
    """The time of day."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


def admin_port(server: ServerConfig) -> AdminPort | None:
    """Return the way to the port of *server*, without a path; None if it is off, or any free one."""
    if not server.enabled or not server.port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(server.host, server.host)  # noqa: S104
    url = f"http{'s' * (server.tls_certfile is not None)}://{host}:{server.port}"
    certificate = None if server.tls_certfile is None else str(server.tls_certfile)
    return AdminPort(url, _revealed(server.token), certificate)


def where(config: Config) -> str:
    """Return where the topics are, for people."""
    transport = config.transport
    return f"Kafka at {transport.bootstrap_servers}" if transport.kind == "kafka" else str(transport.path)


def create_topics(config: Config) -> None:
    """Make the database and its topics, if they are not there; a cluster's topics are made on purpose only."""
    if config.transport.kind == "sqlite":
        make_topics(config)


def make_topics(config: Config, replicas: int | None = None) -> Sequence[str]:
    """Make the topics that are not there and return their names; *replicas* is for a cluster."""
    if config.transport.kind == "kafka":
        from streamal.edge.kafka import python as kafka  # noqa: PLC0415  (a third of a second that SQLite users need not wait)

        return kafka.create_topics(_connection(config), _topic_settings(config), replicas)
    log = SqliteLog(config.transport.path, create=True)
    try:
        wanted = topic_partitions(config)
        missing = [topic for topic in wanted if log.partitions(topic) == 0]
        for topic, partitions in wanted.items():
            log.create(topic, partitions)
        return missing
    finally:
        log.close()


def topic_problems(config: Config) -> Sequence[str]:
    """Return one line for each way in which a cluster's topics are not what the promises need."""
    from streamal.edge.kafka import python as kafka  # noqa: PLC0415

    return kafka.differences(_connection(config), _topic_settings(config))


def open_log(config: Config, synchronous: Synchronous = "FULL") -> Log:
    """Return the topics, without a seat in the group; *synchronous* says when an append reaches SQLite's disk.

    Raises:
        ConfigError: there is no such database.
    """
    if config.transport.kind == "kafka":
        return _cluster(config)[0]()
    if not config.transport.path.exists():
        raise ConfigError(f"transport.path: there is no database {config.transport.path}; `streamal run` makes it")
    return SqliteLog(config.transport.path, synchronous=synchronous)


def open_transport(config: Config, synchronous: Synchronous = "FULL") -> Transport:
    """Return a worker's seat; SQLite's topics are made where needed, a cluster's have to be right.

    *synchronous* says when a commit reaches SQLite's disk.
    """
    transport, topics = config.transport, config.topics
    name = worker_name(config)
    if transport.kind == "kafka":
        return _cluster_seat(config, name)
    create_topics(config)
    return SqliteTransport(
        transport.path,
        transport.group,
        name,
        topics.events,
        topics.labels,
        predictions_topic=topics.predictions,
        synchronous=synchronous,
    )


def _cluster_seat(config: Config, name: str) -> Transport:
    """Return a worker's seat in a cluster, over the configured client."""
    transport, topics = config.transport, config.topics
    require_topics(config)
    return _cluster(config)[1](
        transport.group,
        topics.events,
        topics.labels,
        instance=transport.instance,
        name=name,
        session_timeout_s=transport.session_timeout_s,
        predictions_topic=topics.predictions,
    )


def worker_name(config: Config) -> str:
    """Return what tells this process apart, in the logs and to the others: its instance, or host and process."""
    return config.transport.instance or f"{socket.gethostname()}-{os.getpid()}"


def require_topics(config: Config) -> None:
    """Raise a ConfigError that names each way in which a cluster's topics, or our client, are not what is needed."""
    _require_client(config)
    problems = topic_problems(config)
    if problems:
        raise ConfigError(
            f"{where(config)}: {'; '.join(problems)}. `streamal topics create` makes those that are missing; "
            "change settings with `kafka-configs.sh --alter`, or set transport.partitions to what is there"
        )


def snapshots(config: Config) -> Snapshots | None:
    """Return the snapshot cache, or none where it is switched off."""
    directory, key = config.snapshots.directory, _revealed(config.snapshots.key)
    return None if directory is None else DirectorySnapshots(directory, key=None if key is None else key.encode())


def _connection(config: Config) -> kafka.Connection:
    """Return the way to the cluster, its security in the client's words."""
    from streamal.edge.kafka.python import Connection  # noqa: PLC0415

    security = config.transport.security
    settings = {
        "security_protocol": security.protocol,
        "sasl_mechanism": security.sasl_mechanism,
        "sasl_plain_username": security.sasl_username,
        "sasl_plain_password": _revealed(security.sasl_password),
        "ssl_cafile": security.ssl_cafile and str(security.ssl_cafile),
        "ssl_certfile": security.ssl_certfile and str(security.ssl_certfile),
        "ssl_keyfile": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl_password": _revealed(security.ssl_key_password),
        "ssl_check_hostname": security.ssl_check_hostname,
    }
    return Connection(config.transport.bootstrap_servers, settings, config.transport.connect_timeout_s)


def _cluster(config: Config) -> tuple[Callable[[], Log], Callable[..., Transport]]:
    """Return what opens a log, and what takes a seat, with the client that is configured."""
    _require_client(config)
    if config.transport.client == "confluent":
        from streamal.edge.kafka import librdkafka as confluent  # noqa: PLC0415

        librdkafka = _confluent_connection(config)
        return partial(confluent.ConfluentLog, librdkafka), partial(confluent.ConfluentTransport, librdkafka)
    from streamal.edge.kafka import python as kafka  # noqa: PLC0415

    connection = _connection(config)
    return partial(kafka.KafkaLog, connection), partial(kafka.KafkaTransport, connection)


def _require_client(config: Config) -> None:
    """Raise a ConfigError that says how to get the extra of the client, if it is not there."""
    if config.transport.client == "confluent" and find_spec("confluent_kafka") is None:
        raise ConfigError(
            "transport.client: confluent-kafka is not installed; run `pip install 'streamal[confluent]'`, "
            "or set transport.client to kafka-python"
        )


def _confluent_connection(config: Config) -> confluent.Connection:
    """Return the way to the cluster, its security in librdkafka's words."""
    from streamal.edge.kafka.librdkafka import Connection  # noqa: PLC0415

    transport, security = config.transport, config.transport.security
    settings = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.sasl_mechanism,
        "sasl.username": security.sasl_username,
        "sasl.password": _revealed(security.sasl_password),
        "ssl.ca.location": security.ssl_cafile and str(security.ssl_cafile),
        "ssl.certificate.location": security.ssl_certfile and str(security.ssl_certfile),
        "ssl.key.location": security.ssl_keyfile and str(security.ssl_keyfile),
        "ssl.key.password": _revealed(security.ssl_key_password),
        "ssl.endpoint.identification.algorithm": "https" if security.ssl_check_hostname else "none",
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return Connection(transport.bootstrap_servers, given, transport.connect_timeout_s, transport.group)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _topic_settings(config: Config) -> list[kafka.TopicSettings]:
    """Return what a cluster's topics have to be: the training log is kept for ever, the requests are compacted."""
    from streamal.edge.kafka.python import TopicSettings  # noqa: PLC0415

    topics = topic_names(config)
    exactly = {
        topics.training: {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        topics.requests: {"cleanup.policy": "compact"},
    }
    # features come back in requests and examples, a number perhaps longer than it was written: 1 is 1.0 there
    bytes_max = 2 * config.limits.record_bytes + _OVERHEAD_BYTES
    inputs = {topics.events, topics.labels}
    return [
        TopicSettings(
            topic, partitions, exactly.get(topic, {}), {} if topic in inputs else {"max.message.bytes": bytes_max}
        )
        for topic, partitions in topic_partitions(config).items()
    ]
