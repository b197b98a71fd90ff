"""The admin port's TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from streamal.errors import ConfigError

__all__ = ["tls_context"]


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's side of TLS 1.2 or newer.

    Raises:
        ConfigError: a file is missing, is no PEM, or the key is another one's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")  # or it would prompt
    except OSError as error:  # an SSLError is one
        raise ConfigError(
            f"server.tls_certfile {certificate} and server.tls_keyfile {key} cannot be used: "
            f"{error.strerror or error}; both are PEM, the key without a password"
        ) from error
    return context
