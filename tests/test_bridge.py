"""The bridge to Label Studio, against a fake that behaves as the recorded one; once, slowly, against a real one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.core.coins import HashedUniform
from streamal.core.records import Example, Expiry, OutputRecord, Request
from streamal.edge.label_studio import LabelStudio
from streamal.edge.memory import Broker
from streamal.errors import ConfigError, ServiceUnavailable, Uncommitted
from streamal.exchange.label_studio import request_task
from streamal.labeling.feed import Feed
from streamal.labeling.label_studio.bridge import Bridge, BridgeRules
from streamal.labeling.label_studio.project import ProjectRules, require_project
from streamal.labeling.queue import OpenQueue, QueueRules
from tests.conftest import Cli
from tests.label_studio import LEGACY, PERSONAL, FakeLabelStudio, serving
from tests.label_studio_world import Annotators, Office, real_label_studio, result_of, run_the_office
from tests.making import TOPICS, make_request

_REAL = os.environ.get("STREAMAL_TEST_LABEL_STUDIO", "")


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeLabelStudio, str]]:
    """A fake Label Studio and its address; failed calls are repeated at once."""
    monkeypatch.setattr("streamal.edge.label_studio._PAUSE_S", 0.0)
    with serving() as given:
        yield given


def check_the_books(office: Office, annotators: Annotators, done: dict[str, int]) -> None:
    """Every answer is on ``labels`` once, edits and deletions after it, and each request was closed once by it."""
    replies, training = office.replies(), office.training()
    assert max(Counter(reply["reply"] for reply in replies).values()) == 1
    first = [reply for reply in replies if "supersedes" not in reply]
    assert Counter(reply["request"] for reply in first) == Counter(office.asked)
    for reply in first:
        assert reply.get("label") == annotators.choice(reply["request"])
        assert reply["seconds"] == 2.5
    assert Counter(row["request"] for row in training) == Counter(office.asked)
    assert {row["request"]: row.get("label") for row in training} == {r["request"]: r.get("label") for r in first}
    by_name = {reply["reply"]: reply for reply in replies}
    later = [reply for reply in replies if "supersedes" in reply]
    assert all(by_name[reply["supersedes"]]["request"] == reply["request"] for reply in later)
    assert sum("label" in reply for reply in later) == done["edits"] > 0
    assert sum(reply.get("abstain", False) for reply in later) == done["deletions"] > 0


RULES = ProjectRules("streamal", ("no", "yes"), (), None, show_prediction=False)


class ForgetfulBroker(Broker):
    """Writes, and then says that it may not have: once, if asked to."""

    forget = False

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        done = super().append_all(outputs)
        if self.forget:
            self.forget = False
            raise Uncommitted("who knows")
        return done


class Desk:
    """Topics in memory, a bridge that can be lost, and a trainer in small: the first answer closes a request."""

    def __init__(self, url: str, token: str = LEGACY, tasks_max: int = 100) -> None:
        self.server, self.broker, self.now = LabelStudio(url, token, 60.0), ForgetfulBroker(), 100.0
        for topic in TOPICS:
            self.broker.create(topic, 1)
        self.rules = BridgeRules(1, TOPICS.labels, tasks_max, 25, 1_000.0)
        self.warned: list[dict[str, Any]] = []
        self.joined = 0
        require_project(self.server, RULES, change=False)
        self.begin()

    def begin(self) -> None:
        """Start a bridge that knows nothing."""
        feed = Feed(self.broker, TOPICS, "group", OpenQueue(QueueRules()), WireRules())

        def task_of(request: Request) -> dict[str, Any]:
            return request_task(request, (), 0.5)

        def warn(event: str, **fields: Any) -> None:
            self.warned.append(fields)

        self.bridge = Bridge(self.server, self.broker, feed, self.rules, task_of, warn)

    def ask(self, *offsets: int, asked_at: float = 50.0) -> None:
        for offset in offsets:
            request = msgspec.structs.replace(make_request(offset), asked_at=asked_at, expires_at=1e9)
            self.broker.append(TOPICS.requests, 0, request.request.encode(), encode(request))

    def expire(self, request: str, asked_at: float = 50.0) -> None:
        self._close(Expiry(request, 0.5, make_request(1).lane, asked_at, self.now))

    def join(self) -> None:
        """Close what was answered; corrections are left alone, as the daemon does now."""
        closed = {row["request"] for row in self.rows(TOPICS.training)}
        for reply in self.replies()[self.joined :]:
            self.joined += 1
            if "supersedes" not in reply and reply["request"] not in closed:
                closed.add(reply["request"])
                said = {"label": reply.get("label", "-"), "reply": reply["reply"]}
                lane = make_request(1).lane
                self._close(
                    Example(reply["request"], said["label"], {}, None, 0.5, lane, 50.0, self.now, reply=said["reply"])
                )

    def _close(self, record: Example | Expiry) -> None:
        self.broker.append(TOPICS.training, 0, record.request.encode(), encode(record))
        self.broker.append(TOPICS.requests, 0, record.request.encode(), None)

    def cycle(self, seconds: float = 1.0) -> Counter[str]:
        self.now += seconds
        return self.bridge.cycle(self.now)

    def rows(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"null") for record in self.broker.read(topic, 0, 0, 100_000)]

    def replies(self) -> list[dict[str, Any]]:
        return self.rows(TOPICS.labels)


@pytest.fixture
def desk(studio: tuple[FakeLabelStudio, str]) -> Iterator[tuple[Desk, FakeLabelStudio, Annotators]]:
    """A bridge on topics in memory, its fake, and the people at it."""
    made, annotators = Desk(studio[1]), Annotators(studio[1])
    yield made, studio[0], annotators
    annotators.close()
    made.server.__exit__(None, None, None)


Given = tuple[Desk, FakeLabelStudio, Annotators]


def requests_of(fake: FakeLabelStudio) -> list[str]:
    return sorted(task["data"]["request"] for task in fake.tasks.values())


def test_a_task_tells_what_is_asked_and_why(desk: Given) -> None:
    """Coordinates, features and reasons, and the guess with 1 - priority as its score; the project hides the guess."""
    made, fake, _ = desk
    made.ask(7)
    assert made.cycle() == {"asked": 1}
    task = fake.tasks[1]
    assert task["data"]["request"] == "0-7"
    assert task["data"]["features"] == make_request(7).features
    assert task["meta"]["asked_at"] == 50.0
    assert task["predictions"][0]["score"] == 0.5
    assert fake.projects[1]["show_collab_predictions"] is False
    assert fake.projects[1]["sampling"] == "Uncertainty sampling"


def test_a_text_stands_apart_and_a_truth_value_is_text() -> None:
    """Label Studio's table shows a truth value as a blank (seen in a browser)."""
    request = msgspec.structs.replace(make_request(1), features={"x": 1.5, "new": True, "mail": "hello"})
    assert request_task(request, ("mail",), 1.0)["data"] == {
        "request": "0-1",
        "features": {"x": 1.5, "new": "true"},
        "text_mail": "hello",
    }


def test_what_is_closed_elsewhere_is_withdrawn(desk: Given) -> None:
    """An expired request's task is deleted, an answered one stays, and so does a task that somebody made by hand."""
    made, fake, people = desk
    made.ask(1, 2)
    made.cycle()
    fake.tasks[77] = {**fake.tasks[1], "id": 77, "data": {"text": "mine"}, "meta": {}, "annotations": []}
    fake.tasks[78] = {**fake.tasks[1], "id": 78, "meta": {"asked_at": 3.0}, "annotations": []}  # of another database
    people.answer(fake.tasks[2])
    made.expire("0-1")
    assert made.cycle()["withdrawn"] == 1
    made.join()
    made.cycle(2_000.0)
    assert sorted(fake.tasks) == [2, 77, 78]
    assert [reply["request"] for reply in made.replies()] == ["0-2"]


def test_an_answer_just_before_the_withdrawal_is_not_lost(desk: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge looks once more before it deletes a task; what was submitted meanwhile is told by the next cycle."""
    made, fake, people = desk
    made.ask(1)
    made.cycle()
    made.expire("0-1")
    look = made.server.tasks

    def late(project: int, after: int, since: str | None, count: int) -> Sequence[Any]:
        if count == 1:  # the last look
            people.answer(fake.tasks[1])
        return look(project, after, since, count)

    monkeypatch.setattr(made.server, "tasks", late)
    made.cycle()
    monkeypatch.undo()
    made.cycle()
    assert [reply["request"] for reply in made.replies()] == ["0-1"]


def test_no_more_than_tasks_max_wait(studio: tuple[FakeLabelStudio, str]) -> None:
    """The most valuable come first; the next when one is answered."""
    made, people = Desk(studio[1], tasks_max=3), Annotators(studio[1])
    made.ask(*range(10))
    assert made.cycle()["asked"] == 3
    people.answer(people.tasks()[0])
    assert made.cycle()["asked"] == (people.choice("0-0") is not None)
    people.close()
    made.server.__exit__(None, None, None)


@pytest.mark.parametrize("fault", ["lost", "dropped", 503, 429])
def test_an_import_of_unknown_outcome_doubles_no_task(desk: Given, fault: str | int) -> None:
    """Whether or not the tasks were made before the connection went: each request has one in the end."""
    made, fake, _ = desk
    made.ask(1, 2, 3)
    fake.faults.append(("POST /api/projects/1/import", lambda: fault))
    with pytest.raises(ServiceUnavailable) as raised:
        made.cycle()
    assert raised.value.after_s == (1.0 if fault == 429 else 0.0)
    made.cycle()
    assert requests_of(fake) == ["0-1", "0-2", "0-3"]


def test_a_task_that_was_made_twice_is_taken_back(desk: Given) -> None:
    """An import that took effect after its bridge was dead leaves one task too many, and not for long."""
    made, fake, _ = desk
    made.ask(1)
    made.cycle()
    fake.tasks[9] = {**fake.tasks[1], "id": 9, "annotations": []}
    made.cycle(2_000.0)
    assert sorted(fake.tasks) == [1]


def test_a_task_that_somebody_deleted_is_asked_again(desk: Given) -> None:
    """Its request is still open; a whole comparison finds that out."""
    made, fake, _ = desk
    made.ask(1)
    made.cycle()
    del fake.tasks[1]
    assert made.cycle(2_000.0)["asked"] == 1


def test_an_unclear_annotation_is_told_once_and_answers_nothing(desk: Given) -> None:
    """Two choices, or none, are no label."""
    made, fake, people = desk
    made.ask(1)
    made.cycle()
    people.answer(fake.tasks[1])
    fake.tasks[1]["annotations"][0] |= {"result": result_of("no") + result_of("yes"), "was_cancelled": False}
    made.cycle()
    made.cycle()
    assert made.replies() == []
    assert [told["request"] for told in made.warned] == ["0-1"]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_when_every_answer_is_there_once(desk: Given, seed: int) -> None:
    """Faults of both sides, lost bridges, edits and deletions in random order; then the books are right."""
    made, fake, people = desk
    coin, numbers = HashedUniform(seed, "bridge"), iter(range(10_000))
    faults = [
        ("GET", 500),
        ("GET", "dropped"),
        ("POST /api/projects", "lost"),
        ("DELETE /api/tasks", "lost"),
        ("DELETE /api/tasks", 502),
    ]

    def one_of(count: int) -> int:
        return int(coin.uniform(str(next(numbers))) * count)

    for step in range(60):
        match one_of(6):
            case 0:
                made.ask(*range(3 * step, 3 * step + 3))
            case 1 | 2 if fake.tasks:
                people.answer(list(fake.tasks.values())[one_of(len(fake.tasks))])
            case 3 if annotations := fake.annotations():
                number = list(annotations)[one_of(len(annotations))]
                people.edit(number, "yes") if one_of(2) else people.delete(number)
            case 4:
                prefix, what = faults[one_of(len(faults))]
                fake.faults.append((prefix, lambda what=what: what))  # type: ignore[misc]
            case 5:
                made.begin()
                made.broker.forget = bool(one_of(2))
        try:
            made.cycle(one_of(700))
        except (ServiceUnavailable, Uncommitted):
            continue
        made.join()
    fake.faults.clear()
    for _ in range(10):
        made.cycle(2_000.0)
        made.join()
    replies = made.replies()
    assert replies, "nothing happened"
    assert max(Counter(reply["reply"] for reply in replies).values()) == 1
    last = {(reply["request"], reply["reply"].split("-")[1]): reply for reply in replies}
    for task, annotation in fake.annotations().values():
        said = annotation["result"][0]["value"]["choices"][0] if annotation["result"] else None
        assert last.pop((task["data"]["request"], str(annotation["id"]))).get("label") == said
    there = set(requests_of(fake))
    assert all(reply["reply"].endswith("-deleted") for (request, _), reply in last.items() if request in there)
    closed = {row["request"] for row in made.rows(TOPICS.training)}
    assert all(task["annotations"] for task in fake.tasks.values() if task["data"]["request"] in closed)
    unanswered = Counter(task["data"]["request"] for task in fake.tasks.values() if not task["annotations"])
    assert set(unanswered.values()) <= {1}


def test_a_personal_token_is_refreshed(studio: tuple[FakeLabelStudio, str]) -> None:
    """Access ends after minutes; the bridge asks for more, and goes on."""
    made = Desk(studio[1], PERSONAL)
    studio[0].access += 1
    made.ask(1)
    assert made.cycle() == {"asked": 1}
    made.server.__exit__(None, None, None)


def test_differences_are_shown_and_mended_on_request(studio: tuple[FakeLabelStudio, str]) -> None:
    """A project of other classes cannot be used; --change puts our interface in its place."""
    fake, url = studio
    with LabelStudio(url, LEGACY) as server:
        made, differences = require_project(server, RULES, change=False)
        assert (made.number, made.control, made.object_name, differences) == (1, "label", "features", [])
        fake.projects[1]["sampling"] = "Sequential sampling"
        assert "Uncertainty sampling" in require_project(server, RULES, change=False)[1][0]
        other = RULES._replace(classes=("no", "yes", "maybe"))
        with pytest.raises(ConfigError, match="maybe"):
            require_project(server, other, change=False)
        assert require_project(server, other, change=True)[1] == []
        assert require_project(server, RULES._replace(name="1", classes=other.classes), change=False)[0].number == 1
        with pytest.raises(ConfigError, match="404"):
            require_project(server, RULES._replace(name="44"), change=False)


def test_a_wrong_token_is_one_line_without_the_token(
    cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2; so without any token, with one in the file, and without classes. Nobody there is 1 with --once."""
    (directory / "config.toml").write_text('[labels]\nclasses = ["no", "yes"]\n')
    bridge = ("bridge", "label-studio", "--once", "--set")
    with serving() as (_, url):
        assert "STREAMAL_BRIDGE__TOKEN" in cli(*bridge, f"bridge.url={url}").line
        assert cli(*bridge, "bridge.token=hunter2").code == 2
        monkeypatch.setenv("STREAMAL_BRIDGE__TOKEN", "hunter2")
        ended = cli(*bridge, f"bridge.url={url}")
        assert ended.code == 2
        assert "401" in ended.line
        assert "hunter2" not in ended.line
        assert "labels.classes" in cli(*bridge, "labels.classes=[]").line
    ended = cli(*bridge, f"bridge.url={url}")
    assert ended.code == 1
    assert url in ended.line


def test_kill_9_loses_no_answer_and_doubles_none(directory: Path, studio: tuple[FakeLabelStudio, str]) -> None:
    """30 requests out, 30 answers back with skips, edits and deletions, the bridge killed on the way."""
    fake, url = studio
    office, annotators = Office(directory, url, 30), Annotators(url)
    try:
        done = run_the_office(office, annotators, kills=1)
        assert done["kills"] == 1
        check_the_books(office, annotators, done)
        office.until(lambda: all(task["annotations"] for task in fake.tasks.values()))  # the useless ones are withdrawn
        assert office.stop_bridge() == 0
    finally:
        annotators.close()
        office.close()


@pytest.mark.slow
def test_kill_9_on_a_real_label_studio(directory: Path) -> None:
    """200 requests out, 200 answers back with skips, edits and deletions, kill -9 of the bridge five times.

    STREAMAL_TEST_LABEL_STUDIO names the `label-studio` of an environment with `pip install label-studio==1.23.*`.
    """
    if not _REAL:
        pytest.skip("STREAMAL_TEST_LABEL_STUDIO is not set")
    with real_label_studio(Path(_REAL), directory) as url:
        office, annotators = Office(directory, url, 200), Annotators(url)
        try:
            done = run_the_office(office, annotators, kills=5)
            assert done["kills"] == 5
            check_the_books(office, annotators, done)
            office.until(lambda: all(task["annotations"] for task in annotators.tasks()))
            assert office.stop_bridge() == 0
        finally:
            annotators.close()
            office.close()
