"""Clients of librdkafka that are connected, and a table that says what the library's errors mean."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streamal.edge.kafka.base import ANSWER_S, Cluster
from streamal.edge.retries import retry
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted

__all__ = ["Connection", "describe_unreadable", "retry_passing", "translate_errors"]

_T = TypeVar("_T")

_CONNECT_S = 1.0  # for one attempt to reach the cluster; the client itself tries more often
_ANOTHER = "another worker has come with our transport.instance: end"
_NEWER = "a newer worker has our transactional id, or we were paused too long: end"
_DELETED = "the records at this offset were deleted (raise the topic's retention), or the topic was made anew"
_PERMISSION = "no permission; grant it (transport.security says who we are)"
_LOGIN = "check transport.security: user, password, mechanism, certificates"
_TOO_LARGE = "raise max.message.bytes of the topic, or lower limits.record_bytes"

_ERRORS: Mapping[int, tuple[type[StreamalError], str]] = {
    KafkaError.FENCED_INSTANCE_ID: (Fenced, _ANOTHER),
    KafkaError._FATAL: (Fenced, _ANOTHER),  # noqa: SLF001
    KafkaError._FENCED: (Fenced, _NEWER),  # noqa: SLF001  (so the client's own error codes are named)
    KafkaError.PRODUCER_FENCED: (Fenced, _NEWER),
    KafkaError.INVALID_PRODUCER_EPOCH: (Fenced, _NEWER),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (ConfigError, _PERMISSION),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (ConfigError, _PERMISSION),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (ConfigError, _PERMISSION),
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (ConfigError, _PERMISSION),
    KafkaError._AUTHENTICATION: (ConfigError, _LOGIN),  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED: (ConfigError, _LOGIN),
    KafkaError._SSL: (ConfigError, _LOGIN),  # noqa: SLF001
    KafkaError.UNSUPPORTED_SASL_MECHANISM: (ConfigError, "check transport.security.sasl_mechanism"),
    KafkaError.INVALID_SESSION_TIMEOUT: (ConfigError, "set transport.session_timeout_s within the broker's limits"),
    KafkaError.INVALID_TRANSACTION_TIMEOUT: (ConfigError, "raise the broker's transaction.max.timeout.ms"),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (ConfigError, "the group's other members are no workers of this version"),
    KafkaError.UNSUPPORTED_VERSION: (ConfigError, "the broker is too old: transactions need Kafka 2.5 or newer"),
    KafkaError._UNSUPPORTED_FEATURE: (ConfigError, "the broker is too old: Kafka 2.5 or newer"),  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE: (InconsistentLog, _DELETED),
    KafkaError._AUTO_OFFSET_RESET: (InconsistentLog, _DELETED),  # noqa: SLF001
    KafkaError._LOG_TRUNCATION: (InconsistentLog, "the cluster has lost acknowledged records; see its logs"),  # noqa: SLF001
    KafkaError.OFFSET_METADATA_TOO_LARGE: (Fatal, "the state is above the broker's offset.metadata.max.bytes"),
    KafkaError.MSG_SIZE_TOO_LARGE: (Fatal, _TOO_LARGE),
    KafkaError.RECORD_LIST_TOO_LARGE: (Fatal, _TOO_LARGE),
}
"""An error that is not in here may pass: Uncommitted."""

_UNREADABLE = frozenset(
    {
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001
        KafkaError.INVALID_MSG,
    }
)
"""A batch whose checksum, codec or form is wrong; the client reports it once and goes on behind it."""

_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._WAIT_CACHE,  # noqa: SLF001
    }
)

_LOGGER = logging.getLogger("confluent_kafka")
_LOGGER.addHandler(logging.NullHandler())  # or librdkafka's warnings land, unformatted, on standard error


@dataclass(frozen=True)
class Connection(Cluster):
    """The way to a cluster; security in librdkafka's words (``security.protocol``, ``sasl.*``, ``ssl.*``).

    Attributes:
        group: the group that readers name, for the client insists on one; they never join it nor commit in it.
    """

    group: str = "streamal"

    def admin(self) -> AdminClient:
        """Return a client for topics and groups, once the cluster answers; Fatal if it does not in time."""
        seen: deque[KafkaError] = deque(maxlen=20)
        admin = self._create(AdminClient, {"error_cb": seen.append})
        deadline = time.monotonic() + self.timeout_s
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                with translate_errors("reach the cluster"):
                    admin.describe_cluster(request_timeout=min(_CONNECT_S, left_s)).result(ANSWER_S)
            except Uncommitted as error:
                admin.poll(0)  # calls error_cb
                self._require_login(seen)
                if time.monotonic() > deadline:
                    last = seen[-1].str() if seen else str(error)
                    raise Fatal(
                        f"no Kafka at {self.bootstrap_servers} within {self.timeout_s:g} s ({last}); "
                        "check transport.bootstrap_servers and transport.security"
                    ) from error
            else:
                return admin

    def consumer(self, settings: Mapping[str, Any]) -> Consumer:
        """Return a consumer of committed records, without auto-commit and without any reset of offsets.

        Either would skip records in silence (F1, a crash after a poll; F14, deleted records).
        """
        return self._create(
            Consumer,
            {
                "group.id": self.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "check.crcs": True,
                "queued.max.messages.kbytes": 16_384,  # a partition; 64 MiB by default
                "fetch.queue.backoff.ms": 5,  # R4, a fetch whose queue was full is put off by a second
                "fetch.error.backoff.ms": 50,
                **settings,
            },
        )

    def producer(self, settings: Mapping[str, Any]) -> Producer:
        """Return a producer that waits for all replicas; the size of a record is the topic's affair."""
        return self._create(
            Producer,
            {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "batch.size": 131_072,
                "message.max.bytes": 64 * 1024 * 1024,
                "delivery.timeout.ms": int(ANSWER_S * 1e3),
                **settings,
            },
        )

    def _create(self, make: Callable[..., _T], settings: Mapping[str, Any]) -> _T:
        common = {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "streamal",
            "socket.timeout.ms": int(ANSWER_S * 1e3),
            "socket.connection.setup.timeout.ms": int(ANSWER_S * 1e3),
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 1_000,  # 10 s by default: a broker that is back would go unnoticed for long
            "retry.backoff.ms": 10,  # R3, the wait after CONCURRENT_TRANSACTIONS: 100 ms by default
        }
        try:
            return make({**common, **self.security, **settings}, logger=_LOGGER)
        except KafkaException as error:
            raise ConfigError(
                f"cannot connect to {self.bootstrap_servers}: {_describe(error)}; check [transport]"
            ) from error

    def _require_login(self, seen: deque[KafkaError]) -> None:
        """Raise a ConfigError if the cluster has refused us: the client would go on trying."""
        refused = (KafkaError._AUTHENTICATION, KafkaError.UNSUPPORTED_SASL_MECHANISM)  # noqa: SLF001
        for error in seen:
            if error.code() in refused:
                raise ConfigError(f"cannot connect to {self.bootstrap_servers}: {error.str()}; {_LOGIN}")


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Turn librdkafka's errors into ours, by `_ERRORS`; *doing* names what fails."""
    try:
        yield
    except (KafkaException, OSError, SystemError) as error:
        family = _causes(error)
        if isinstance(error, SystemError) and not any(isinstance(one, KafkaException) for one in family):
            raise
        for one in family:  # R6, the reason surfaces behind another error; R8, a SystemError may hide it
            if isinstance(one, KafkaException) and (meaning := _ERRORS.get(one.args[0].code())):
                ours, text = meaning
                raise ours(f"cannot {doing}: {_describe(one)}: {text}") from error
        raise Uncommitted(
            f"cannot {doing}: {_describe(error)}: the cluster is in trouble, or far away; trying again"
        ) from error


def describe_unreadable(error: KafkaError) -> str | None:
    """Return what is wrong with a batch that cannot be read; None if *error* is about something else."""
    if error.code() not in _UNREADABLE:
        return None
    text = " ".join(error.str().split())
    return f"its checksum is wrong: it is damaged on the brokers ({text})" if "CRC" in text else f"damaged ({text})"


def retry_passing(action: Callable[[], _T]) -> _T:
    """Return ``action()``, repeated where the client itself does not (a coordinator that is just being found)."""

    def is_passing(error: Exception) -> bool:
        return isinstance(error, KafkaException) and error.args[0].code() in _PASSING

    return retry(action, is_passing, timeout_s=ANSWER_S, wait_s=0.02)


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return *error* and what it came from, nearest first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _describe(error: BaseException) -> str:
    """Return one line: the name of the error's code and its text."""
    if isinstance(error, KafkaException):
        return f"[{error.args[0].name()}] {' '.join(error.args[0].str().split())}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
