"""Proxies before the label page: who the client is, and under which path the page is reached.

Only the header lines that a trusted proxy adds are believed. The path may come with the prefix or without it, as the
proxy passes it on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from streamal.config import RESERVED_PATHS

__all__ = ["ForwardedHeaders", "client_network", "path_of", "root_of"]

_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_PREFIX_CHARACTERS_MAX = 200
_HOPS_MAX = 20


class ForwardedHeaders:
    """Takes the client's address and the path's prefix from what trusted proxies have sent."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str], root_path: str) -> None:
        """Wrap *app*; *trusted* are addresses or networks, *root_path* is the prefix where no proxy names one."""
        self._app, self._root_path = app, root_path
        self._trusted = [ip_network(each, strict=False) for each in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on to the application."""
        if scope["type"] == "http":
            scope = dict(scope)
            root_path = self._root_path
            client = scope.get("client")
            if client is not None and self._is_trusted(client[0]):
                root_path = _prefix(_values(scope, b"x-forwarded-prefix")) or root_path
                scope["client"] = (self._first_stranger(client[0], _values(scope, b"x-forwarded-for")), client[1])
            _set_root(scope, root_path)
        await self._app(scope, receive, send)

    def _first_stranger(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the last address of the chain that is no trusted proxy: what stands before it anybody can write."""
        chain = [_without_port(each.strip()) for line in forwarded for each in line.split(",")][-_HOPS_MAX:]
        client = peer
        for address in reversed(chain):
            if not self._is_trusted(client) or not _is_address(address):
                break
            client = address
        return client

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._trusted)


def root_of(request: Request) -> str:
    """Return the prefix of every path of the page, as the browser sees it."""
    return str(request.scope.get("app_root_path", request.scope["root_path"]))


def path_of(request: Request) -> str:
    """Return the path of *request* without the prefix."""
    return str(request.scope["path"]).removeprefix(root_of(request))


def client_network(request: Request) -> str:
    """Return the address from which *request* comes; of IPv6 the network of one customer (/64)."""
    host = request.client.host if request.client else "unknown"
    if _is_address(host) and isinstance(address := ip_address(host), IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return host


def _set_root(scope: Scope, root_path: str) -> None:
    path = scope["path"]
    inside = path == root_path or path.startswith(f"{root_path}/")
    scope["root_path"], scope["path"] = root_path, path if inside else root_path + path


def _prefix(values: Sequence[str]) -> str:
    """Return the prefix that a proxy names, "" for none, several, or one that is no path of ours."""
    prefix = values[0].rstrip("/") if len(values) == 1 else ""
    if len(prefix) > _PREFIX_CHARACTERS_MAX or _PREFIX.fullmatch(prefix) is None:
        return ""
    return "" if prefix.split("/")[1] in RESERVED_PATHS else prefix


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in scope["headers"] if each == name]


def _without_port(text: str) -> str:
    """Return the address in ``1.2.3.4:80`` or ``[2001:db8::1]:80``, as some proxies write them."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
