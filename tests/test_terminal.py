"""`streamal answer`: a labeller for the terminal, over any transport."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from streamal.cli.answer import _render
from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.edge.memory import Broker
from streamal.edge.sqlite import SqliteLog
from streamal.labeling.feed import Feed
from streamal.labeling.keys import CLASS_KEYS, FIND, keys_of
from streamal.labeling.queue import OpenQueue, QueueRules
from streamal.labeling.terminal import CANNOT_TELL, QUIT, SKIP, UNDO, Session
from tests.conftest import Cli, environment
from tests.making import TOPICS, make_request


def make_session(count: int = 3) -> tuple[Session, Broker]:
    """Return a session with so many open requests, the youngest last."""
    broker = Broker()
    for topic in TOPICS:
        broker.create(topic, 1)
    for offset in range(count):
        broker.append("requests", 0, f"0-{offset}".encode(), encode(make_request(offset, asked_at=float(offset))))
    return Session(another_feed(broker), "ada", ["a", "b"], undo_s=5.0), broker


def another_feed(broker: Broker) -> Feed:
    return Feed(broker, TOPICS, "group", OpenQueue(QueueRules()), WireRules(), history=0)


def replies(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in broker.read("labels", 0, 0, 100)]


def asked(session: Session, now: float) -> str | None:
    request = session.question(now)
    return None if request is None else request.request


def test_one_key_answers_and_the_next_question_comes() -> None:
    """The answer before is written with the next one, with its annotator and the seconds of work."""
    session, broker = make_session()
    assert asked(session, 10.0) == "0-0"
    assert "a" in session.press("1", 13.0)
    assert asked(session, 13.0) == "0-1"
    assert replies(broker) == []
    session.press(CANNOT_TELL, 14.0)
    assert replies(broker) == [{"request": "0-0", "annotator": "ada", "seconds": 3.0, "label": "a"}]
    session.finish()
    assert replies(broker)[1]["abstain"] is True
    assert asked(session, 15.0) == "0-2"


def test_undo_takes_the_last_answer_back() -> None:
    """The question comes again and nothing was written; after five seconds it is too late."""
    session, broker = make_session()
    asked(session, 10.0)
    session.press("1", 11.0)
    asked(session, 11.0)
    assert "taken back" in session.press(UNDO, 12.0)
    assert asked(session, 12.0) == "0-0"
    session.press("2", 13.0)
    asked(session, 19.0)
    assert [reply["label"] for reply in replies(broker)] == ["b"]
    assert "nothing to undo" in session.press(UNDO, 20.0)
    assert session.answered == 1


def test_every_class_can_be_chosen() -> None:
    """The tenth has the key 0; those beyond the keys are chosen by name, and one that is not clear answers nothing."""
    classes = [f"kind {number:02}" for number in range(40)]
    session, broker = make_session(4)
    session = Session(another_feed(broker), "ada", classes, undo_s=0.0)
    assert keys_of(classes)["0"] == classes[9]
    assert not set(CLASS_KEYS) & {SKIP, CANNOT_TELL, UNDO, QUIT, FIND, "g"}
    for key in ("0", "/kind 31", "/39"):
        asked(session, 10.0)
        session.press(key, 11.0)
    asked(session, 12.0)
    assert session.press("/kind", 12.0).startswith("40 classes match: kind 00, kind 01")
    assert "no class" in session.press("/other", 12.0)
    session.finish()
    assert [reply["label"] for reply in replies(broker)] == ["kind 09", "kind 31", "kind 39"]


def test_what_is_put_aside_comes_last_and_another_key_does_nothing() -> None:
    """A skip writes nothing: somebody else may answer."""
    session, broker = make_session(2)
    assert asked(session, 10.0) == "0-0"
    assert session.press("9", 10.0) == ""
    session.press(SKIP, 10.0)
    assert asked(session, 10.0) == "0-1"
    session.press(SKIP, 10.0)
    assert asked(session, 10.0) in {"0-0", "0-1"}
    assert replies(broker) == []


def test_what_was_answered_elsewhere_is_not_asked_any_more() -> None:
    """Even while it is on the screen."""
    session, broker = make_session(2)
    assert asked(session, 10.0) == "0-0"
    broker.append("labels", 0, None, b'{"request": "0-0", "label": "a"}')
    assert asked(session, 10.5) == "0-1"


def test_no_control_character_reaches_the_terminal() -> None:
    """Markup is text, and an escape sequence in a feature is shown, not obeyed (F70)."""
    from rich.console import Console

    request = make_request(1)
    request.features["t\x1b]0;x\x07"] = "[red]\x1b[2Jboo[/red]" + "y" * 5_000
    console = Console(width=100, record=True, file=open(os.devnull, "w"), force_terminal=False)  # noqa: SIM115, PTH123
    console.print(_render(request, ["a\x1b[1m"], show_guess=True))
    text = console.export_text()
    console.file.close()
    assert "[red]" in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("y") < 3_000


def test_hidden_features_and_the_guess_are_not_shown(directory: Path, cli: Cli) -> None:
    """As on the label page: what the template hides is not drawn, and the guess only where the page shows it too."""
    from rich.console import Console

    request = make_request(1)
    request.features["customer"] = "Ada"
    console = Console(width=100, record=True, file=open(os.devnull, "w"), force_terminal=False)  # noqa: SIM115, PTH123
    console.print(_render(request, ["a"], hide=("customer",)))
    text = console.export_text()
    console.file.close()
    assert "Ada" not in text
    assert "the model thinks" not in text
    (directory / "config.toml").write_text('[labels]\nclasses = ["a", "b"]\n')
    assert "label_page.show_prediction" in cli("answer", "--show-guess").line


def test_keys_of_a_real_terminal_answer(directory: Path) -> None:
    """A process on a pseudo-terminal: 2, then the name of the first class, then q."""
    (directory / "config.toml").write_text('[labels]\nclasses = ["a", "b"]\n')
    log = SqliteLog(Path("streamal.db"), create=True)
    for role in TOPICS:
        log.create(f"streamal.{role}", 1)
    for offset in range(2):
        request = make_request(offset, asked_at=float(offset), ttl_s=1e12)
        log.append("streamal.requests", 0, request.request.encode(), encode(request))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamal", "answer", "--annotator", "ada"]
    running = subprocess.Popen(command, cwd=directory, env=environment(), stdin=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    assert running.stdout is not None
    assert any(b"quit" in line for line in running.stdout)  # the question is there
    os.write(ours, b"\x1b[1;5C")  # an arrow is no answer
    os.write(ours, b"z")
    os.write(ours, b"2/")
    assert any(b"0-0: b" in line for line in running.stdout)
    os.write(ours, b"x\x7fa\nq")  # backspace corrects a name
    out = running.communicate(timeout=60)[0].decode()
    os.close(ours)
    assert running.returncode == 0
    found = [json.loads(record.value or b"") for record in log.read("streamal.labels", 0, 0, 10)]
    log.close()
    assert [(reply["request"], reply["label"]) for reply in found] == [("0-0", "b"), ("0-1", "a")]
    assert "2 answers" in out
