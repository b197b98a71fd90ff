"""Poison: an event or an example that kills the process (F35). The models kill processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.records import OffsetAndMetadata, Record, TopicPartition
from streamal.core.state import PartitionState, TrainerState, decode_state, encode_state
from streamal.daemon.poison import Poison
from streamal.daemon.quarantine import quarantine_example
from streamal.edge.sqlite import SqliteLog
from streamal.edge.step_notes import FileNotes
from streamal.errors import InconsistentLog, Uncommitted
from streamal.ports import scan
from tests.conftest import Cli, environment
from tests.recorded import World, make_config

ROOT = Path(__file__).parents[1]
EVENTS = TopicPartition("events", 0)

KILLERS = '''
"""A model that kills the process at the event whose x is 666, in the way that the environment names."""
import os, time
from river import base, dummy

class Killer(base.Classifier):
    def __init__(self): self.inner = dummy.PriorClassifier()
    def _die(self, x):
        if x.get("x") == 666.0:
            how = os.environ["HOW"]
            if how == "exit": os._exit(9)
            if how == "loop": time.sleep(3600)
            if how == "memory":
                self.kept = []
                while True: self.kept.append(bytearray(1 << 20))
    def learn_one(self, x, y):
        if os.environ.get("WHEN", "predict") == "learn": self._die(x)
        self.inner.learn_one(x, y)
    def predict_proba_one(self, x):
        if os.environ.get("WHEN", "predict") == "predict": self._die(x)
        return self.inner.predict_proba_one(x)

def build(): return Killer()
'''

CONFIG = """
[transport]
poll_timeout_s = 0.02
[features]
declared = { x = "number" }
[labels]
classes = ["no", "yes"]
[model]
factory = "killers:build"
warm_start = "warm.csv"
warm_start_label = "label"
[budget]
share = 1.0
[server]
enabled = false
[limits]
events_per_step = 8
step_max_s = 3
"""


class Timer:
    """A timer that only notes that it was armed."""

    armed = 0

    def arm(self, seconds: float) -> None:
        self.armed += 1

    def disarm(self) -> None:
        self.armed = 0


def events(*offsets: int) -> list[Record]:
    return [Record("events", 0, offset, None, b"{}") for offset in offsets]


def owned(offset: int, state: PartitionState | None = None) -> dict[TopicPartition, OffsetAndMetadata]:
    return {EVENTS: OffsetAndMetadata(offset, "" if state is None else encode_state(state))}


def deaths(state: OffsetAndMetadata) -> int:
    decoded = decode_state(state.metadata, PartitionState)
    return 0 if decoded is None else decoded.deaths


def live(path: Path, committed: dict[TopicPartition, OffsetAndMetadata]) -> Poison:
    """Return the notes of a new life, which has taken *committed* over and committed what that counted."""
    poison = Poison(FileNotes(path), Timer(), attempts=3, step_max_s=60.0)
    poison.load()
    committed.update(poison.take_over(committed, "events"))
    poison.forget_deaths(committed)
    return poison


def test_three_deaths_at_one_offset_make_a_worker_careful_and_the_fourth_names_the_event(tmp_path: Path) -> None:
    """Each life that finds the note counts one death beside the offset; a careful death is the killer's."""
    path, committed = tmp_path / "note", owned(5)
    for count in range(3):
        poison = live(path, committed)
        assert (deaths(committed[EVENTS]), poison.careful) == (count, False)
        poison.begin(events(5, 6, 7))  # and the process dies
    poison = live(path, committed)
    assert (deaths(committed[EVENTS]), poison.careful) == (3, True)
    poison.begin(events(5))
    poison.end()
    state = decode_state(committed[EVENTS].metadata, PartitionState)
    committed[EVENTS] = OffsetAndMetadata(6, encode_state(state or PartitionState()))
    poison.look(committed, "events")
    poison.begin(events(6))  # and dies
    poison = live(path, committed)
    assert poison.killers == {EVENTS: {6}}
    committed[EVENTS] = OffsetAndMetadata(8, encode_state(PartitionState()))
    poison.look(committed, "events")
    assert (poison.killers, poison.careful) == ({EVENTS: set()}, False)


def test_a_death_counts_until_it_is_committed(tmp_path: Path) -> None:
    """A commit that fails is tried again with the same count; one that succeeded is not counted twice."""
    path, committed = tmp_path / "note", owned(5)
    live(path, committed).begin(events(5))
    poison = Poison(FileNotes(path), Timer(), attempts=3, step_max_s=60.0)
    poison.load()
    for _ in range(2):  # the first of them could not be committed
        counted = poison.take_over(committed, "events")
        assert deaths(counted[EVENTS]) == 1
    committed.update(counted)
    poison.forget_deaths(committed)
    assert poison.take_over(committed, "events") == {}


def test_a_good_end_leaves_no_death(tmp_path: Path) -> None:
    """A process that dies between two steps has died of nothing that it noted."""
    path, committed = tmp_path / "note", owned(5)
    poison = live(path, committed)
    poison.begin(events(5))
    poison.end()
    live(path, committed)
    assert deaths(committed[EVENTS]) == 0


def test_another_owner_goes_on_counting(tmp_path: Path) -> None:
    """The deaths stand beside the offset: a second worker does not begin at zero."""
    committed = owned(5)
    for name in ("one", "two", "one"):
        live(tmp_path / name, committed).begin(events(5, 6))
    live(tmp_path / "two", committed).begin(events(5, 6))
    assert live(tmp_path / "one", committed).careful


def test_a_note_that_cannot_be_read_is_no_note(tmp_path: Path) -> None:
    """The note is advice: torn, foreign or absent, the worker starts all the same."""
    for junk in (b"", b"{", b'{"events": 7}\n', b"\xff\n", b"[" * 100_000):
        (tmp_path / "note").write_bytes(junk)
        assert not live(tmp_path / "note", owned(5)).careful
    FileNotes(tmp_path / "note" / "below-a-file").write(b"{}", durable=True)


def test_one_timer_is_good_for_many_steps(tmp_path: Path) -> None:
    """A new timer costs a thread, so the loop does not start one for each step."""
    timer = Timer()
    poison = Poison(FileNotes(tmp_path / "note"), timer, attempts=3, step_max_s=60.0)
    for offset in range(100):
        poison.beat()
        poison.begin(events(offset))
        poison.end()
    assert timer.armed == 1


def run_until_idle(directory: Path, lives_max: int, **how: str) -> int:
    """Start `streamal run` again and again, as a supervisor does, until all is consumed; return how often it died."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "
        "from streamal.__main__ import main; sys.argv = ['streamal', 'run']; main()"
    )
    for died in range(lives_max):
        with (directory / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=directory,
                env=environment(PYTHONPATH=f"{directory}:{ROOT}", **how),
                stderr=stderr,
            )
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.3)
                if process.returncode is None and lag(directory) == 0:
                    process.send_signal(signal.SIGTERM)
        text = (directory / "stderr").read_text()
        if process.returncode == 0:
            return died
    pytest.fail(f"it died {lives_max} times; at last it said: {text[-2000:]}")


def lag(directory: Path) -> int:
    log = SqliteLog(directory / "streamal.db")
    try:
        config = load_config(directory / "config.toml")
        committed = log.committed(config.transport.group)
        topics = config.topics
        at = committed.get(TopicPartition(topics.events, 0))
        return log.end(topics.events, 0) - (at.offset if at else 0)
    finally:
        log.close()


@pytest.fixture
def world() -> World:
    return World(make_config(budget={"share": 1}))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with twelve events, the seventh of which kills."""
    (tmp_path / "killers.py").write_text(KILLERS)
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "warm.csv").write_text("x,label\n1,yes\n2,no\n")  # a model that has learned nothing is not asked
    log = SqliteLog(tmp_path / "streamal.db", create=True)
    topics = load_config(tmp_path / "config.toml").topics
    for topic in topics.model_dump().values():
        log.create(topic, 1)
    for number in range(12):
        x = 666.0 if number == 6 else float(number)
        log.append(topics.events, 0, None, json.dumps({"features": {"x": x}}).encode())
    log.close()
    return tmp_path


@pytest.mark.parametrize("how", ["exit", *(pytest.param(how, marks=pytest.mark.slow) for how in ("memory", "loop"))])
def test_an_event_that_kills_gets_a_dead_letter_and_the_others_their_predictions(
    place: Path, how: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three deaths the worker is careful, after the fourth it leaves the one event out; no other is lost."""
    assert run_until_idle(place, 8, HOW=how) == 4
    log = SqliteLog(place / "streamal.db")
    topics = load_config(place / "config.toml").topics
    predicted = [json.loads(r.value or b"")["event"] for r in scan(log, topics.predictions, 0)]
    letters = [json.loads(r.value or b"") for r in scan(log, topics.dead_letters, 0)]
    log.close()
    assert predicted == [f"0-{number}" for number in range(12) if number != 6]
    assert [(one["offset"], one["reason"]) for one in letters] == [(6, "killed_the_worker")]
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    assert cli("verify").code == 0


def test_a_quarantined_example_is_learned_by_nobody(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died while it learned names the offset; after `quarantine` all go on, and `verify` is green."""
    how = {"HOW": "exit", "WHEN": "learn"}
    assert run_until_idle(place, 2, **how) == 0
    topics = load_config(place / "config.toml").topics
    log = SqliteLog(place / "streamal.db")
    for number in (3, 6, 8):
        log.append(topics.labels, 0, None, msgspec.json.encode({"request": f"0-{number}", "label": "yes"}))
    log.close()
    died = subprocess.run(
        [sys.executable, "-m", "streamal", "run"],
        cwd=place,
        env=environment(PYTHONPATH=f"{place}:{ROOT}", **how),
        check=False,
        timeout=120,
    )
    assert died.returncode == 9
    again = subprocess.run(
        [sys.executable, "-m", "streamal", "run"],
        cwd=place,
        env=environment(PYTHONPATH=f"{place}:{ROOT}", **how),
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    assert again.returncode == 9
    said = [json.loads(line) for line in again.stderr.splitlines() if b"died_while_learning" in line]
    offset = said[0]["training_offset"]
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("HOW", "exit")
    assert cli("quarantine", "999", "--why", "no example").code == 2
    assert cli("quarantine", str(offset), "--why", "it crashes").code == 0
    log = SqliteLog(place / "streamal.db")
    log.append(topics.events, 0, None, b'{"features": {"x": 1.0}}')
    log.close()
    assert run_until_idle(place, 2, **how) == 0
    monkeypatch.setenv("WHEN", "learn")
    result = cli("verify")
    assert result.code == 0, result.out


def test_a_quarantine_changes_no_other_count_of_the_trainer() -> None:
    """The order is one more record of the log; what else the trainer has counted stays."""
    state = TrainerState(4, 7, 1, unknown=3)
    assert state.with_record() == TrainerState(4, 8, 1, unknown=3)


def test_a_state_that_is_lost_is_not_made_anew_by_an_order(world: World) -> None:
    """An offset without its state stops the command as it stops a worker (F61): nothing is written."""
    daemon = world.daemon()
    rules = build(world.config).rules
    daemon.start()
    world.event({"x1": 1.0})
    world.drain(daemon)
    world.reply("0-0", "no")
    world.drain(daemon)
    training = world.broker.end(world.topics.training, 0)
    offset = next(r.offset for r in scan(world.broker, world.topics.training, 0) if b'"example"' in (r.value or b""))
    transport = world.transport()
    transport.poll({}, 0.0)
    transport.commit([], {place: at._replace(metadata="") for place, at in transport.assignment()[1].items()})
    with pytest.raises(InconsistentLog, match="no state is committed"):
        quarantine_example(transport, rules, offset, "it crashes", 0.0)
    assert world.broker.end(world.topics.training, 0) == training


def test_the_timer_is_told_of_the_loop_in_bad_weather_too(world: World, tmp_path: Path) -> None:
    """A broker that is away lets no step begin; a loop that waits for it is alive all the same."""
    daemon = world.daemon()
    daemon.start()
    daemon.poison = Poison(FileNotes(tmp_path / "note"), timer := Timer(), attempts=3, step_max_s=0.0)
    daemon.sleep = lambda _: None

    def fail(*_: object) -> None:
        raise Uncommitted("the cluster is away")

    daemon._transport.poll = fail  # type: ignore[method-assign,assignment]
    for _ in range(5):
        daemon.tick()
    assert timer.armed == 5
