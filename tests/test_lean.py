"""The replays that the honesty of the estimates is measured with: they are the daemon's own, and the intervals hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binom

import streamal
from benchmarks.honesty import rename_classes, replay_once, summary
from benchmarks.lean import lean, require_same
from streamal.config import load_config
from streamal.replay import Stream, read_stream

MAILS = str(Path(streamal.__file__).parent / "data" / "mails.csv.gz")


def mails(limit: int) -> Stream:
    return read_stream(MAILS, "label", "time", limit=limit)


@pytest.mark.parametrize("strategy", ["randomised_variable", "auto", "probabilistic"])
def test_a_lean_replay_is_the_daemons(strategy: str) -> None:
    """Without log and transactions every decision and every estimate is the same."""
    require_same(mails(250), load_config(None, [f"sampling.strategy={strategy}"]))


def test_a_drifted_stream_has_other_names_from_the_middle_on() -> None:
    """Half of the labels are called by the other class's name, and nothing else is changed."""
    before, after = mails(100), rename_classes(mails(100))
    same = [a.label == b.label for a, b in zip(before.rows, after.rows, strict=True)]
    assert same == [True] * 50 + [False] * 50
    assert [row.features for row in before.rows] == [row.features for row in after.rows]


@pytest.mark.slow
@pytest.mark.parametrize("drift", [False, True])
def test_intervals_cover_as_often_as_they_say(drift: bool) -> None:
    """Forty replays of 800 mails: nominal 95 % is not refuted at 1 %, not even where all labels change their names."""
    stream = rename_classes(mails(800)) if drift else mails(800)
    found = summary([replay_once(stream, [], seed) for seed in range(40)])
    assert found["covered_needed"] == binom.ppf(0.01, 40, 0.95) == 34
    assert found["held"], found
    assert found["log_loss_covered"] >= 34, found


def test_the_coins_are_the_seeds() -> None:
    """Another seed asks other events, the same one the same."""
    stream = mails(200)
    first, again, other = (lean(stream, load_config(None, [f"sampling.seed={seed}"])) for seed in (1, 1, 2))
    assert first == again
    assert first.accuracy != other.accuracy
