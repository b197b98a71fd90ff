"""``streamal simulate``: producers and annotators for a running daemon, out of a recorded stream."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.cli.options import ConfigPath, Json, Overrides, progress_bar, show
from streamal.cli.replay import Abstain, Delay, Drop, Error, Label, LabelTime, Limit, Silence, Stream, Time, columns
from streamal.config import load_config
from streamal.errors import ConfigError
from streamal.replay import Recorded, read_stream
from streamal.replay import Stream as RecordedStream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player

__all__ = ["command"]

_NAP_S = 0.02


def command(
    stream: Stream,
    label: Label,
    time: Time = None,
    label_time: LabelTime = None,
    drop: Drop = "",
    limit: Limit = None,
    delay: Delay = 1.0,
    error: Error = 0.0,
    abstain: Abstain = 0.0,
    silence: Silence = 0.0,
    rate: Annotated[float, typer.Option("--rate", min=0.001, help="Events per second of real time.")] = 200.0,
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.001, help="Play by --time instead, this many times faster.")
    ] = None,
    linger: Annotated[float, typer.Option("--linger", min=0, help="End after so many seconds without news.")] = 10.0,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Feed a recorded stream to a daemon that runs beside it, and answer its requests as annotators would.

    Answers come late (recorded or drawn delays), sometimes wrong, "cannot tell", or never. Give it the daemon's own
    configuration: it says where the topics are.

    ```text
    streamal run &
    streamal simulate elec.csv.gz --label class --rate 500 --delay 3 --abstain 0.02 --silence 0.05
    ```
    """
    loaded = load_config(config, overrides or ())
    if speed is not None and time is None:
        raise ConfigError("--speed needs --time, the column to play by; or use --rate")
    recorded = read_stream(stream, label, time, label_time, columns(drop), limit)
    rules = AnnotatorsRules(delay_s=delay, error=error, abstain=abstain, silence=silence)
    transports.ensure_topics(loaded)
    log = transports.open_log(loaded, synchronous="NORMAL")  # made-up events need not survive a power cut
    try:
        player = Player(log, topic_names(loaded), _rescaled(recorded, rate, speed), rules, wire_rules(loaded))
        with progress_bar("sending events", len(recorded.rows)) as progress:
            answered = _play(player, linger, lambda events: progress.advance(progress.task_ids[0], events))
    finally:
        log.close()
    show(
        f"simulated {stream}",
        {"events": len(recorded.rows), "requests": player.annotators.seen, "replies": answered},
        as_json,
    )


def _rescaled(stream: RecordedStream, rate: float, speed: float | None) -> RecordedStream:
    """Return *stream* with the times at which things are to happen now."""
    start, first = clock.time(), stream.rows[0].time

    def at(number: int, row: Recorded) -> Recorded:
        if speed is None:
            return row._replace(time=start + number / rate, label_time=None)
        known = None if row.label_time is None else start + (row.label_time - first) / speed
        return row._replace(time=start + (row.time - first) / speed, label_time=known)

    rows = [at(number, row) for number, row in enumerate(stream.rows)]
    return RecordedStream(stream.name, rows, stream.kinds, stream.classes)


def _play(player: Player, linger_s: float, sent: Callable[[int], object]) -> int:
    """Send every event and answer at its time; return the number of answers."""
    number = answered = 0
    rows = player.stream.rows
    news_at = clock.time()
    while number < len(rows) or player.annotators.next_due is not None or clock.time() - news_at < linger_s:
        now = clock.time()
        due = number
        while due < len(rows) and rows[due].time <= now:
            due += 1
        player.send(range(number, due))
        sent(due - number)
        player.annotators.read()
        answers = player.annotators.answer(now)
        if answers or due > number:
            news_at = now
        number, answered = due, answered + answers
        clock.sleep(_NAP_S)
    return answered
