"""A look at a running daemon: its ``/metrics``, read over HTTP and parsed by Prometheus' own parser."""

from __future__ import annotations

from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from streamal.errors import ConfigError, Unreachable

__all__ = ["Scrape", "scrape"]

_BYTES_MAX = 4_000_000
"""The daemon's own series are bounded, far below."""


class Scrape(NamedTuple):
    """What a daemon told *at* a time (seconds): series as (name, value of its only label or "") -> value."""

    at: float
    values: dict[tuple[str, str], float]


def scrape(url: str, at: float, timeout_s: float = 2.0) -> Scrape:
    """Return the series at *url*, without ``streamal_``; of an info its label's value is the name's label.

    Raises:
        Unreachable: nobody answers, or it is no daemon of ours.
        ConfigError: *url* is none.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {url}: write it as http://HOST:PORT/metrics")
    try:
        with urlopen(url, timeout=timeout_s) as answer:  # noqa: S310  (the scheme was looked at)
            text = answer.read(_BYTES_MAX).decode()
        families = list(text_string_to_metric_families(text))
    except HTTPError as error:
        error.close()
        raise Unreachable(f"{url} answered {error.code}: is it the daemon's /metrics?") from error
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(f"no daemon answers at {url}: {getattr(error, 'reason', error)}") from error
    values = {
        (sample.name.removeprefix("streamal_"), next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("streamal_")
    }
    if not values:
        raise Unreachable(f"{url} tells nothing of streamal: is it the daemon's /metrics?")
    return Scrape(at, values)
