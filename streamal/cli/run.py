"""``streamal run``: the daemon."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import structlog
import typer

from streamal.bootstrap import Parts, build, edges, transports
from streamal.bootstrap.model import build_model
from streamal.bootstrap.warm_start import read_warm_start
from streamal.cli.check import require_sound_model
from streamal.cli.logs import set_up_logs
from streamal.cli.options import ConfigPath, Overrides
from streamal.cli.workers import END_S, end_with_supervisor, stop_on_signals, supervise, worker_settings
from streamal.config import Config, load_config, reveal
from streamal.core.budget.money import MICRO, WINDOWS
from streamal.daemon.daemon import Daemon
from streamal.daemon.exporter import Logger
from streamal.edge.http import AdminServer, Headers, Page
from streamal.edge.metrics import PrometheusMeter
from streamal.edge.otel import TracedMeter, new_provider
from streamal.edge.tls import tls_context
from streamal.edge.watchdog import Watchdog
from streamal.ports import Clock

__all__ = ["admin_server", "command", "log_warm_start", "meter"]

_STALE_S = 30.0
"""A loop that has not ticked for so long is stuck: the longest poll, transaction or snapshot is far shorter."""


def command(
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000,
            help="Kafka: run so many workers, each started again when it dies. Worker i (from 0) has the instance "
            "INSTANCE-i or HOST-i, server.port + i, and snapshots in a directory of its own.",
        ),
    ] = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    supervised: Annotated[bool, typer.Option(hidden=True, help="This is one of --workers.")] = False,
) -> None:
    """Run the daemon: predict, ask within the budget, learn from replies, until SIGTERM or Ctrl-C.

    On the first signal it finishes the step at hand, stores a snapshot and ends with 0. After eight seconds, or on a
    second signal, it ends at once, and nothing is lost by that either.

    ```text
    streamal run --config config.toml
    streamal run --set budget.share=0.05 --set transport.path=/var/lib/streamal/streamal.db
    streamal run --workers 4
    ```
    """
    loaded = load_config(config, overrides or ())
    set_up_logs(loaded.log)
    parts = build(loaded)
    # the factory is the user's own: only a second call of it shows whether it draws unseeded random numbers
    require_sound_model(parts, (lambda: build_model(loaded)) if loaded.model.factory else parts.new_model)
    if workers is None or supervised:
        _work(parts, supervised)
        return
    command = [sys.executable, *sys.orig_argv[1:], "--supervised"]
    each = worker_settings(loaded, workers)
    commands = {instance: [*command, *(f"--set={one}" for one in settings)] for instance, settings in each.items()}
    raise typer.Exit(supervise(commands, structlog.get_logger()))


def _work(parts: Parts, supervised: bool) -> None:
    """Run one worker until a signal asks it to end, or its supervisor dies."""
    if supervised:
        end_with_supervisor()
    config, clock, measured = parts.config, edges.WallClock(), meter(parts.config)
    log = structlog.get_logger(instance=transports.worker_name(config))
    daemon: Daemon | None = None
    traced = TracedMeter(measured, new_provider()) if config.log.spans else None
    # Bind the port before joining the group: a second daemon, started by mistake, fails here and fences nobody.
    server = admin_server(config, measured, lambda: daemon, clock, lambda url: log.info("serving", url=url))
    log_warm_start(config, log)
    try:
        with closing(transports.open_transport(config)) as transport, edges.note_life(config) as died:
            if died:
                log.warning("died_before", hint="the process before this one was killed, perhaps for its memory")
                transports.look_ahead(config)
            daemon = Daemon(
                parts.settings,
                parts.new_fold,
                transport,
                edges.open_snapshots(config),
                clock,
                traced or measured,
                log,
            )
            daemon.poison = edges.new_poison(config, Watchdog())
            stop_on_signals(daemon.stop, END_S)
            daemon.start()
            gc.freeze()  # what was restored stays: the collector need not walk through it
            daemon.run()
    finally:
        server.stop()
        if traced is not None:
            traced.close()


def log_warm_start(config: Config, log: Logger) -> None:
    """Log what was left out of the warm start, or guessed, if anything; a log shows no value of a feature or label."""
    if config.model.warm_start is None or config.model.warm_pickle:
        return
    account = read_warm_start(config).account
    if account.findings:
        counts = {kind: account.count(kind) for kind in dict.fromkeys(each.kind for each in account.findings)}
        hint = "`streamal check` shows rows and values"
        log.warning("warm_start_findings", rows=account.rows, learned=account.kept, findings=counts, hint=hint)


def meter(config: Config) -> PrometheusMeter:
    """Return a meter that has the limits of the configuration as gauges."""
    measured = PrometheusMeter(config.budget.currency)
    measured.gauge("budget_share_limit", float(config.budget.share))
    measured.gauge("open_requests_limit", config.limits.open_requests)
    measured.gauge("cost_per_label", config.budget.prices.reserved / MICRO)
    caps = {f"cost_{window}": cap for window, cap in zip(WINDOWS, config.budget.cost_caps, strict=True)}
    requests = {"requests_hour": config.budget.per_hour, "requests_day": config.budget.per_day}
    for name, limit in {**caps, **requests}.items():
        if limit is not None:
            measured.gauge(f"budget_limit_{name}", float(limit))
    return measured


def admin_server(
    config: Config,
    measured: PrometheusMeter,
    running: Callable[[], Daemon | None],
    clock: Clock,
    announce: Callable[[str], object],
) -> AdminServer:
    """Return the started server of ``/metrics``, ``/status``, ``/livez`` and ``/readyz``.

    *running* returns the daemon, or None before there is one; *announce* takes the address of the server.
    """

    def live(_: Headers) -> Page:
        daemon = running()
        alive = daemon is None or daemon.ticked_at == 0.0 or clock.monotonic() - daemon.ticked_at < _STALE_S
        return Page(200, "text/plain", b"ok\n") if alive else Page(503, "text/plain", b"the loop is stuck\n")

    def ready(_: Headers) -> Page:
        daemon = running()
        return Page(200, "text/plain", b"ok\n") if daemon and daemon.ready else Page(503, "text/plain", b"starting\n")

    def metrics(headers: Headers) -> Page:
        return Page(200, *measured.render_for(headers.get("accept", "")))

    def status(_: Headers) -> Page:
        daemon = running()
        told = {"ready": bool(daemon and daemon.ready), "figures": measured.figures()}
        return Page(200, "application/json", json.dumps(told).encode())

    pages = {"/metrics": metrics, "/status": status, "/livez": live, "/readyz": ready}
    at = config.server
    tls = tls_context(at.tls_certfile, at.tls_keyfile) if at.tls_certfile and at.tls_keyfile else None
    server = AdminServer(at.host, at.port, pages, token=reveal(at.token), tls=tls)
    if at.enabled:
        if at.exposed and tls is None:
            structlog.get_logger().warning("admin_port_without_tls", hint="the token travels in the clear")
        host = f"[{at.host}]" if ":" in at.host else at.host
        announce(f"http{'s' * (tls is not None)}://{host}:{server.start()}/metrics")
    return server
