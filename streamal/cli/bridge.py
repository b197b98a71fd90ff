"""``streamal bridge``: other labelling tools."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import structlog
import typer

from streamal import INSTALL
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.cli.logs import set_up_logs
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.cli.workers import END_S, stop_on_signals
from streamal.config import Config, load_config
from streamal.core.records import Request
from streamal.errors import ConfigError, ServiceUnavailable, Uncommitted
from streamal.exchange.label_studio import request_task
from streamal.labeling.feed import Feed
from streamal.labeling.label_studio.bridge import Bridge, BridgeRules
from streamal.labeling.label_studio.project import Project, ProjectRules, require_project
from streamal.labeling.queue import OpenQueue, QueueRules, priority

if TYPE_CHECKING:
    from streamal.edge.label_studio import LabelStudio

__all__ = ["app"]

_T = TypeVar("_T")
_PAUSE_S, _PAUSE_MAX_S = 0.5, 30.0

app = typer.Typer(no_args_is_help=True, help="Let people answer in a labelling tool that they know.")


@app.callback()
def _main() -> None:
    """Keep "label-studio" a command of its own while it is the only one."""


@app.command(name="label-studio")
def label_studio(
    once: Annotated[bool, typer.Option("--once", help="Run one cycle, then end.")] = False,
    change: Annotated[bool, typer.Option("--change", help="Change the project's settings where they differ.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Make tasks in Label Studio of the open requests and replies of its annotations, until SIGTERM.

    The bridge creates the project if there is none, and names the settings of an existing one that differ. A skip
    becomes an abstention, an edit a correction, a deletion a retraction; tasks of closed requests are deleted.
    The bridge keeps no state of its own and may be killed at any moment. The token comes from STREAMAL_BRIDGE__TOKEN.

    ```text
    export STREAMAL_BRIDGE__TOKEN=…
    streamal bridge label-studio --set bridge.url=http://localhost:8080
    ```
    """
    loaded = load_config(config, overrides or ())
    set_up_logs(loaded.log)
    if find_spec("httpx") is None:
        raise ConfigError(f"the bridge needs httpx: {INSTALL.format(extra='label-studio')}")
    from streamal.edge.label_studio import LabelStudio  # noqa: PLC0415

    rules = _project_rules(loaded)
    token = loaded.bridge.token
    if token is None or not token.get_secret_value():
        raise ConfigError("bridge.token: set STREAMAL_BRIDGE__TOKEN to a token of Label Studio (Account & Settings)")
    log, stopping = structlog.get_logger(), threading.Event()
    if not once:
        stop_on_signals(stopping.set, END_S)
    with LabelStudio(loaded.bridge.url, token.get_secret_value(), loaded.bridge.timeout_s) as server:
        found = _retry(lambda: require_project(server, rules, change=change), stopping, log, patient=not once)
        if found is None:
            return
        project, differences = found
        log.info("bridge_project_found", url=loaded.bridge.url, project=project.number)
        for line in differences:
            log.warning("bridge_project_differs", project=project.number, what=line, hint="--change corrects it")
        with _bridge(loaded, server, project, log) as bridge:
            if once:
                figures = {**bridge.cycle(time.time()), **bridge.figures()}
                show(f"project {project.number}, {loaded.bridge.url}", figures, as_json)
            while not once and not stopping.is_set():
                counts = _retry(lambda: bridge.cycle(time.time()), stopping, log, patient=True)
                if counts:
                    log.info("bridged", **counts, **bridge.figures())
                stopping.wait(loaded.bridge.poll_s)


def _retry(attempt: Callable[[], _T], stopping: threading.Event, log: Any, *, patient: bool) -> _T | None:
    """Return the result of *attempt*; repeat it after a passing failure, with growing pauses, until *stopping*."""
    pause_s = _PAUSE_S
    while True:
        try:
            return attempt()
        except (ServiceUnavailable, Uncommitted) as error:
            if not patient:
                raise
            wait_s = max(pause_s, error.after_s if isinstance(error, ServiceUnavailable) else 0.0)
            log.warning("bridge_waiting", error=str(error), again_in_s=wait_s)
        if stopping.wait(wait_s):
            return None
        pause_s = min(_PAUSE_MAX_S, 2.0 * pause_s)


@contextmanager
def _bridge(config: Config, server: LabelStudio, project: Project, log: Any) -> Iterator[Bridge]:
    topics, limits = topic_names(config), config.limits
    transport = transports.open_log(config)
    try:
        queue = OpenQueue(QueueRules(open_max=2 * limits.open_requests, closed_max=limits.closed_requests))
        feed = Feed(transport, topics, config.transport.group, queue, wire_rules(config))
        bridge = config.bridge
        rules = BridgeRules(project.number, topics.labels, bridge.tasks_max, bridge.batch, bridge.reconcile_s)
        task_of = partial(_task, texts=_texts(config), project=project)
        yield Bridge(server, transport, feed, rules, task_of, log.warning)
    finally:
        transport.close()


def _task(request: Request, texts: tuple[str, ...], project: Project) -> dict[str, Any]:
    return request_task(request, texts, priority(request), project.control, project.object_name)


def _project_rules(config: Config) -> ProjectRules:
    if not config.labels.classes:
        raise ConfigError("labels.classes: declare them; the labelling interface is made from the classes")
    path = config.bridge.label_config
    try:
        interface = None if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"bridge.label_config: {path}: {error}") from error
    bridge = config.bridge
    return ProjectRules(bridge.project, config.labels.classes, _texts(config), interface, bridge.show_prediction)


def _texts(config: Config) -> tuple[str, ...]:
    return tuple(name for name, kind in config.features.declared.items() if kind == "text")
