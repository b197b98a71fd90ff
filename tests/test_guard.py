"""One example cannot kill the model: what it breaks is taken back, by every worker alike (0.4, 0.5, I4)."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, linear_model, multiclass, naive_bayes, optim, preprocessing

from streamal.bootstrap import build
from streamal.core.codec.events import decode_event
from streamal.core.codec.wire_rules import WireRules
from streamal.core.coins import HashedUniform
from streamal.core.model.guard import ModelGuard
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.rehearsal import Rehearsal, WeightedExample
from streamal.core.model.slim_pickle import dumps, loads
from streamal.errors import ConfigError
from streamal.inspection.verify.verify import verify
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.recorded import ListSnapshots, World, easy_stream, make_config, predictions_of, rows_of, sums_to_one

AB = LabelRules(("a", "b"))
ESTIMATORS: Mapping[str, Callable[[], Any]] = {
    "logistic": linear_model.LogisticRegression,
    "scaled logistic": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "scaled softmax": lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(),
    "one against the rest": lambda: (
        preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    ),
    "naive bayes": naive_bayes.GaussianNB,
}


def examples(count: int, seed: int = 1) -> list[WeightedExample]:
    """Return learnable examples of two classes, in no regular order."""
    coin = HashedUniform(seed, "lessons")
    found = []
    for number in range(count):
        label = "ab"[coin.uniform(f"{number} label") < 0.5]
        x, y = (4.0 * coin.uniform(f"{number} {name}") for name in "xy")
        found.append(WeightedExample({"x": x + (label == "b"), "y": y}, label))
    return found


def train(
    estimator: Any, stream: Sequence[WeightedExample], rehearsal: Rehearsal | None = None
) -> tuple[Model, ModelGuard]:
    """Return model and guard after *stream*; examples are called by their numbers."""
    model, guard = Model(estimator, AB), ModelGuard(rehearsal)
    for number, example in enumerate(stream):
        model = guard.learn(model, example, str(number))
    return model, guard


def answers(model: Model) -> list[dict[str, float]]:
    return [model.raw(example.features) for example in examples(10, seed=2)]


# 0.4: one example that is the end of a model.


@pytest.mark.parametrize("at", [0, 3, 7, 8, 15, 100])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, 1e200, 1e155])
def test_trap_0_4_an_example_that_kills_a_scaler_is_left_out(value: float, at: int) -> None:
    """Wherever it comes, and though 1e155 kills one or two examples later only: it alone is found, and all is well."""
    stream = examples(150)
    clean, _ = train(ESTIMATORS["scaled logistic"](), stream)
    stream.insert(at, WeightedExample({"x": value, "y": 1.0}, "a"))
    model, guard = train(ESTIMATORS["scaled logistic"](), stream)
    assert (guard.quarantined, list(guard.names), guard.sick) == (1, [str(at)], False)
    assert answers(model) == answers(clean)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_trap_0_4_a_nan_leaves_no_model_without_an_answer(name: str) -> None:
    """Among them those that would say NaN for ever after; wire lets none through, the guard would catch it."""
    stream = examples(100)
    clean, _ = train(ESTIMATORS[name](), stream)
    stream[50:50] = [WeightedExample({"x": math.nan, "y": 1.0}, "b")] * 2
    model, guard = train(ESTIMATORS[name](), stream)
    assert all(math.isfinite(p) for answer in answers(model) for p in answer.values())
    if guard.quarantined:
        assert (list(guard.names), answers(model)) == (["50", "51"], answers(clean))
    else:
        assert name == "naive bayes"


def test_trap_0_4_a_nan_never_comes_so_far() -> None:
    """The first guard is the decoder: an event with a NaN is no event."""
    decoded = decode_event(0, 0, b'{"features": {"x": NaN}}', WireRules(), None)
    assert getattr(decoded, "reason", None) == "not_json"


def test_many_killers_are_all_found() -> None:
    """Every one of them, one after the other or apart; where two do their damage together, neighbours may go too."""
    stream = examples(400)
    for at in (390, 200, 199, 64, 10, 9):
        stream.insert(at, WeightedExample({"x": -1e300, "y": 1e300}, "b"))
    model, guard = train(ESTIMATORS["scaled softmax"](), stream)
    left_out = [stream[int(name)].features["x"] for name in guard.names]
    assert left_out.count(-1e300) == 6
    assert len(left_out) <= 9
    assert all(math.isfinite(p) for answer in answers(model) for p in answer.values())


def test_a_learning_rate_that_explodes_leaves_predictions_that_are_probabilities() -> None:
    """What breaks the model is not learned, and the count says so."""
    model, guard = train(linear_model.LogisticRegression(optimizer=optim.SGD(1e308)), examples(40))
    assert guard.quarantined > 0
    answered = [model.predict(example.features) for example in examples(10, seed=2)]
    assert all(math.fsum(answer.values()) == pytest.approx(1.0) for answer in answered)


def test_trap_0_4_through_the_daemon() -> None:
    """One event kills the model: named in the log and the metrics, left out by all workers, and `verify` agrees."""
    exploding = {"use": "linear_model.LogisticRegression", "optimizer": {"use": "optim.SGD", "lr": 1e220}}
    config = make_config(
        model={"pipeline": [exploding]},
        limits={"magnitude": 1e100},
        budget={"share": 1},
        sampling={"strategy": "random"},  # asks for all of them
    )
    world, snapshots = World(config), ListSnapshots()
    daemon = world.daemon(snapshots, snapshot_every_s=3.0)
    play(daemon, world.player(easy_stream(50), AnnotatorsRules()), world.clock, 1, lambda _: None)
    killer = f"0-{world.event({'x1': 1e100, 'x2': -1e100})}"
    world.drain(daemon)
    said = predictions_of(world.broker, config)[-1].label
    world.reply(killer, "no" if said == "yes" else "yes")  # what it knows already would teach it nothing
    world.drain(daemon)
    play(daemon, world.player(easy_stream(60, seed=5), AnnotatorsRules()), world.clock, 1, lambda _: None)
    assert (daemon.fold.learned.guard.quarantined, list(daemon.fold.learned.guard.names)) == (1, [killer])
    assert world.log.fields("example_quarantined") == {"example": killer, "quarantined": 1}
    assert (world.meter.gauges["model_quarantined"], world.meter.gauges["model_sick"]) == (1, 0)
    predictions = predictions_of(world.broker, config)
    assert all(sums_to_one(prediction) for prediction in predictions)
    assert len(set(predictions[-1].probabilities.values())) == 2
    probes = [row.features for row in easy_stream(20, seed=3).rows]
    expected = [daemon.fold.learned.model.predict(probe) for probe in probes]
    restarts = [None, *snapshots.saved]
    assert len(restarts) > 10
    for data in restarts:
        shelf = ListSnapshots()
        shelf.saved = [] if data is None else [data]
        again = world.daemon(shelf)
        again.start()
        assert (world.log.fields("started")["restored"] == 0) == (data is None)
        assert [again.fold.learned.model.predict(probe) for probe in probes] == expected
        assert list(again.fold.learned.guard.names) == [killer]
    parts = build(config)
    checks = verify(world.broker, parts.rules, parts.budget, "streamal", parts.new_fold)
    assert [check.promise for check in checks if check.broken] == []


# Collapse.


def test_an_example_that_makes_the_model_say_the_same_of_everything_is_left_out() -> None:
    """1e12 is within the default bounds; without a scaler it leaves weights that drown every feature."""
    stream = examples(300)
    clean, _ = train(linear_model.LogisticRegression(), stream)
    stream.insert(200, WeightedExample({"x": 1e12, "y": 1e12}, "a"))
    model, guard = train(linear_model.LogisticRegression(), stream)
    assert list(guard.names) == ["200"]
    assert answers(model) == answers(clean)


LEGITIMATE: Mapping[str, list[WeightedExample]] = {
    "one class": [example._replace(label="a") for example in examples(400)],
    "one class, then the other": [
        example._replace(label="ab"[number >= 200]) for number, example in enumerate(examples(400))
    ],
    "sorted in runs": [example._replace(label="ab"[number // 12 % 2]) for number, example in enumerate(examples(400))],
    "certain": [WeightedExample({"x": 1e6 if each.label == "a" else -1e6}, each.label) for each in examples(400)],
    "a concept that turns over": [
        example._replace(label="ba"[example.label == "b"] if number >= 200 else example.label)
        for number, example in enumerate(examples(400))
    ],
    "a text of nothing": [WeightedExample({}, each.label) for each in examples(400)],
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("stream", LEGITIMATE)
def test_what_is_no_collapse_is_learned(name: str, stream: str) -> None:
    """One class, certainty, drift: the model is, bit by bit, what it would have been without a guard."""
    examples_of = LEGITIMATE[stream]
    plain = Model(ESTIMATORS[name](), AB)
    for example in examples_of:
        plain.learn(*example)
    model, guard = train(ESTIMATORS[name](), examples_of)
    assert (guard.quarantined, guard.sick) == (0, False)
    assert answers(model) == answers(plain)


def test_a_stream_that_collapses_the_model_again_and_again_is_believed() -> None:
    """Labels that all say the same in the end are the stream's own doing: it is not kept from learning them."""
    stream = [*examples(200), *(WeightedExample({"x": 1e12, "y": 1e12}, "a") for _ in range(100))]
    _, guard = train(linear_model.LogisticRegression(), stream)
    assert 0 < guard.quarantined <= 40


# Faults that no example explains.


class Failing(base.Classifier):
    """Cannot answer after so many examples, whichever they were."""

    def __init__(self, after: int) -> None:
        self.after, self.learned, self.asked = after, 0, 0

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Any, y: Any) -> None:
        self.learned += 1

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        if self.learned >= self.after and "bad" not in x:
            return {"a": math.nan}
        return {"a": 0.5, "b": 0.5}


class Stubborn(Failing):
    """Cannot answer about some features, from the start."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        raise TypeError("cannot answer")


def test_a_model_that_never_answers_is_sick_and_learns_on() -> None:
    """No example is to blame: none is left out, the checks become rare, and it says so."""
    model, guard = train(Stubborn(0), examples(2_000))
    assert (guard.quarantined, guard.sick) == (0, True)
    assert model._estimator.learned == 2_000


class Negative(Failing):
    """Answers with numbers that sum to 1 and are no probabilities."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return {"a": -0.5, "b": 1.5}


def test_a_negative_probability_is_no_answer() -> None:
    """Though the sum is that of probabilities, the model is sick."""
    _, guard = train(Negative(0), examples(200))
    assert (guard.quarantined, guard.sick) == (0, True)


class Noting(Stubborn):
    """Notes how many examples it had learned whenever it was asked for a prediction."""

    asked_after: ClassVar[set[int]] = set()

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        self.asked_after.add(self.learned)
        return super().predict_proba_one(x)


def test_a_sick_model_is_checked_ever_more_rarely() -> None:
    """Each check that finds no culprit doubles the distance to the next one, up to 512 examples."""
    Noting.asked_after.clear()
    train(Noting(0), examples(2_000))
    assert sorted(Noting.asked_after - {0, 1}) == [16, 48, 112, 240, 496, 1_008, 1_520]


class Fickle(Failing):
    """Can answer only after 8 to 23 examples, whichever they were."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return {"a": 0.5, "b": 0.5} if 8 <= self.learned < 24 else {"a": math.nan}


def test_no_example_is_blamed_for_what_was_broken_before() -> None:
    """If any example breaks the oldest copy, the last examples are not to blame, though the model broke by them."""
    _, guard = train(Fickle(0), examples(32))
    assert (guard.quarantined, guard.sick) == (0, True)


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    """It could not be kept in a snapshot either; the message says what is wrong."""
    estimator = Failing(10)
    estimator.what = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="cannot be pickled"):
        train(estimator, examples(1))


# One decision for all workers, and bounds.

poisoned = st.lists(st.tuples(st.integers(0, 79), st.sampled_from([math.nan, 1e200, -1e308])), max_size=3)


@settings(deadline=None, max_examples=40)
@given(poisoned, st.integers(0, 80), st.booleans())
def test_a_pickle_anywhere_changes_nothing(killers: list[tuple[int, float]], cut: int, rehearse: bool) -> None:
    """I4: model and guard through a snapshot at any place leave out the same examples, and hold the same model."""
    stream = examples(80)
    for at, value in killers:
        stream.insert(at, WeightedExample({"x": value, "y": 0.5}, "b"))
    rehearsal = Rehearsal(10, 2, 5) if rehearse else None
    model, guard = train(ESTIMATORS["scaled logistic"](), stream, rehearsal)
    half, keeper = train(ESTIMATORS["scaled logistic"](), stream[:cut], Rehearsal(10, 2, 5) if rehearse else None)
    half, keeper = loads(dumps((half, keeper)))
    for number, example in enumerate(stream[cut:], cut):
        half = keeper.learn(half, example, str(number))
    assert (keeper.quarantined, list(keeper.names), keeper.sick) == (
        guard.quarantined,
        list(guard.names),
        guard.sick,
    )
    assert [half.predict(example.features) for example in examples(10, 2)] == [
        model.predict(example.features) for example in examples(10, 2)
    ]


def test_what_is_kept_is_bounded() -> None:
    """I9: however long the stream, about a thousand examples and two copies."""
    _, guard = train(linear_model.LogisticRegression(), examples(3_000))
    assert guard._checkpoints is not None
    assert len(guard._checkpoints.examples) <= 1_024 + 16
    stream = [WeightedExample({"x": math.nan}, "a") if n % 4 == 0 else each for n, each in enumerate(examples(3_000))]
    _, guard = train(linear_model.LogisticRegression(), stream)
    assert 740 <= guard.quarantined <= 750  # two in a block may hide each other
    assert len(guard.names) == 100
    assert guard._checkpoints is not None
    assert len(guard._checkpoints.examples) <= 1_024 + 16


# 0.5: labels that a binary model would silently take for True.


def test_trap_0_5_a_label_outside_the_classes_is_never_learned_as_true() -> None:
    """River learns 2, "1" or "ok" as True, or raises; here each is refused by name, and nothing learned."""
    config = make_config(budget={"share": 1})
    world = World(config)
    daemon = world.daemon()
    wrong = ["2", 2, 1, "1", True, "ok", "YES", "y es"]
    offsets = [world.event({"x1": 0.1, "x2": 0.2}) for _ in wrong]
    daemon.start()
    world.drain(daemon)
    for offset, label in zip(offsets, wrong, strict=True):
        world.reply(f"0-{offset}", label)
    world.drain(daemon)
    assert dict(daemon.fold.learned.model.learned) == {}
    letters = rows_of(world.broker, config.topics.dead_letters)
    assert [letter["reason"] for letter in letters] == ["label_unknown"] * len(wrong)
    assert all("is not among the classes (no, yes)" in letter["detail"] for letter in letters)
    world.reply(f"0-{offsets[0]}", "yes")
    world.drain(daemon)
    assert dict(daemon.fold.learned.model.learned) == {"yes": 1}
    assert json.loads(world.broker.read(config.topics.training, 0, 0, 10)[-1].value or b"")["label"] == "yes"


def test_answers_come_late_and_out_of_order_all_the_same() -> None:
    """With every kind of answer the guard of a worker that folds afresh leaves out the same."""
    config = make_config(budget={"share": 1}, model={"rehearsal": {"window": 20, "repeats": 1}})
    world = World(config)
    daemon = world.daemon()
    rules_of_annotators = AnnotatorsRules(delay_s=5.0, error=0.2, abstain=0.1, silence=0.1)
    play(daemon, world.player(easy_stream(200), rules_of_annotators), world.clock, 5, lambda _: None)
    again = world.daemon()
    again.start()
    probes = [row.features for row in easy_stream(20, seed=3).rows]
    assert [again.fold.learned.model.predict(p) for p in probes] == [
        daemon.fold.learned.model.predict(p) for p in probes
    ]
    assert sum(daemon.fold.learned.model.learned.values()) > 1.5 * daemon.fold.learned.quality.total.count


@pytest.mark.parametrize("enabled", [True, False])
def test_unpickling_leaves_the_collector_as_it_was(enabled: bool) -> None:
    """Python's garbage collector rests meanwhile; on or off before, it is on or off afterwards."""
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert loads(dumps([1.0])) == [1.0]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
