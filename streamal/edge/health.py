"""Whether a process is alive: one request to its port, for the health check of a container.

A container engine asks every few seconds, so this file imports next to nothing: it reads the address of the port
itself, by the precedence of `streamal.config` (``--set``, environment, file, default), and speaks HTTP over a plain
socket. That also means that no proxy is asked, whatever the environment says.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from streamal.errors import ConfigError, ServiceUnavailable

__all__ = ["require_alive"]

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "server": {"host": "127.0.0.1", "port": 9464, "enabled": True, "tls_certfile": None},
    "label_page": {"host": "127.0.0.1", "port": 8800},
}
"""The keys that say where a process listens, by section, and what holds where nobody sets them."""
_PATHS = {"server": "/livez", "label_page": "/healthz"}
_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (whom to ask where one listens on all addresses)
_ANSWER_BYTES_MAX = 4_096
_YES = {"1", "on", "t", "true", "y", "yes"}
"""The texts that pydantic takes for true."""


def require_alive(path: str, overrides: Sequence[str] = (), section: str = "server", timeout_s: float = 2.0) -> None:
    """Return if the process that runs with the configuration at *path* says that it is alive.

    Args:
        path: a configuration file.
        overrides: ``section.key=value`` each.
        section: "server" asks the daemon's admin port, "label_page" the label page.
        timeout_s: the longest wait for a connection, and for each part of the answer.

    Raises:
        ServiceUnavailable: nobody answers, or the answer is not 200.
        ConfigError: the configuration does not say whom to ask.
    """
    found = _settings(path, overrides, section)
    if not found["enabled"] or not found["port"]:
        raise ConfigError(f"{section}: it is switched off, or its port is 0: there is no port to ask")
    host = _THIS_MACHINE.get(found["host"], found["host"])
    asked = f"{host} port {found['port']}"
    try:
        answer = _ask(host, found["port"], _PATHS[section], found.get("tls_certfile") is not None, timeout_s)
    except OSError as error:
        raise ServiceUnavailable(f"nothing answers at {asked}: {error}") from error
    head, _, body = answer.partition("\r\n\r\n")
    if head.split(" ")[1:2] != ["200"]:
        said = body.strip() or head.splitlines()[:1]
        raise ServiceUnavailable(f"{asked} answers to {_PATHS[section]}: {said}")


def _ask(host: str, port: int, path: str, tls: bool, timeout_s: float) -> str:
    """Return the answer to a GET of *path*, its head too."""
    answer = b""
    with (
        socket.create_connection((host, port), timeout_s) as plain,
        _start_tls(plain) if tls else plain as connection,
    ):
        # by this name a label page without a login answers too
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while len(answer) < _ANSWER_BYTES_MAX and (part := connection.recv(_ANSWER_BYTES_MAX)):
            answer += part
    return answer.decode("latin-1")


def _start_tls(plain: socket.socket) -> socket.socket:
    """Return *plain* under TLS, whoever is at the other end.

    Nothing secret is sent, and a daemon whose certificate has run out is not dead: a restart would mend nothing.
    """
    import ssl  # noqa: PLC0415  (half of what all of this costs)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def _settings(path: str, overrides: Sequence[str], section: str) -> dict[str, Any]:
    """Return the keys of *section* that say where its process listens.

    Raises:
        ConfigError: the file cannot be read, or the port is no number.
    """
    prefix = f"STREAMAL_{section}__".upper()
    environment = {
        name.upper().removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.upper().startswith(prefix)
    }
    overriding = {
        key.strip().removeprefix(f"{section}."): _toml_value(text)
        for key, _, text in (override.partition("=") for override in overrides)
        if key.strip().startswith(f"{section}.")
    }
    found = {**_DEFAULTS[section], **_read(path, section), **environment, **overriding}
    try:
        found["port"] = int(found["port"])
    except (TypeError, ValueError):
        raise ConfigError(f"{section}.port = {found['port']!r} is no port") from None
    found["enabled"] = str(found.get("enabled", True)).lower() in _YES
    return found


def _read(path: str, section: str) -> dict[str, Any]:
    """Return *section* of the TOML file at *path*."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (pathlib costs as much as all the rest)
            found = tomllib.load(file).get(section, {})
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}; name another with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not TOML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"config file {path}: {section} is no section")
    return found


def _toml_value(text: str) -> object:
    """Return the TOML value *text*; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
