"""The metrics of a running daemon, read over HTTP and parsed by Prometheus' own parser."""

from __future__ import annotations

import ssl
import urllib.request
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families

from streamal.errors import ConfigError, ServiceUnavailable

__all__ = ["Scrape", "ask", "scrape"]

_BYTES_MAX = 4_000_000
"""Far more than a daemon exports: its series are bounded."""


class Scrape(NamedTuple):
    """The series of a daemon *at* a time in seconds: (name, value of the only label or "") -> value."""

    at: float
    values: dict[tuple[str, str], float]


def scrape(
    url: str, at: float, timeout_s: float = 2.0, token: str | None = None, certificate: str | None = None
) -> Scrape:
    """Return the series at *url*, their names without ``streamal_``; *token* and *certificate* are those of `ask`.

    Raises:
        ServiceUnavailable: nobody answers, or it is no daemon of ours.
        ConfigError: *url* is not a URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {url}: write it as http://HOST:PORT/metrics")
    try:
        text = ask(url, _BYTES_MAX, timeout_s, token, certificate).decode()
        families = list(text_string_to_metric_families(text))
    except HTTPError as error:
        error.close()
        raise ServiceUnavailable(f"{url} answered {error.code}: is it the daemon's /metrics?") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ServiceUnavailable(f"no daemon answers at {url}: {getattr(error, 'reason', error)}") from error
    values = {
        (sample.name.removeprefix("streamal_"), next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("streamal_")
    }
    if not values:
        raise ServiceUnavailable(f"{url} has no series of streamal: is it the daemon's /metrics?")
    return Scrape(at, values)


def ask(url: str, bytes_max: int, timeout_s: float, token: str | None = None, certificate: str | None = None) -> bytes:
    """Return up to *bytes_max* bytes of the page at *url*, an http(s) one; no proxy is used.

    Args:
        url: a page of the admin port.
        bytes_max: the most that is read of the answer.
        timeout_s: the longest wait for each part of the answer.
        token: the value of ``server.token``.
        certificate: the PEM file of ``server.tls_certfile``, which is trusted whatever name it bears.

    Raises:
        HTTPError: the port refuses the request.
        OSError: nobody answers.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if certificate is not None:
        trusted = ssl.create_default_context(cafile=certificate)
        trusted.check_hostname = False
        trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the port's own certificate is enough, whoever issued it
        handlers.append(urllib.request.HTTPSHandler(context=trusted))
    request = urllib.request.Request(url)  # noqa: S310  (the caller has looked at the scheme)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
        content: bytes = answer.read(bytes_max)
    return content
