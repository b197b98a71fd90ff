"""TLS files, read before anything is tried; and the reasons of failed connections, which kafka-python hides."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import errors

from streamal.errors import ConfigError

__all__ = ["collect_failures", "tls_context"]


def tls_context(security: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return the TLS context; the client would make one at each attempt to connect, and not say why it cannot.

    Args:
        security: settings in kafka-python's words.

    Raises:
        ConfigError: a file is missing, is no PEM, or its password is wrong.
    """
    if not str(security.get("security_protocol")).endswith("SSL"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = security.get("ssl_check_hostname", True)
    ca, certificate, key = (security.get(name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"))
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=security.get("ssl_password") or "")  # None would prompt
    except OSError as error:  # an SSLError is one
        files = ", ".join(str(file) for file in (ca, certificate, key) if file)
        raise ConfigError(
            f"transport.security: {files} cannot be used: {error.strerror or error}; check the files, their format "
            "(PEM), and the key's password"
        ) from error
    return context


@contextmanager
def collect_failures() -> Iterator[list[Exception]]:
    """Collect the errors of the client's attempts to connect: it logs them and raises only the time-out."""
    failures: list[Exception] = []
    listener = logging.Handler()
    listener.emit = lambda record: failures.extend(  # type: ignore[method-assign]
        one
        for one in (record.args if isinstance(record.args, tuple) else ())
        if isinstance(one, Exception) and not isinstance(one, errors.KafkaTimeoutError)
    )
    log = logging.getLogger("kafka.net.manager")
    log.addHandler(listener)
    try:
        yield failures
    finally:
        log.removeHandler(listener)
