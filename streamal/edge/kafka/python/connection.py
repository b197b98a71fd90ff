"""Clients of kafka-python that are connected and patched, and a table that says what the library's errors mean."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
from kafka import __version__ as client_version

from streamal.core.records import OffsetAndMetadata
from streamal.edge.kafka.base import ANSWER_S, Cluster
from streamal.edge.kafka.python.batches import name_unreadable
from streamal.edge.kafka.python.codecs import limit_inflating
from streamal.edge.kafka.python.tls import collect_failures, tls_context
from streamal.edge.retries import retry
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted

__all__ = [
    "Connection",
    "abandon",
    "offset_of",
    "patch_producer",
    "restore_prefetched",
    "retry_passing",
    "retry_without_leader",
    "state_of",
    "translate_errors",
]

_T = TypeVar("_T")
_REQUEST_MS = int(ANSWER_S * 1e3)
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
        "the records at this offset were deleted (raise the topic's retention), or the topic was made anew",
    ),
    (errors.LogTruncationError, InconsistentLog, "the cluster has lost acknowledged records; see its logs"),
    (errors.NoOffsetForPartitionError, InconsistentLog, "a position is missing; please report it"),
    (errors.OffsetMetadataTooLargeError, Fatal, "the state is above the broker's offset.metadata.max.bytes"),
    (errors.MessageSizeTooLargeError, Fatal, "raise max.message.bytes of the topic, or lower limits.record_bytes"),
    (errors.RecordListTooLargeError, Fatal, "raise max.message.bytes of the topic, or lower limits.record_bytes"),
    (errors.KafkaError, Uncommitted, "the cluster is in trouble, or far away; trying again"),
    (OSError, Uncommitted, "the network is in trouble; trying again"),
)
"""The first row that fits the error itself, its cause or its arguments decides."""

_HOPELESS = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.KafkaConfigurationError,
    ssl.SSLCertVerificationError,
)
"""Errors that stay however often the start is tried."""

logging.getLogger("kafka").addHandler(logging.NullHandler())  # or its warnings land, unformatted, on standard error


@dataclass(frozen=True)
class Connection(Cluster):
    """The way to a cluster; security in kafka-python's words (``security_protocol``, ``sasl_*``, ``ssl_*``).

    A setting that is None has its default.
    """

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
            with collect_failures() as failures:
                try:
                    return KafkaAdminClient(**settings, bootstrap_timeout_ms=int(min(attempt_s, left_s) * 1e3))
                except ValueError as error:
                    raise ConfigError(f"cannot connect to {self.bootstrap_servers}: {error}") from error
                except (errors.KafkaError, OSError) as error:
                    failures.insert(0, error)
            failure = failures[-1]
            with translate_errors(f"connect to {self.bootstrap_servers}"):
                for each in failures:
                    if any(isinstance(one, _HOPELESS) for one in _related_errors(each)):
                        raise each
            if time.monotonic() + pause_s > deadline:
                raise Fatal(
                    f"no Kafka at {self.bootstrap_servers} within {self.timeout_s:g} s ({_describe(failure)}); "
                    "check transport.bootstrap_servers and transport.security"
                ) from failure
            time.sleep(pause_s)
            pause_s, attempt_s = min(2 * pause_s, _BACKOFF_S[1]), min(2 * attempt_s, _CONNECT_S[1])

    def consumer(self, **settings: Any) -> KafkaConsumer:
        """Return a consumer of committed records, without auto-commit and without any reset of offsets.

        Either would skip records in silence (F1, a crash after a poll; F14, deleted records).
        """
        limit_inflating(self.inflated_bytes_max)  # K16, a decompression bomb: the client inflates whatever comes
        return name_unreadable(  # K17, a batch that cannot be read: the client's poll never returns
            KafkaConsumer(
                **self._settings(),
                **settings,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        )

    def producer(self, **settings: Any) -> KafkaProducer:
        """Return a producer that waits for all replicas; the size of a record is the topic's affair."""
        return patch_producer(
            KafkaProducer(
                **self._settings(),
                **settings,
                acks="all",
                batch_size=131_072,
                max_request_size=64 * 1024 * 1024,
                retry_backoff_ms=20,  # K3, the wait after CONCURRENT_TRANSACTIONS: 100 ms at almost every transaction
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
def translate_errors(doing: str) -> Iterator[None]:
    """Turn kafka-python's errors into ours, by `_ERRORS`; *doing* names what fails."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        family = _related_errors(error)
        for theirs, ours, text in _ERRORS:
            met = next((one for one in family if isinstance(one, theirs)), None)
            if met is not None:
                raise ours(f"cannot {doing}: {_describe(met)}: {text}") from error
        raise AssertionError("unreachable: the table ends with what is caught") from error


def retry_passing(action: Callable[[], _T]) -> _T:
    """Return ``action()``, repeated where the client itself does not (a coordinator that is just being found)."""
    return retry(action, lambda error: isinstance(error, errors.RetriableError), timeout_s=ANSWER_S, wait_s=0.1)


def retry_without_leader(action: Callable[[], _T]) -> _T:
    """Return ``action()``, repeated while K9 fails it: a question about a partition whose leader is not known yet."""
    try:
        return retry(action, lambda error: isinstance(error, KeyError), timeout_s=ANSWER_S, wait_s=0.02)
    except KeyError as partition:
        raise errors.LeaderNotAvailableError(str(partition)) from None


def abandon(producer: KafkaProducer) -> None:
    """Let a producer go, whatever it is waiting for."""
    # K12, close(timeout=0) closes nothing where records cannot be sent: end its thread by hand
    producer._sender.force_close()  # noqa: SLF001
    producer._sender.join(_ABANDON_S)  # noqa: SLF001
    with suppress(errors.KafkaError, OSError):
        producer.close(timeout=0)
    producer._closed = True  # noqa: SLF001  (or it would be closed again, and fail again, when it is collected)


def offset_of(state: OffsetAndMetadata) -> kafka.OffsetAndMetadata:
    """Return *state* as the client commits it; a NUL ends its metadata, for R11: librdkafka reads up to one."""
    return kafka.OffsetAndMetadata(state.offset, f"{state.metadata}\0" if state.metadata else "", -1)


def state_of(offset: kafka.OffsetAndMetadata) -> OffsetAndMetadata:
    """Return what was committed, by this client or by librdkafka."""
    return OffsetAndMetadata(offset.offset, (offset.metadata or "").removesuffix("\0"))


def patch_producer(producer: KafkaProducer) -> KafkaProducer:
    """Return *producer* with a remedy for K1, transaction calls that wait without a limit.

    It keeps a transactional request that finds its coordinator unreachable, and waits for no answer for ever.
    """
    if tuple(int(part) for part in client_version.split(".")[:2]) < (3, 1):
        client = producer._sender._client  # noqa: SLF001  (the defect is in there)
        await_ready = client.await_ready

        def await_or_put_back(node_id: Any, timeout_ms: float = _REQUEST_MS) -> bool:
            try:
                return bool(await_ready(node_id, timeout_ms=timeout_ms))
            except errors.KafkaError:
                time.sleep(0.02)  # what follows is an immediate retry
                return False  # the sender puts the request back; an exception makes it forget the request

        client.await_ready = await_or_put_back
    manager = producer._transaction_manager  # noqa: SLF001
    for name in ("send_offsets_to_transaction", "begin_commit", "begin_abort") if manager else ():
        setattr(manager, name, _limit_wait(getattr(manager, name)))
    return producer


def _limit_wait(request: Callable[..., Any]) -> Callable[..., Any]:
    """Return *request* with an answer that is waited for at most `_TRANSACTED_S`, so that a thread left behind ends."""

    def request_with_limit(*arguments: Any) -> Any:
        answer = request(*arguments)
        wait = answer.wait

        def wait_with_limit() -> bool:
            if not wait(_TRANSACTED_S * 1e3):
                raise errors.KafkaTimeoutError(f"no answer within {_TRANSACTED_S:g} s")
            return True

        answer.wait = wait_with_limit
        return answer

    return request_with_limit


def restore_prefetched(consumer: KafkaConsumer) -> None:
    """Give a resumed partition its records back.

    K8, records that were fetched before their partition was paused: the client loses sight of them.
    """
    fetcher = consumer._fetcher  # noqa: SLF001  (the defect is in there)
    if not fetcher._next_partition_records:  # noqa: SLF001
        fetcher._next_partition_records = None  # noqa: SLF001  (it takes "read to its end" for "in use")


def _related_errors(error: BaseException) -> list[BaseException]:
    """Return *error*, its causes, what it carries as arguments, and what its text names, nearest first.

    K4, fencing surfaces as another error around it: so all of them are looked at.
    """
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


def _describe(error: BaseException) -> str:
    """Return one line, without the client's habit of naming the class twice."""
    text = " ".join(str(error).split())
    return text if text.startswith("[Error") or type(error).__name__ in text else f"{type(error).__name__}: {text}"
