"""``streamal send``: events from a file, from a pipe, or from a file that grows."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import wire_rules
from streamal.cli.console import echo
from streamal.cli.experiment_options import split_names
from streamal.cli.options import ConfigOptions, Json, progress_bar, show, with_options
from streamal.cli.workers import stop_on_signals
from streamal.config import Config
from streamal.core.codec.wire_rules import WireRules
from streamal.core.schema import Schema
from streamal.errors import ConfigError, StreamalError
from streamal.exchange.csv_events import CsvEvents, CsvOptions
from streamal.exchange.events import EventReader, Events, JsonEvents, LineFlaw, check_events, read_events
from streamal.exchange.lines import Line, count_lines, follow_file, read_file, read_pipe, split_lines
from streamal.exchange.sender import Sender, find_schema
from streamal.ports import Log

__all__ = ["command", "known_schema"]

_FLAWS_SHOWN = 20
_LOOK_S = 0.2
"""So often a file that grows is looked at."""


class _Kind(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, kw_only=True)
class _SourceOptions:
    """What is read."""

    file: Annotated[Path, typer.Argument(help="A .jsonl or .csv file, either with .gz; - is standard input.")]
    kind: Annotated[
        _Kind | None, typer.Option("--format", "-f", help="By default from the file's name; JSON lines from a pipe.")
    ] = None
    watch: Annotated[bool, typer.Option("--watch", help="Go on with each whole line that is added.")] = False
    skip: Annotated[int, typer.Option("--skip", min=0, metavar="N", help="Leave out the first N lines.")] = 0
    drop: Annotated[str, typer.Option("--drop", metavar="A,B", help="Columns of CSV that are not sent.")] = ""
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Of CSV; by default the one that the header shows.")
    ] = None

    @property
    def is_pipe(self) -> bool:
        """Whether standard input is read."""
        return str(self.file) == "-"

    @property
    def name(self) -> str:
        """The name of what is read, for messages."""
        return "standard input" if self.is_pipe else str(self.file)

    def format(self) -> _Kind:
        """Return the format of the lines."""
        if self.kind is not None:
            return self.kind
        if self.is_pipe:
            return _Kind.JSONL
        name = self.file.name.lower().removesuffix(".gz")
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return _Kind.JSONL
        if name.endswith((".csv", ".tsv")):
            return _Kind.CSV
        raise ConfigError(f"{self.file}: the name ends in neither .jsonl nor .csv; say --format jsonl or --format csv")

    def chunks(self, stop: threading.Event) -> Iterator[bytes]:
        """Yield the bytes until they end, or *stop* is set."""
        if self.is_pipe:
            return read_pipe(sys.stdin.buffer, stop.is_set)
        if self.watch:
            return follow_file(self.file, lambda: stop.wait(_LOOK_S))
        return read_file(self.file)

    def reader(self, rules: WireRules, schema: Schema | None, key: str | None) -> EventReader:
        """Return what makes events of the lines."""
        if self.format() is _Kind.JSONL:
            return JsonEvents(key)
        # nobody waits for the hundredth row of what may never end
        sample_rows = 1 if self.is_pipe or self.watch else 100
        options = CsvOptions(self.name, self.delimiter, frozenset(split_names(self.drop)), key, sample_rows)
        return CsvEvents(rules, schema.kinds if schema else {}, options)

    def keep(self, lines: Sequence[Line]) -> Sequence[Line]:
        """Return *lines* without those that are to be skipped; the header of CSV stays."""
        header = 1 if self.format() is _Kind.CSV else 0
        return [line for line in lines if line.number > self.skip or line.number == header]

    def require(self) -> None:
        """Raise a ConfigError for what cannot be read."""
        kind = self.format()
        if self.watch and (self.is_pipe or self.file.suffix.lower() == ".gz"):
            raise ConfigError("--watch follows a plain file; a pipe is read to its end in any case")
        if self.drop and kind is _Kind.JSONL:
            raise ConfigError("--drop leaves out columns of CSV; JSON lines are sent as they are")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"--delimiter {self.delimiter!r}: one character")
        if not self.is_pipe and not self.file.is_file():
            raise ConfigError(f"{self.file}: no such file")


@dataclass(frozen=True, kw_only=True)
class _RouteOptions:
    """Where the events go, and how fast."""

    rate: Annotated[float | None, typer.Option("--rate", min=0.001, help="Events per second, at most.")] = None
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FIELD", help="Events with the same value of it go to the same partition."),
    ] = None
    partition: Annotated[
        int | None, typer.Option("--partition", min=0, help="Send all to this partition; by default to each in turn.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class _CheckOptions:
    """What happens to a line that the daemon would refuse."""

    strict: Annotated[
        bool, typer.Option("--strict", help="Send nothing of a file with such a line; end a pipe at the first one.")
    ] = False
    check: Annotated[bool, typer.Option("--check/--no-check", help="Look at each line as the daemon will.")] = True


@with_options
def command(
    source: _SourceOptions,
    route: _RouteOptions,
    checks: _CheckOptions,
    configuration: ConfigOptions,
    as_json: Json = False,
) -> None:
    """Send events to the daemon: JSON lines as they are, or the rows of a CSV file.

    A line of JSON is one event: `{"id": 7, "time": 1038965069, "features": {"temp": 19.8}}`; `id` and `time` may be
    left out. In CSV each column is a feature, but for `id` and `time`; a blank cell is a missing feature. A line that
    the daemon would refuse is named and left out, and the exit code is 2. Give it the daemon's own configuration.

    ```text
    streamal send events.jsonl
    streamal send weather.csv --drop label --rate 100
    tail -F app.log | jq -c --unbuffered '{features: {ms, route}}' | streamal send -
    streamal send events.jsonl --watch --key customer
    ```
    """
    source.require()
    if route.key is not None and route.partition is not None:
        raise ConfigError("give --key or --partition, not both")
    if checks.strict and not checks.check:
        raise ConfigError("--strict ends at what the check finds: it does not go with --no-check")
    config = configuration.load()
    transports.ensure_topics(config)
    log, stop = transports.open_log(config), threading.Event()
    stop_on_signals(stop.set)
    sending = _Sending(source, checks, config, known_schema(log, config), stop)
    try:
        if checks.strict and not source.is_pipe and not source.watch:
            sending.require_clean(route.key)
        sender = Sender(log, config.topics.events, route.partition, route.rate, stop.wait)
        sending.run(sender, route.key)
    finally:
        log.close()
    show(f"{source.name} → {transports.describe_transport(config)}", sending.figures(sender.sent), as_json)
    if sending.refused:
        raise typer.Exit(2)


def known_schema(log: Log, config: Config) -> Schema | None:
    """Return the features that the daemon knows: the declared ones, else those that it has found, None before that."""
    features = config.features
    schema = Schema(features.declared, features.unknown, features.open)
    if features.declared:
        return schema
    try:
        return find_schema(log, config.topics.training, schema)
    except ConfigError as error:  # a producer may have no right to read
        echo(f"streamal: warning: lines are checked without the features that the daemon has found: {error}", err=True)
        return None


class _Sending:
    """One run of the command: how far it has come, and what was wrong with the lines."""

    def __init__(
        self,
        source: _SourceOptions,
        checks: _CheckOptions,
        config: Config,
        schema: Schema | None,
        stop: threading.Event,
    ) -> None:
        self._source, self._checks, self._schema, self._stop = source, checks, schema, stop
        self._rules = wire_rules(config)
        self._noted: set[str] = set()
        self.line = self.refused = self.dropped = 0

    def figures(self, sent: int) -> dict[str, int]:
        """Return what a person wants to know in the end; *line* is the last one that was sent or refused."""
        return {"sent": sent, "refused": self.refused, "features_dropped": self.dropped, "line": self.line}

    def require_clean(self, key: str | None) -> None:
        """Read all lines, and raise a ConfigError if the daemon would refuse one; nothing has been sent then."""
        flaws = [flaw for events in self._events(key) for flaw in events.flaws]
        self._name(flaws)
        if flaws:
            raise ConfigError(f"{self._source.name}: {len(flaws)} lines are refused; nothing was sent (--strict)")
        self.refused = 0

    def run(self, sender: Sender, key: str | None) -> None:
        """Send the events as they come."""
        total = None if self._source.is_pipe or self._source.watch else count_lines(self._source.file)
        with progress_bar(f"sending {self._source.name}", total) as progress:
            task = progress.task_ids[0]

            def move_on(line: int) -> None:
                self.line = line
                progress.update(task, completed=line)

            sender.on_sent = move_on
            try:
                for events in self._events(key):
                    self._send(events, sender)
            except StreamalError:
                if sender.sent:
                    where = f"up to line {self.line}; go on with --skip {self.line}"
                    echo(f"streamal: {self._source.name}: {sender.sent} events were sent, {where}", err=True)
                raise

    def _send(self, events: Events, sender: Sender) -> None:
        self._name(events.flaws)
        self.dropped += events.dropped
        if events.flaws and self._checks.strict:
            first = events.flaws[0].line
            sender.send([event for event in events.ready if event.line < first])
            raise ConfigError(f"{self._source.name}, line {first}: the daemon would refuse it (--strict)")
        sender.send(events.ready)
        if events.flaws and not self._stop.is_set():
            sender.on_sent(max(self.line, events.flaws[-1].line))

    def _events(self, key: str | None) -> Iterator[Events]:
        """Yield the events as they come, and say once what a person should know of them."""
        reader = self._source.reader(self._rules, self._schema, key)
        chunks = split_lines(self._source.chunks(self._stop), self._rules.record_bytes_max, whole=self._source.watch)
        for events in read_events(map(self._source.keep, chunks), reader, self._check):
            for note in reader.notes():
                if note not in self._noted:
                    echo(f"streamal: {self._source.name}: {note}", err=True)
                    self._noted.add(note)
            yield events
            if self._stop.is_set():
                return

    def _check(self, events: Events) -> Events:
        return check_events(events, self._rules, self._schema) if self._checks.check else events

    def _name(self, flaws: Sequence[LineFlaw]) -> None:
        """Say what is wrong with the first lines that are refused, and count all of them."""
        for number, flaw in enumerate(flaws, self.refused):
            if number < _FLAWS_SHOWN:
                echo(f"streamal: {self._source.name}, line {flaw.line}: {flaw.reason}", err=True)
            elif number == _FLAWS_SHOWN:
                echo("streamal: further lines are refused; they are counted in the end", err=True)
        self.refused += len(flaws)
