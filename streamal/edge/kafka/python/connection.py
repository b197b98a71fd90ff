"""Where the cluster is and how to get in; what its errors mean."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
from kafka import __version__ as client_version

from streamal.core.records import OffsetAndMetadata
from streamal.edge.kafka.python.tls import overheard, tls_context
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted

__all__ = ["Connection", "abandon", "mapped", "offset_of", "patched", "retried", "state_of", "unstick"]

_T = TypeVar("_T")
_REQUEST_MS = 10_000  # for one answer of a broker
_CONNECT_S = (1.0, 8.0)  # for one attempt to reach the cluster: at first, at most
_TRANSACTED_S = 15.0  # for one answer of a transaction's coordinator
_ABANDON_S = 1.0  # for a producer's thread to notice that it is not wanted any more
_BACKOFF_S = (0.2, 2.0)  # between attempts: at first, at most

_ERRORS: tuple[tuple[type[Exception], type[StreamalError], str], ...] = (
    (errors.FencedInstanceIdError, Fenced, "another worker has come with our transport.instance: end"),
    (errors.ProducerFencedError, Fenced, "a newer worker has our transactional id, or we were paused too long: end"),
    (errors.InvalidProducerEpochError, Fenced, "a newer worker has our transactional id, or we were paused: end"),
    (errors.AuthorizationError, ConfigError, "no permission; grant it (transport.security says who we are)"),
    (errors.SaslAuthenticationFailedError, ConfigError, "check transport.security: user, password, mechanism"),
    (errors.UnsupportedSaslMechanismError, ConfigError, "check transport.security.sasl_mechanism"),
    (errors.KafkaConfigurationError, ConfigError, "check [transport]"),
    (ssl.SSLCertVerificationError, ConfigError, "check transport.security.ssl_cafile, and the name in the certificate"),
    (errors.InvalidSessionTimeoutError, ConfigError, "set transport.session_timeout_s within the broker's limits"),
    (errors.InvalidTransactionTimeoutError, ConfigError, "raise the broker's transaction.max.timeout.ms"),
    (errors.UnsupportedVersionError, ConfigError, "the broker is too old: transactions need Kafka 2.5 or newer"),
    (
        errors.OffsetOutOfRangeError,
        InconsistentLog,
        "records that are needed were deleted: raise the topic's retention",
    ),
    (errors.LogTruncationError, InconsistentLog, "the cluster has lost acknowledged records; see its logs"),
    (errors.NoOffsetForPartitionError, InconsistentLog, "a position is missing; please report it"),
    (errors.OffsetMetadataTooLargeError, Fatal, "the state is above the broker's offset.metadata.max.bytes"),
    (errors.MessageSizeTooLargeError, Fatal, "raise max.message.bytes of the topic, or lower limits.record_bytes"),
    (errors.RecordListTooLargeError, Fatal, "raise max.message.bytes of the topic, or lower limits.record_bytes"),
    (errors.KafkaError, Uncommitted, "the cluster is in trouble, or far away; trying again"),
    (OSError, Uncommitted, "the network is in trouble; trying again"),
)
"""The first line that fits the error itself, its cause or its arguments, decides."""

_HOPELESS = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.KafkaConfigurationError,
    ssl.SSLCertVerificationError,
)
"""At the start there is no use in trying again."""

logging.getLogger("kafka").addHandler(logging.NullHandler())  # or its warnings land, unformatted, on standard error


@dataclass(frozen=True)
class Connection:
    """The way to a cluster.

    Attributes:
        bootstrap_servers: ``host:port``, several with commas.
        security: settings in kafka-python's words (``security_protocol``, ``sasl_*``, ``ssl_*``); None is the default.
        timeout_s: how long to keep trying to reach the cluster for the first time.
    """

    bootstrap_servers: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout_s: float = 60.0

    def admin(self) -> KafkaAdminClient:
        """Return a client for topics and groups, once the cluster answers.

        Raises:
            ConfigError: it lets nobody in with these credentials, or is not the one that the certificate is for.
            Fatal: it does not answer in time.
        """
        settings = self._settings()
        deadline, pause_s, attempt_s = time.monotonic() + self.timeout_s, _BACKOFF_S[0], _CONNECT_S[0]
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            with overheard() as failures:
                try:
                    return KafkaAdminClient(**settings, bootstrap_timeout_ms=int(min(attempt_s, left_s) * 1e3))
                except ValueError as error:
                    raise ConfigError(f"cannot connect to {self.bootstrap_servers}: {error}") from error
                except (errors.KafkaError, OSError) as error:
                    failures.insert(0, error)
            failure = failures[-1]
            with mapped(f"connect to {self.bootstrap_servers}"):
                for each in failures:
                    if any(isinstance(one, _HOPELESS) for one in _family(each)):
                        raise each
            if time.monotonic() + pause_s > deadline:
                raise Fatal(
                    f"no Kafka at {self.bootstrap_servers} within {self.timeout_s:g} s ({_told(failure)}); "
                    "check transport.bootstrap_servers and transport.security"
                ) from failure
            time.sleep(pause_s)
            pause_s, attempt_s = min(2 * pause_s, _BACKOFF_S[1]), min(2 * attempt_s, _CONNECT_S[1])

    def consumer(self, **settings: Any) -> KafkaConsumer:
        """Return a consumer of committed records, without auto-commit and without any reset of offsets (F1, F14)."""
        return KafkaConsumer(
            **self._settings(),
            **settings,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def producer(self, **settings: Any) -> KafkaProducer:
        """Return a producer that waits for all replicas; the size of a record is the topic's affair."""
        return patched(
            KafkaProducer(
                **self._settings(),
                **settings,
                acks="all",
                batch_size=131_072,
                max_request_size=64 * 1024 * 1024,
                retry_backoff_ms=20,  # K3
                delivery_timeout_ms=_REQUEST_MS + 1_000,
                max_block_ms=_REQUEST_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "client_id": "streamal",
            "request_timeout_ms": _REQUEST_MS,
            "reconnect_backoff_max_ms": 1_000,  # 30 s by default: a broker that is back would go unnoticed for long
            **{name: value for name, value in self.security.items() if not name.startswith("ssl_")},
            "ssl_context": tls_context(self.security),
        }


@contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Turn the client's errors into ours, by `_ERRORS`; the text says what was being done."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        family = _family(error)
        for theirs, ours, text in _ERRORS:
            met = next((one for one in family if isinstance(one, theirs)), None)
            if met is not None:
                raise ours(f"cannot {doing}: {_told(met)}: {text}") from error
        raise AssertionError("unreachable: the table ends with what is caught") from error


def retried(action: Callable[[], _T], timeout_s: float = _REQUEST_MS / 1e3) -> _T:
    """Return ``action()``, tried again where the client itself does not (a coordinator that is just being found)."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except errors.RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def abandon(producer: KafkaProducer) -> None:
    """Let a producer go, whatever it is waiting for."""
    producer._sender.force_close()  # noqa: SLF001  (K12)
    producer._sender.join(_ABANDON_S)  # noqa: SLF001
    with suppress(errors.KafkaError, OSError):
        producer.close(timeout=0)
    producer._closed = True  # noqa: SLF001  (or it would be closed again, and fail again, when it is collected)


def offset_of(state: OffsetAndMetadata) -> kafka.OffsetAndMetadata:
    """Return *state* as the client commits it; a NUL ends its metadata, as librdkafka reads them (R11)."""
    return kafka.OffsetAndMetadata(state.offset, f"{state.metadata}\0" if state.metadata else "", -1)


def state_of(offset: kafka.OffsetAndMetadata) -> OffsetAndMetadata:
    """Return what was committed, by this client or by librdkafka."""
    return OffsetAndMetadata(offset.offset, (offset.metadata or "").removesuffix("\0"))


def patched(producer: KafkaProducer) -> KafkaProducer:
    """Keep a transactional request that finds its coordinator unreachable; wait for none without a limit (K1)."""
    if tuple(int(part) for part in client_version.split(".")[:2]) < (3, 1):
        client = producer._sender._client  # noqa: SLF001  (the defect is in there)
        await_ready = client.await_ready

        def awaited(node_id: Any, timeout_ms: float = _REQUEST_MS) -> bool:
            try:
                return bool(await_ready(node_id, timeout_ms=timeout_ms))
            except errors.KafkaError:
                time.sleep(0.02)  # what follows is an immediate retry
                return False  # the sender puts the request back; an exception makes it forget the request

        client.await_ready = awaited
    manager = producer._transaction_manager  # noqa: SLF001
    for name in ("send_offsets_to_transaction", "begin_commit", "begin_abort") if manager else ():
        setattr(manager, name, _limited(getattr(manager, name)))
    return producer


def _limited(request: Callable[..., Any]) -> Callable[..., Any]:
    """Return *request* with an answer that is not waited for beyond `_TRANSACTED_S`: a thread left behind ends."""

    def requested(*arguments: Any) -> Any:
        answer = request(*arguments)
        wait = answer.wait

        def limited() -> bool:
            if not wait(_TRANSACTED_S * 1e3):
                raise errors.KafkaTimeoutError(f"no answer within {_TRANSACTED_S:g} s")
            return True

        answer.wait = limited
        return answer

    return requested


def unstick(consumer: KafkaConsumer) -> None:
    """Let a resumed partition have the records back that were fetched before it was paused (K8)."""
    fetcher = consumer._fetcher  # noqa: SLF001  (the defect is in there)
    if not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001  (it takes "read to its end" for "in use")


def _family(error: BaseException) -> list[BaseException]:
    """Return *error*, its causes, what it carries as arguments, and what its text names (K4), nearest first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, type) and issubclass(one, errors.KafkaError):
            one = one()
        if isinstance(one, BaseException) and all(one is not other for other in found):
            found.append(one)
            waiting += [*one.args, one.__cause__, one.__context__]
            if type(one) is errors.KafkaError:
                waiting += [errors.for_code(int(code)) for code in re.findall(r"\[Error (\d+)\]", str(one))]
    return found


def _told(error: BaseException) -> str:
    """Return one line, without the client's habit of naming the class twice."""
    text = " ".join(str(error).split())
    return text if text.startswith("[Error") or type(error).__name__ in text else f"{type(error).__name__}: {text}"
