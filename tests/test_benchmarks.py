"""The page of the benchmarks: made from the results, and nothing else. No time is asserted here."""

from __future__ import annotations

import re

import pytest

from benchmarks import page
from benchmarks.core_loop import Case, Loop, as_records, bare_river
from benchmarks.endless import Endless, daemon_over
from benchmarks.results import DIRECTORY, Result, Table, Target, load

RESULTS = load()


def test_the_page_is_what_the_results_say() -> None:
    """Making it again changes nothing: every number on it comes from a run."""
    assert page.page(RESULTS) == page.PAGE.read_text()


def test_every_table_of_the_results_is_whole() -> None:
    """As many cells as columns, in each row; and every result has a machine and is on the page."""
    assert RESULTS
    for name, result in RESULTS.items():
        assert name == result.name
        assert result.machine["Python"]
        assert f"## {result.title}\n" in page.PAGE.read_text()
        for table in result.tables:
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.columns)}, table.title


def test_the_page_links_what_exists() -> None:
    """The picture is there, and every fragment is a heading."""
    text = page.PAGE.read_text()
    headings = {page._anchor(heading) for heading in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target[1:] in headings if target.startswith("#") else (page.PAGE.parent / target).exists(), target


def test_no_path_of_the_machine_is_on_the_page() -> None:
    """It is published."""
    for text in (page.PAGE.read_text(), *(path.read_text() for path in DIRECTORY.glob("*.json"))):
        assert not re.search(r"/(tmp|home|root|work)\b", text)


def test_a_missed_target_comes_first_and_is_called_missed() -> None:
    """Whoever reads only the first lines learns what was not reached, and who was left out."""
    targets = [Target("easy", "≥ 1", "2", reached=True), Target("hard", "≥ 9", "2", reached=False)]
    made = Result("engine", "E", "m", [Table("t", ["a"], [["1"]])], targets, {"Somebody": "not here"})
    text = page.page({"engine": made})
    assert "1 reached, 1 missed" in text
    assert text.index("**missed** | [engine](#e) | hard") < text.index("reached | [engine](#e) | easy")
    assert "* Somebody: not here" in text


@pytest.mark.parametrize("model", ["linear", "text"])
def test_the_core_and_bare_river_learn_the_same(model: str) -> None:
    """What they are compared on is the same work: River alone, given the lessons of the loop, ends up as its model."""
    case = Case(model, batch=100)
    rows, labels = case.events(1_000)
    loop = Loop(case.config(), case.batch)
    lessons = loop.work(as_records(rows), labels)
    assert sum(map(len, lessons)) > 50
    estimator = bare_river(case, rows, labels, lessons)()
    for row in rows[:50]:
        alone = estimator.predict_proba_one(row)
        assert loop.fold.learned.model.predict(row) == pytest.approx({"c0": alone[False], "c1": alone[True]})


def test_the_endless_seat_answers_every_request() -> None:
    """The production loop over it asks a tenth, and learns what it asks."""
    case = Case()
    rows, labels = case.events(1_000)
    transport = Endless(case.config(), as_records(rows), labels)
    daemon, _ = daemon_over(case.config(), transport)
    daemon.start()
    done = 0
    while done < 5_000:
        done += daemon.tick()
    assert 300 < daemon.fold.books.version.records <= transport.learned  # the last step may not be folded yet
    assert len(daemon.fold.books.pending) < 200
