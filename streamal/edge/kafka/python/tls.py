"""Getting in: the files of TLS, read before anything is tried; and why an attempt failed, which the client hides."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import errors

from streamal.errors import ConfigError

__all__ = ["overheard", "tls_context"]


def tls_context(security: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return what the client itself would make only at each attempt to connect, not telling why it cannot.

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
def overheard() -> Iterator[list[Exception]]:
    """Give the errors of the client's attempts to connect: it tells its log of them, and us of the time-out only."""
    heard: list[Exception] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.extend(  # type: ignore[method-assign]
        one
        for one in (record.args if isinstance(record.args, tuple) else ())
        if isinstance(one, Exception) and not isinstance(one, errors.KafkaTimeoutError)
    )
    log = logging.getLogger("kafka.net.manager")
    log.addHandler(listener)
    try:
        yield heard
    finally:
        log.removeHandler(listener)
