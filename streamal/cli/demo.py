"""``streamal demo``: everything that streamal does, on 5,403 real mails, with no server to set up."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import Progress

from streamal.bootstrap import build, edges, transports
from streamal.cli.console import echo, echo_block
from streamal.cli.options import Json, Overrides, progress_bar, show
from streamal.cli.run import admin_server, meter
from streamal.config import Config, load_config
from streamal.core.records import Prediction
from streamal.daemon.daemon import Daemon
from streamal.errors import ConfigError
from streamal.ports import scan
from streamal.replay import Replay, Stream, read_stream, replay
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.outcome import outcome
from streamal.replay.replay import Player, SilentLog, StreamClock, play
from streamal.reports.curves import rolling, save_curves, terminal_curves

__all__ = ["command"]

_BATCH = 5
_WINDOW = 500
_ANNOTATORS = AnnotatorsRules(delay_s=1_800.0, spread=1.5, abstain=0.01, silence=0.01)
"""Half an hour in the median, one reply in six later than two hours; some cannot tell, some never reply."""

_OURS = "# What `streamal demo` ran with."
_CONFIG = """\
{ours} Try, from the same place:  streamal status -c {name}/config.toml{options}
[transport]
path = {database}

[features]
declared = {{ text = "text" }}

[labels]
classes = ["ham", "spam"]

[snapshots]
directory = {snapshots}
"""


def command(
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Where to leave stream and database.")] = Path(
        "streamal-demo"
    ),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Watch everything that streamal does: 5,403 mails of 2002, spam or ham, 10 % of the labels.

    The mails come in the order of their arrival into a SQLite file. The daemon predicts each, asks for the labels that
    should improve the model most, and learns from answers that come late and out of order. A control, the same model,
    gets as many labels for mails chosen at random. Takes well under two minutes; the directory keeps everything.
    """
    load_config(None, overrides or ())  # a wrong key is refused before anything is deleted
    try:
        _prepare(directory, _options(overrides))
    except OSError as error:
        raise ConfigError(f"--directory {directory}: {error.strerror or error}") from error
    config = load_config(directory / "config.toml", overrides or (), defaults={"server": {"port": 0}})
    stream = read_stream(str(directory / "mails.csv.gz"), "label", time="time")
    with progress_bar("streamal", len(stream.rows)) as progress:
        result = _run(config, stream, progress)
        task = progress.add_task("random control", total=len(stream.rows), note="")
        control = replay(stream, _control(config), _ANNOTATORS, _BATCH, lambda n: progress.advance(task, n))
    _report(directory, config, result, control, as_json, _options(overrides))


def _options(overrides: Sequence[str] | None) -> str:
    """Return *overrides* as options of a command line: later commands on the demo need them again."""
    return "".join(f" --set {shlex.quote(override)}" for override in overrides or ())


def _prepare(directory: Path, options: str) -> None:
    """Make the directory, and delete the files of an earlier demo in it."""
    path = directory / "config.toml"
    ours = path.is_file() and path.read_text(errors="replace").startswith(_OURS)
    if directory.exists() and not ours and any(directory.iterdir()):
        raise ConfigError(f"--directory {directory} holds something else than an earlier demo; name another")
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("streamal.db*"):
        leftover.unlink()
    shutil.rmtree(directory / "snapshots", ignore_errors=True)
    with as_file(files("streamal") / "data" / "mails.csv.gz") as mails:
        shutil.copyfile(mails, directory / "mails.csv.gz")
    database, snapshots = (json.dumps(str(directory / name)) for name in ("streamal.db", "snapshots"))
    path.write_text(_CONFIG.format(ours=_OURS, name=directory, options=options, database=database, snapshots=snapshots))


def _control(config: Config) -> Config:
    """Return the configuration of the random control."""
    sampling = config.sampling.model_copy(update={"strategy": "random", "parameters": {}})
    return config.model_copy(update={"sampling": sampling})


def _run(config: Config, stream: Stream, progress: Progress) -> Replay:
    """Run the daemon on SQLite, with the times of the mails as its clock."""
    parts = build(config)
    transport = transports.open_transport(config, synchronous="NORMAL")  # a demo on a slow disk is to end in time, too
    clock, metrics = StreamClock(), meter(config)
    daemon = Daemon(
        dataclasses.replace(parts.settings, poll_timeout_s=0.0, step_target_s=math.inf),
        parts.new_fold,
        transport,
        edges.open_snapshots(config),
        clock,
        metrics,
        SilentLog(),
    )
    server = admin_server(
        config, metrics, lambda: daemon, clock, lambda url: progress.console.print(f"metrics while it runs: {url}")
    )
    try:
        player = Player(transport, parts.topics, stream, _ANNOTATORS, parts.wire)
        line = _DemoProgress(config, daemon, player, progress)
        began = time.perf_counter()
        play(daemon, player, clock, _BATCH, line.advance)
        daemon.close()
        return outcome(daemon, transport, parts.topics, stream, player.rows, time.perf_counter() - began)
    finally:
        server.stop()
        transport.close()


class _DemoProgress:
    """Updates the line under the progress bar, or prints a line now and then where there is no terminal."""

    _EVERY_SHOWN, _EVERY_PRINTED = 50, 540

    def __init__(self, config: Config, daemon: Daemon, player: Player, progress: Progress) -> None:
        self._config, self._daemon, self._player, self._progress = config, daemon, player, progress
        self._log, self._topic = player.log, player.topics.predictions
        self._positions = dict.fromkeys(range(self._log.partitions(self._topic)), 0)
        self._right = self._asked = self._events = 0

    def advance(self, events: int) -> None:
        """Count *events* more, and update or print the line now and then."""
        self._progress.advance(self._progress.task_ids[0], events)
        before = self._events
        self._count()
        every = self._EVERY_SHOWN if self._progress.console.is_terminal else self._EVERY_PRINTED
        if self._events // every == before // every:
            return
        self._progress.update(self._progress.task_ids[0], note=self._line())
        if not self._progress.console.is_terminal:
            echo(f"{self._events:>5} mails: {self._line()}", err=True)

    def _count(self) -> None:
        for partition, position in self._positions.items():
            for record in scan(self._log, self._topic, partition, position):
                self._positions[partition] = record.offset + 1
                prediction = msgspec.json.decode(record.value or b"", type=Prediction)
                row = self._player.stream.rows[self._player.rows[prediction.event]]
                self._events += 1
                self._right += prediction.label == row.label
                self._asked += prediction.asked is not None

    def _line(self) -> str:
        budget = self._config.budget
        estimate = self._daemon.fold.learned.quality.total_accuracy()
        interval = "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        return (
            f"{self._asked} requests ({self._asked / self._events * 100:.1f} %, "
            f"budget {float(budget.share) * 100:g} % + burst of {budget.burst}), "
            f"accuracy {self._right / self._events:.3f}, estimated {interval}"
        )


def _report(directory: Path, config: Config, result: Replay, control: Replay, as_json: bool, options: str) -> None:
    figures = {**result.as_dict(), "random_control_accuracy": control.accuracy, "random_control_share": control.share}
    curves = {
        f"streamal ({config.sampling.strategy})": rolling(result.correct, _WINDOW),
        "random control": rolling(control.correct, _WINDOW),
    }
    title = f"Accuracy over the last {_WINDOW} mails, at {float(config.budget.share):.0%} of the labels"
    picture = directory / "learning-curve.svg"
    saved = save_curves(picture, title, curves, skip=_WINDOW // 2)
    if not as_json:
        width = min(100, shutil.get_terminal_size().columns)
        echo_block(terminal_curves(title, curves, skip=_WINDOW // 2, width=width))
    show("5,403 mails, spam or ham", figures, as_json)
    if as_json:
        return
    config_file = f"{directory}/config.toml{options}"
    echo("")
    echo(f"Left in {directory}/: mails.csv.gz, streamal.db, config.toml{f', {picture.name}' if saved else ''}")
    echo(f"Look at it:  streamal status -c {config_file}")
    echo(f"             streamal verify -c {config_file}")
    echo(f"             streamal export -c {config_file} --examples | head -3")
    sys.stdout.flush()
