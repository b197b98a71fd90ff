"""A Prometheus scrape while the loop runs as fast as it can: how long it takes, and whether the loop notices."""

from __future__ import annotations

import gc
import multiprocessing
import time
import urllib.request
from concurrent.futures import Future, ProcessPoolExecutor
from statistics import median

from benchmarks.core_loop import Case, as_records
from benchmarks.endless import Endless, daemon_over
from benchmarks.results import Result, Table, Target, machine
from streamal.bootstrap.edges import WallClock
from streamal.cli.run import admin_server
from streamal.daemon.daemon import Daemon

_POOL = 10_000
_LATENCY_MAX_MS = 20.0
_DIP_MAX = 0.03
"""Of the throughput: what two windows without any scrape differ by on a quiet machine."""
_OFTEN_S = 0.05


def scrape(window_s: float, repetitions: int) -> Result:
    """Return latencies of ``GET /metrics``, and throughput with and without a scrape every second."""
    found = machine()
    case = Case()
    rows, labels = case.events(_POOL)
    config = case.config(**{"server.port": 0})
    daemon, measured = daemon_over(config, Endless(config, as_records(rows), labels))
    urls: list[str] = []
    server = admin_server(config, measured, lambda: daemon, WallClock(), urls.append)
    daemon.start()
    gc.freeze()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(scrape_often, urls[0], 0.1, _OFTEN_S).result()  # it is there, and warm
        rates: dict[str, list[tuple[float, float]]] = {"nobody scrapes": [], "a scrape every second": []}
        for _ in range(repetitions):
            rates["nobody scrapes"].append(_tick_for(daemon, window_s))
            watched = pool.submit(scrape_often, urls[0], window_s, 1.0)
            rates["a scrape every second"].append(_tick_for(daemon, window_s, watched))
        looking = pool.submit(scrape_often, urls[0], window_s, _OFTEN_S)
        _tick_for(daemon, window_s, looking)
    server.stop()
    times = sorted(looking.result())
    p50, p99, most = (times[min(len(times) - 1, int(len(times) * part))] * 1e3 for part in (0.5, 0.99, 1.0))
    quiet, busy = rates.values()
    dip = 1.0 - median(b[0] / q[0] for b, q in zip(busy, quiet, strict=True))
    cells = [
        [name, f"{median(rate for rate, _ in each):,.0f}", f"{median(us for _, us in each):.1f}"]
        for name, each in rates.items()
    ]
    return Result(
        "scrape",
        "A scrape under full load",
        "The production loop without a transport, as fast as it runs, and the admin port of `streamal run` beside it; "
        "another process asks for /metrics.",
        [
            Table("Throughput", ["", "events/s", "µs/event (CPU, the port's thread included)"], cells),
            Table(
                "GET /metrics, 20 times a second",
                ["scrapes", "bytes", "p50 ms", "p99 ms", "longest ms"],
                [[str(len(times)), f"{len(measured.render()):,}", f"{p50:.1f}", f"{p99:.1f}", f"{most:.1f}"]],
            ),
        ],
        [
            Target(
                "a scrape under full load, p99", f"≤ {_LATENCY_MAX_MS:.0f} ms", f"{p99:.1f} ms", p99 <= _LATENCY_MAX_MS
            ),
            Target(
                "dip of the throughput with a scrape every second", f"≤ {_DIP_MAX:.0%}", f"{dip:.1%}", dip <= _DIP_MAX
            ),
        ],
        machine=found,
    )


def _tick_for(daemon: Daemon, window_s: float, until: Future[list[float]] | None = None) -> tuple[float, float]:
    """Tick for so long, or *until* that is done; return events per second, and CPU microseconds of an event."""
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    while not until.done() if until else time.perf_counter() - began < window_s:
        done += daemon.tick()
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6


def scrape_often(url: str, window_s: float, every_s: float) -> list[float]:
    """Request *url* again and again and return the seconds of each response; run this in another process."""
    times = []
    ended = time.monotonic() + window_s
    while time.monotonic() < ended:
        began = time.monotonic()
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
            answer.read()
        times.append(time.monotonic() - began)
        time.sleep(max(0.0, min(every_s - times[-1], ended - time.monotonic())))
    return times
