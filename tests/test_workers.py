"""Several workers under one head: who they are, when they are started again, and that none outlives the head."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamal.cli.workers import RestartDelays, supervise, worker_settings
from streamal.config import Config, load_config
from streamal.errors import ConfigError
from tests.conftest import Cli, environment
from tests.recorded import ListLog

PATIENCE_S = 120.0
ROOT = Path(__file__).parents[1]
CHILD = """
import os, pathlib, sys, time
from streamal.cli.workers import end_with_supervisor, stop_on_signals
kind, place = sys.argv[1], pathlib.Path(sys.argv[2])
def say(what):
    place.with_suffix(".new").write_text(what)
    place.with_suffix(".new").rename(place.with_suffix(".state"))
told = []
stop_on_signals(lambda: told.append(say("told")))
end_with_supervisor()
place.with_suffix(".pid").write_text(str(os.getpid()))
say("working")
while not told or kind == "stuck":
    time.sleep(0.01)
say("ended")
sys.exit(3 if kind == "bad" else 0)
"""
HEAD = """
import sys
from streamal.cli.workers import supervise
from tests.recorded import ListLog
directory, kind, *child = sys.argv[1:]
sys.exit(supervise({str(number): [*child, kind, f"{directory}/{number}"] for number in range(2)}, ListLog()))
"""


class Log(ListLog):
    """A log that ends its process, as an operator would, when *event* was said so many times."""

    def __init__(self, event: str, times: int) -> None:
        super().__init__()
        self._event, self._times = event, times

    def warning(self, event: str, **fields: object) -> None:
        self.info(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        super().info(event, **fields)
        if event == self._event:
            self._times -= 1
            if self._times == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    def all(self, event: str, field: str) -> list[object]:
        return [fields[field] for name, fields in self.said if name == event]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts back what `supervise` changes in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fake(code: str) -> list[str]:
    """Return the command of a worker that is nothing but *code*, after `time` and `sys`."""
    return [sys.executable, "-S", "-c", f"import sys, time\n{code}"]


def kafka_config(**sections: dict[str, object]) -> Config:
    return Config.model_validate({"transport": {"kind": "kafka"}} | sections)


# Seats.


def test_each_worker_has_a_seat_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instance, port and snapshots differ among workers and hosts, and are the same again after a restart."""
    monkeypatch.setattr(socket, "gethostname", lambda: "one host")
    found = worker_settings(kafka_config(), 3)
    assert list(found) == ["one-host-0", "one-host-1", "one-host-2"]
    loaded = [load_config(None, ["transport.kind=kafka", *settings]) for settings in found.values()]
    assert [each.transport.instance for each in loaded] == list(found)
    assert [each.server.port for each in loaded] == [9464, 9465, 9466]
    assert [each.snapshots.directory for each in loaded] == [Path("snapshots", name) for name in found]
    assert worker_settings(kafka_config(), 3) == found
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert not worker_settings(kafka_config(), 3).keys() & found.keys()


def test_a_seat_follows_the_configuration() -> None:
    """A name that is given is used, port 0 stays 0, no snapshots stay none, an odd directory stays as it is."""
    found = worker_settings(kafka_config(transport={"kind": "kafka", "instance": "a"}, server={"port": 0}), 2)
    assert [settings[:2] for settings in found.values()] == [
        [f'transport.instance="a-{number}"', "server.port=0"] for number in range(2)
    ]
    assert len(worker_settings(kafka_config(snapshots={"directory": ""}), 1).popitem()[1]) == 2
    odd = Path('/tmp/8 "ü"')
    settings = worker_settings(kafka_config(snapshots={"directory": str(odd)}), 1).popitem()[1]
    assert getattr(load_config(None, settings).snapshots.directory, "parent", None) == odd


def test_there_are_not_more_workers_than_ports() -> None:
    """It is refused before one of them fails."""
    worker_settings(kafka_config(server={"port": 65_534}), 2)
    with pytest.raises(ConfigError, match=r"server\.port = 65534"):
        worker_settings(kafka_config(server={"port": 65_534}), 3)


def test_one_sqlite_file_has_one_seat(cli: Cli, directory: Path) -> None:
    """`--workers` without Kafka ends with 2 and one line, and starts nothing."""
    (directory / "config.toml").write_text("")
    ended = cli("run", "--workers", "2")
    assert ended.code == 2
    assert "one SQLite file has one worker" in ended.line
    assert [path.name for path in directory.iterdir()] == ["config.toml"]


# Deaths.


def test_a_worker_that_dies_is_started_again() -> None:
    """However it ends, after a pause that doubles up to a bound; the other one is left alone."""
    log = Log("worker_ended", 5)
    sick, well = "import os; os.kill(os.getpid(), 9)", "time.sleep(60)"
    assert supervise({"sick": fake(sick), "well": fake(well)}, log, RestartDelays(0.01, 0.05, 60.0)) == 0
    assert log.all("worker_ended", "again_in_s") == [0.01, 0.02, 0.04, 0.05, 0.05]
    assert set(log.all("worker_ended", "code")) == {-signal.SIGKILL}
    assert log.all("worker_started", "instance").count("well") == 1


def test_a_worker_that_has_worked_is_forgiven() -> None:
    """After a good while its next death counts as the first one."""
    log = Log("worker_ended", 3)
    assert supervise({"w": fake("time.sleep(0.2); sys.exit(1)")}, log, RestartDelays(0.01, 5.0, 0.2)) == 0
    assert log.all("worker_ended", "again_in_s") == [0.01, 0.01, 0.01]


def test_a_wrong_configuration_stops_all() -> None:
    """A worker that ends with 2 is not started again: the others are asked to end, and the head ends with 2."""
    log = Log("never", 1)
    assert supervise({"wrong": fake("sys.exit(2)"), "well": fake("time.sleep(60)")}, log) == 2
    assert log.fields("stopped")["codes"] == {"wrong": 2, "well": -signal.SIGTERM}
    assert log.all("worker_started", "instance") == ["wrong", "well"]


# Signals, to heads that are processes.


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a head over two children of a kind, in a process group of its own, and waits until they work."""
    made: list[subprocess.Popen[bytes]] = []

    def start(kind: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HEAD, str(tmp_path), kind, sys.executable, "-c", CHILD]
        made.append(subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, process_group=0))
        wait_until(lambda: states(tmp_path) == ["working", "working"])
        return made[0]

    yield start
    for process in made:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def states(directory: Path) -> list[str]:
    return [path.read_text() for path in sorted(directory.glob("*.state"))]


def pids(directory: Path) -> list[int]:
    return [int(path.read_text()) for path in directory.glob("*.pid")]


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


Head = Callable[[str], subprocess.Popen[bytes]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_good_order(head: Head, tmp_path: Path, number: int) -> None:
    """Also Ctrl-C, which a terminal sends to the whole group of the head: the workers are told once, by the head."""
    running = head("good")
    os.killpg(running.pid, number)
    assert running.wait(timeout=PATIENCE_S) == 0
    assert states(tmp_path) == ["ended", "ended"]


def test_a_worker_that_ends_badly_is_told_of(head: Head) -> None:
    """Asked to end, the workers end with 3: the head ends with 1."""
    running = head("bad")
    running.terminate()
    assert running.wait(timeout=PATIENCE_S) == 1


def test_a_second_signal_ends_all_at_once(head: Head, tmp_path: Path) -> None:
    """Workers that are busy with their last step are not waited for, and do not go on either."""
    running = head("stuck")
    running.terminate()
    wait_until(lambda: states(tmp_path) == ["told", "told"])
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=PATIENCE_S) == -signal.SIGINT
    wait_until(lambda: not any(alive(pid) for pid in pids(tmp_path)))
    assert states(tmp_path) == ["told", "told"]


BUSY = {
    "a loop": "while True: pass",
    "a call that ends with no signal": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); libc.sleep(60)",
}


@pytest.mark.parametrize("doing", BUSY)
def test_one_signal_ends_a_worker_whatever_it_is_doing(doing: str) -> None:
    """A library that loops, or that waits in C where no handler runs: the process ends at its deadline, with 1."""
    program = (
        "import ctypes, signal\nfrom streamal.cli.workers import stop_on_signals\nlibc = ctypes.CDLL(None)\n"
        f"stop_on_signals(lambda: None, 0.3)\nprint('working', flush=True)\n{BUSY[doing]}"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "working\n"
        time.sleep(0.1)  # so that it is in the midst of it
        running.terminate()
        _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1
    assert said == "streamal: still busy 0.3 s after the signal: ends now; nothing is lost\n"


def test_a_worker_that_cannot_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor waits for it for less than ten seconds."""
    monkeypatch.setattr("streamal.cli.workers._KILL_S", 0.5)
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    log = Log("worker_started", 1)
    began = time.monotonic()
    assert supervise({"deaf": fake(code)}, log) in {0, 1}
    assert time.monotonic() - began < PATIENCE_S


def test_no_worker_outlives_its_head(head: Head, tmp_path: Path) -> None:
    """The head is killed with no chance to say anything: its workers end, in good order."""
    running = head("good")
    running.kill()
    wait_until(lambda: states(tmp_path) == ["ended", "ended"])
    wait_until(lambda: not any(alive(pid) for pid in pids(tmp_path)))
