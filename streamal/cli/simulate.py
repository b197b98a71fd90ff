"""``streamal simulate``: producers and annotators for a running daemon, out of a recorded stream."""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.cli.experiment_options import AnnotatorOptions, StreamOptions
from streamal.cli.options import ConfigOptions, Json, progress_bar, show, with_options
from streamal.config import Config
from streamal.errors import ConfigError
from streamal.ports import Log
from streamal.recordings.reading import Recorded, Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player

__all__ = ["command"]

_NAP_S = 0.02
_ROWS_MAX = 10_000
"""With --repeat, requests for older events than so many are not answered: nobody asks about them any more."""


@dataclass(frozen=True, kw_only=True)
class _LateAnnotatorOptions(AnnotatorOptions):
    """Simulated annotators, by default with a median delay of one second."""

    delay: Annotated[
        float, typer.Option("--delay", min=0, help="Median seconds until a label comes, if none is recorded.")
    ] = 1.0


@dataclass(frozen=True, kw_only=True)
class _PaceOptions:
    """The speed of the stream, and the end of the command."""

    rate: Annotated[float, typer.Option("--rate", min=0.001, help="Events per second of real time.")] = 200.0
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.001, help="Play by --time instead, this many times faster.")
    ] = None
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Begin anew at the end, with new ids and times, until SIGTERM or Ctrl-C.")
    ] = False
    linger: Annotated[float, typer.Option("--linger", min=0, help="End after so many seconds without news.")] = 10.0


class _Schedule(Sequence[Recorded]):
    """The rows of a stream with times from *start* on at the wanted pace, once or again and again."""

    def __init__(self, stream: Stream, pace: _PaceOptions, start: float) -> None:
        self._rows, self._pace, self._start = stream.rows, pace, start
        self._first = stream.rows[0].time
        lasts = stream.rows[-1].time - self._first
        # from the last row to the first one of the next round it takes as long as from row to row, on average
        self._round_s = lasts * (1.0 + 1.0 / max(1, len(stream.rows) - 1)) or 1.0

    def __len__(self) -> int:
        return sys.maxsize if self._pace.repeat else len(self._rows)

    def __getitem__(self, number: Any) -> Any:
        turn, place = divmod(number, len(self._rows))
        row, pace = self._rows[place], self._pace
        if pace.speed is None:
            return row._replace(time=self._start + number / pace.rate, label_time=None)
        played = turn * self._round_s - self._first
        known = None if row.label_time is None else self._start + (row.label_time + played) / pace.speed
        return row._replace(time=self._start + (row.time + played) / pace.speed, label_time=known)


@with_options
def command(
    stream: StreamOptions,
    annotators: _LateAnnotatorOptions,
    pace: _PaceOptions,
    configuration: ConfigOptions,
    as_json: Json = False,
) -> None:
    """Feed a recorded stream to a daemon that runs beside it, and answer its requests as annotators would.

    Answers come late (recorded or drawn delays), sometimes wrong, "cannot tell", or never. Give it the daemon's own
    configuration: it says where the topics are.

    ```text
    streamal run &
    streamal simulate elec.csv.gz --label class --rate 500 --delay 3 --abstain 0.02 --silence 0.05
    streamal simulate mails.csv.gz --label label --rate 2 --delay 20 --repeat     # for as long as somebody looks
    ```
    """
    # a container's first process ignores the signal unless it asks for it; the log is closed as ever
    signal.signal(signal.SIGTERM, _end)
    config = configuration.load()
    if pace.speed is not None and stream.time is None:
        raise ConfigError("--speed needs --time, the column to play by; or use --rate")
    recorded = stream.read(config)
    transports.ensure_topics(config)
    log = transports.open_log(config, synchronous="NORMAL")  # made-up events need not survive a power cut
    try:
        player = _new_player(log, config, recorded, annotators.rules(), pace)
        with progress_bar("sending events", None if pace.repeat else len(recorded.rows)) as progress:
            task = progress.task_ids[0]
            replies = _play(player, pace.linger, lambda events: progress.advance(task, events))
    finally:
        log.close()
    figures = {"events": len(recorded.rows), "requests": player.annotators.seen, "replies": replies}
    show(f"simulated {stream.stream}", figures, as_json)


def _end(*_: object) -> None:
    """End the process, as the default action of SIGTERM does."""
    sys.exit(128 + signal.SIGTERM)


def _new_player(log: Log, config: Config, recorded: Stream, rules: AnnotatorsRules, pace: _PaceOptions) -> Player:
    """Return a player of *recorded*, from now on at the wanted pace."""
    topics, endless = topic_names(config), pace.repeat
    sent = sum(log.end(topics.events, partition) for partition in range(log.partitions(topics.events)))
    return Player(
        log,
        topics,
        dataclasses.replace(recorded, rows=_Schedule(recorded, pace, time.time())),
        rules,
        wire_rules(config),
        first_id=sent if endless else 0,
        rows_max=_ROWS_MAX if endless else math.inf,
    )


def _play(player: Player, linger_s: float, on_sent: Callable[[int], object]) -> int:
    """Send every event and reply at its time; return the number of replies."""
    number = replies = 0
    rows = player.stream.rows
    news_at = time.time()
    while number < len(rows) or player.annotators.next_due is not None or time.time() - news_at < linger_s:
        now = time.time()
        due = number
        while due < len(rows) and rows[due].time <= now:
            due += 1
        player.send(range(number, due))
        on_sent(due - number)
        player.annotators.read()
        new_replies = player.annotators.respond(now)
        if new_replies or due > number:
            news_at = now
        number, replies = due, replies + new_replies
        time.sleep(_NAP_S)
    return replies
