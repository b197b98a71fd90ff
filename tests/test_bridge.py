"""The bridge to Label Studio, against a fake that behaves as the recorded one; once, slowly, against a real one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.label_studio import FakeLabelStudio, serving
from tests.label_studio_world import Annotators, Office, real_label_studio, run_the_office

_REAL = os.environ.get("STREAMAL_TEST_LABEL_STUDIO", "")


@pytest.fixture
def studio() -> Iterator[tuple[FakeLabelStudio, str]]:
    """A fake Label Studio and its address."""
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
