"""Gain over random: two small models, as many labels each, compared on the audit lane's events."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from streamal.config import Config
from streamal.core.codec.events import encode
from streamal.core.fold import Fold
from streamal.core.model.model import LabelRules, Model
from streamal.core.quality.gain import RandomControl
from streamal.core.records import Example, Lane
from streamal.replay import Stream, read_stream, replay
from tests.making import BAYES, make_fold


def control(window: int = 1_000) -> RandomControl:
    rules = LabelRules(("a", "b"))
    return RandomControl(Model(BAYES(), rules), Model(BAYES(), rules), window)


def example(offset: int, x: float, lane: Lane) -> Example:
    return Example(f"0-{offset}", "ab"[x > 0.9], {"x": x}, "a", 0.1, lane, float(offset), float(offset))


def test_both_models_learn_as_many_labels() -> None:
    """Whatever the lanes' order: one label each for every audit label, so that only the choice differs."""
    random, compared = np.random.default_rng(1), control()
    for offset in range(400):
        lane = Lane.AUDIT if random.random() < 0.3 else Lane.STRATEGY
        compared.fold(example(offset, float(random.random()), lane), {"x": float(random.random())})
        assert sum(compared.random.learned.values()) == sum(compared.chosen.learned.values())
    assert sum(compared.random.learned.values()) > 80


def test_a_choice_that_teaches_more_is_seen_to() -> None:
    """Labels around the boundary, where nearly all audits are far from it: the gain is above 0, and so is its interval.

    Labels of the strategy lane that are drawn just as the audit lane's gain nothing.
    """
    found = {}
    for chosen in (True, False):
        random, compared = np.random.default_rng(5), control()
        for offset in range(3_000):
            audit = offset % 4 == 0
            x = float(random.random()) ** (1 if audit or not chosen else 0.25)
            compared.fold(example(offset, x, Lane.AUDIT if audit else Lane.STRATEGY), {"x": x})
        found[chosen] = compared.gain()
    gained, plain = found[True], found[False]
    assert gained is not None
    assert plain is not None
    assert gained.low > 0.0
    assert plain.low < 0.0 < plain.high


def test_nothing_is_known_without_audits_and_little_with_few() -> None:
    """No audit label, no figure; a handful without a difference prove nothing."""
    compared = control()
    compared.fold(example(0, 0.5, Lane.STRATEGY), {"x": 0.5})
    assert compared.gain() is None
    for offset in range(5):
        compared.fold(example(offset, 0.5, Lane.AUDIT), {"x": 0.5})
    gain = compared.gain()
    assert gain is not None
    assert gain.value == 0.0
    assert gain.low < -0.2 < 0.2 < gain.high


@pytest.mark.parametrize("cut", [0, 7, 30])
def test_a_control_is_the_same_in_every_replica_and_from_every_snapshot(cut: int) -> None:
    """I4: a fold like the model itself; a pickled one goes on as the original does."""
    records = [encode(example(i, i % 10 / 10, Lane.AUDIT if i % 3 == 0 else Lane.STRATEGY)) for i in range(40)]

    def folded(fold: Fold, first: int, end: int) -> Fold:
        for offset in range(first, end):
            fold.apply_training(offset, records[offset])
        return fold

    def fresh() -> Fold:
        fold = make_fold(kinds={"x": "number"})
        fold.learned.control = control()
        return fold

    whole = folded(fresh(), 0, 40)
    resumed = folded(pickle.loads(pickle.dumps(folded(fresh(), 0, cut))), cut, 40)
    original, restored = whole.learned.control, resumed.learned.control
    assert original is not None
    assert restored is not None
    assert original.gain() == restored.gain() is not None
    for one, other in ((original.random, restored.random), (original.chosen, restored.chosen)):
        assert one.learned == other.learned
        assert [one.predict({"x": x / 10}) for x in range(10)] == [other.predict({"x": x / 10}) for x in range(10)]
    quality, again = whole.learned.quality, resumed.learned.quality
    assert quality.accuracy() == again.accuracy()
    assert (quality.total_accuracy(), quality.recalls()) == (again.total_accuracy(), again.recalls())


def test_a_control_changes_no_prediction() -> None:
    """Switched on or off, what the daemon predicts and asks is the same."""
    phishing = read_stream("river:Phishing", "target")
    stream = Stream("s", phishing.rows[:400], phishing.kinds, phishing.classes)
    off, on = (replay(stream, Config.model_validate({"quality": {"control": switch}})) for switch in (False, True))
    assert (off.correct, off.asked) == (on.correct, on.asked)


def test_a_confidence_sequence_needs_an_audit_lane() -> None:
    """Without one there is no least propensity for it to rest on."""
    with pytest.raises(ValueError, match=r"budget\.audit_share"):
        Config.model_validate({"quality": {"interval": "confidence_sequence"}, "budget": {"audit_share": 0}})
