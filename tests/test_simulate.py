"""`simulate`: producers and annotators for a daemon beside it, through its own topics."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamal.cli import simulate
from streamal.edge.sqlite import SqliteLog
from streamal.errors import StreamalError
from tests.conftest import Cli, environment
from tests.label_world import until
from tests.recorded import rows_of

STREAM = "t,late,x,y\n" + "".join(f"{number},{number + 30},{number % 7},{'ab'[number % 2]}\n" for number in range(40))
QUICK = ("--rate", "1000", "--linger", "0.1", "--json")


def prepare(directory: Path, config: str = "") -> None:
    (directory / "s.csv").write_text(STREAM)
    (directory / "config.toml").write_text(config)


def test_it_sends_every_event(cli: Cli, directory: Path) -> None:
    """Without a daemon it makes the topics, sends all rows in order, and reports that nobody has asked."""
    prepare(directory)
    ended = cli("simulate", "s.csv", "--label", "y", "--drop", "t,late", *QUICK)
    assert json.loads(ended.out) == {"events": 40, "requests": 0, "replies": 0}
    log = SqliteLog("streamal.db")
    events = rows_of(log, "streamal.events")
    log.close()
    assert [event["id"] for event in events] == list(range(40))
    assert all(event["features"] == {"x": float(event["id"] % 7)} for event in events)


def test_it_uses_the_daemons_own_configuration(cli: Cli, directory: Path) -> None:
    """As `run` does, it takes config.toml by default: so both mean the same topics and partitions."""
    prepare(directory, '[transport]\npath = "other.db"\npartitions = 2\n')
    assert cli("simulate", "s.csv", "--label", "y", *QUICK).code == 0
    log = SqliteLog("other.db")
    assert [log.end("streamal.events", partition) for partition in (0, 1)] == [20, 20]
    log.close()


def test_it_needs_a_configuration(cli: Cli, directory: Path) -> None:
    """Without one it would feed a file that no daemon reads."""
    (directory / "s.csv").write_text(STREAM)
    ended = cli("simulate", "s.csv", "--label", "y", *QUICK)
    assert ended.code == 2
    assert "config.toml" in ended.line
    assert not (directory / "streamal.db").exists()


def test_speed_needs_a_time(cli: Cli, directory: Path) -> None:
    """--speed plays by the recorded times, so it has to know which they are."""
    prepare(directory)
    ended = cli("simulate", "s.csv", "--label", "y", "--speed", "10", *QUICK)
    assert ended.code == 2
    assert "--time" in ended.line


def test_it_plays_by_the_recorded_times(cli: Cli, directory: Path) -> None:
    """With --speed the rows keep their distances, so many times faster."""
    prepare(directory)
    ended = cli("simulate", "s.csv", "--label", "y", "--time", "t", "--label-time", "late", "--speed", "200", *QUICK)
    assert ended.code == 0
    log = SqliteLog("streamal.db")
    times = [event["time"] for event in rows_of(log, "streamal.events")]
    log.close()
    assert Counter(round((b - a) * 200, 3) for a, b in itertools.pairwise(times)) == {1.0: 39}


def end_after_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command wait eight times, 160 milliseconds, and then end."""
    naps = itertools.count()

    def nap(seconds: float) -> None:
        if next(naps) == 8:
            sys.exit(0)
        time.sleep(seconds)

    monkeypatch.setattr(simulate, "time", SimpleNamespace(time=time.time, sleep=nap))


def test_it_repeats_with_fresh_ids(cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --repeat the stream begins anew at its end; no id comes twice, not even after a second start."""
    prepare(directory)
    for _ in range(2):
        end_after_naps(monkeypatch)
        assert cli("simulate", "s.csv", "--label", "y", "--drop", "t,late", "--repeat", *QUICK).code == 0
    log = SqliteLog("streamal.db")
    events = rows_of(log, "streamal.events")
    log.close()
    assert len(events) > 2 * 2 * 40
    assert [event["id"] for event in events] == list(range(len(events)))
    assert [event["features"]["x"] for event in events[:41]] == [*(float(n % 7) for n in range(40)), 0.0]
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_an_endless_stream_keeps_its_distances(cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By recorded times, the first row of a round follows the last one as rows follow each other."""
    prepare(directory)
    end_after_naps(monkeypatch)
    assert cli("simulate", "s.csv", "--label", "y", "--time", "t", "--speed", "1000", "--repeat", *QUICK).code == 0
    log = SqliteLog("streamal.db")
    times = [event["time"] for event in rows_of(log, "streamal.events")]
    log.close()
    assert len(times) > 2 * 40
    assert {round((b - a) * 1000, 3) for a, b in itertools.pairwise(times)} == {1.0}


def test_a_stream_that_is_not_there_makes_no_database(cli: Cli, directory: Path) -> None:
    """The stream is read before the topics are made."""
    prepare(directory)
    assert cli("simulate", "gone.csv", "--label", "y").code == 2
    assert not (directory / "streamal.db").exists()


def test_a_sigterm_ends_it_as_first_process(directory: Path) -> None:
    """A container's first process ignores a signal without a handler; so does, here, one that was started so."""
    prepare(directory)
    arguments = ("simulate", "s.csv", "--label", "y", "--rate", "1000", "--linger", "600")
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" TERM; exec "$@"', "sh", sys.executable, "-m", "streamal", *arguments],
        env=dict(environment()),
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: (directory / "streamal.db").exists() and _events(directory) == 40)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def _events(directory: Path) -> int:
    try:
        log = SqliteLog(directory / "streamal.db")
    except StreamalError:
        return 0  # it is just being made
    with contextlib.closing(log):
        return log.end("streamal.events", 0) if log.partitions("streamal.events") else 0
