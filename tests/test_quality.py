"""The accuracy that is shown is the accuracy that is: Hájek's estimate, its interval, its window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamal.core.budget.sampler import Budget, Sampler
from streamal.core.coins import EventCoins
from streamal.core.quality.confidence_sequence import ConfidenceSequence
from streamal.core.quality.estimates import Estimate, Sums
from streamal.core.quality.quality import Quality
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import Abstention, Example, Expiry, Lane
from streamal.core.strategies import SamplingRules, build_strategy

STREAMS = 200
EVENTS = 4_000

weighted = st.lists(st.tuples(st.floats(0.001, 1.0), st.booleans()), min_size=1, max_size=60)


def make_example(offset: int, propensity: float, correct: bool, asked_at: float | None = None) -> Example:
    at = float(offset) if asked_at is None else asked_at
    return Example(f"0-{offset}", "a", {}, "a" if correct else "b", propensity, Lane.AUDIT, at, at + 1.0)


def folded(window: int, labels: Iterable[tuple[float, bool]]) -> Quality:
    quality = Quality(window)
    for offset, (propensity, correct) in enumerate(labels):
        quality.fold(make_example(offset, propensity, correct))
    return quality


# The formula.


@given(weighted)
def test_the_estimate_is_hajeks(labels: list[tuple[float, bool]]) -> None:
    """Σ c/p / Σ 1/p, and a Wilson interval of the smaller of two effective sizes, recomputed the slow way."""
    estimate = folded(100, labels).recent_sums().proportion()
    assert estimate is not None
    w = np.array([1.0 / p for p, _ in labels])
    c = np.array([float(correct) for _, correct in labels])
    a = float(np.sum(w * c) / np.sum(w))
    kish = float(np.sum(w) ** 2 / np.sum(w**2))
    variance = float(np.sum((w * (c - a)) ** 2) / np.sum(w) ** 2)
    n = min(kish, a * (1.0 - a) / variance) if 1e-9 < a < 1.0 - 1e-9 else kish
    z = stats.norm.ppf(0.975)
    middle = (a + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(0.0, a * (1 - a) / n + z * z / (4 * n * n)))
    assert estimate == pytest.approx((a, max(0.0, middle - half), min(1.0, middle + half)), abs=1e-6)


@given(weighted)
def test_the_interval_holds_the_value(labels: list[tuple[float, bool]]) -> None:
    """0 <= low <= value <= high <= 1, and never of width 0: so few labels never make sure."""
    estimate = folded(100, labels).recent_sums().proportion()
    assert estimate is not None
    assert 0.0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1.0
    assert estimate.high - estimate.low > 0.01


def test_equal_propensities_give_the_plain_share() -> None:
    """Labels bought at random: Hájek, naive and the textbook's Wilson interval agree."""
    sums = folded(100, [(0.1, i < 8) for i in range(10)]).total
    assert sums.naive() == 0.8
    interval = stats.binomtest(8, 10).proportion_ci(method="wilson")
    assert sums.proportion() == pytest.approx((0.8, interval.low, interval.high))


def test_nothing_is_known_without_labels() -> None:
    """No label, no figure; a label of propensity 0 (nobody was to ask it) carries no weight and is left out."""
    assert Sums().proportion() is None
    assert Sums().naive() is None
    quality = folded(10, [(0.0, True)])
    assert quality.recent_sums().proportion() is None
    assert quality.unanswered_share() == 0.0
    assert Quality(10).unanswered_share() is None


def test_one_label_says_next_to_nothing() -> None:
    """The interval of a single label is nearly everything, whatever its weight."""
    estimate = folded(10, [(0.001, True)]).recent_sums().proportion()
    assert estimate is not None
    assert estimate == pytest.approx(Estimate(1.0, 0.207, 1.0), abs=0.001)


# Honest under the real sampler.


class Synthetic:
    """A stream whose model is right the less often the less sure it is, asked by the real sampler."""

    def __init__(self, seed: int, strategy: str) -> None:
        random = np.random.default_rng(seed)
        budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=20)
        rules = SamplingRules(strategy, rate=float(budget.rate), share=float(budget.share))
        sampler = Sampler(budget.partition_budget(0, 1), build_strategy(rules), EventCoins(seed), None, None, 0.0)
        uncertainty = random.beta(0.8, 3.0, EVENTS) * 0.5
        right = random.random(EVENTS) > 0.04 + 0.9 * uncertainty
        quality = Quality(EVENTS)
        for i, u in enumerate(uncertainty.tolist()):
            decision = sampler.decide(i, u)
            if decision.lane is not None:
                quality.fold(make_example(i, decision.propensity, bool(right[i])))
        self.truth = float(np.mean(right))
        sums = quality.recent_sums()
        estimate, naive = sums.proportion(), sums.naive()
        assert estimate is not None
        assert naive is not None
        self.estimate, self.naive = estimate, naive
        self.at_random = float(np.mean(random.choice(right, sums.count, replace=False)))


@pytest.fixture(scope="module")
def streams() -> dict[str, list[Synthetic]]:
    return {name: [Synthetic(seed, name) for seed in range(STREAMS)] for name in ("variable", "randomised_variable")}


@pytest.mark.parametrize("strategy", ["variable", "randomised_variable"])
def test_the_interval_covers_the_truth(streams: dict[str, list[Synthetic]], strategy: str) -> None:
    """Over 200 streams at least as often as a binomial test at 1 % lets pass for 95 %."""
    covered = sum(stream.estimate.low <= stream.truth <= stream.estimate.high for stream in streams[strategy])
    assert covered >= stats.binom.ppf(0.01, STREAMS, 0.95)


@pytest.mark.parametrize("strategy", ["variable", "randomised_variable"])
def test_the_naive_share_is_wrong(streams: dict[str, list[Synthetic]], strategy: str) -> None:
    """On the very same labels the share of right ones is off by more than 5 points: the test above can fail."""
    off = [stream.truth - stream.naive for stream in streams[strategy]]
    assert np.mean(off) > 0.05
    within = sum(stream.estimate.low <= stream.naive <= stream.estimate.high for stream in streams[strategy])
    assert within < stats.binom.ppf(0.01, STREAMS, 0.95)


@pytest.mark.parametrize(("strategy", "times"), [("randomised_variable", 2.0), ("variable", 2.5)])
def test_the_estimate_is_nearly_as_good_as_a_random_sample(
    streams: dict[str, list[Synthetic]], strategy: str, times: float
) -> None:
    """Its mean error is about twice that of as many labels bought purely at random, and it is unbiased.

    Measured: 1.6 times for the default, 2.0 for the hard threshold, below which the audit lane sees all there is.
    """
    errors = np.array([stream.estimate.value - stream.truth for stream in streams[strategy]])
    at_random = np.array([stream.at_random - stream.truth for stream in streams[strategy]])
    assert np.mean(np.abs(errors)) <= times * np.mean(np.abs(at_random))
    assert abs(np.mean(errors)) < 4.0 * np.std(errors) / math.sqrt(STREAMS)


# The window.


def test_the_window_follows_a_change() -> None:
    """After a drop of the accuracy the recent figure falls, while the total still dreams of the past."""
    random = np.random.default_rng(3)
    labels = [(0.5, bool(random.random() < (0.95 if i < 900 else 0.4))) for i in range(1_200)]
    quality = folded(200, labels)
    recent, total = quality.recent_sums().proportion(), quality.total.proportion()
    assert recent is not None
    assert total is not None
    assert recent.low <= 0.4 <= recent.high
    assert total.value > 0.75


@given(st.permutations(range(12)))
def test_the_window_is_in_the_order_of_the_events(order: list[int]) -> None:
    """Replies come in any order; what is recent is decided by when the event was asked, and bounded (I9)."""
    quality = Quality(5)
    for offset in order:
        quality.fold(make_example(offset, 0.5, correct=offset >= 7))
    assert [entry.request for entry in quality._window] == [f"0-{offset}" for offset in range(7, 12)]
    assert (quality.recent_sums().naive(), quality.total.count) == (1.0, 12)


def test_unanswered_requests_are_told() -> None:
    """The estimate cannot see them, so their share stands beside it, by lane and by how they ended."""
    quality = folded(10, [(0.5, True)])
    quality.fold(Abstention("0-8", 0.5, Lane.STRATEGY, 0.0, 1.0))
    quality.fold(Expiry("0-9", 0.5, Lane.AUDIT, 0.0, 1.0))
    quality.fold(Expiry("0-10", 0.5, Lane.AUDIT, 0.0, 1.0))
    assert quality.unanswered_share() == 0.75
    assert quality.closed == {"audit example": 1, "strategy abstention": 1, "audit expiry": 2}
    assert quality.total.count == 1


# AIPW: the confidence of all events, for the few that were labelled.


class Population:
    """A made-up stream: who is right, how confident the model was, and how probably each event is asked."""

    def __init__(self, seed: int, confidence: str, propensity: str, events: int = 3_000) -> None:
        random = np.random.default_rng(seed)
        sure = random.beta(2.0, 1.0, events)
        self.right = random.random(events) < 0.5 + 0.49 * sure
        self.confidence = {
            "calibrated": 0.5 + 0.49 * sure,
            "overconfident": 0.9 + 0.1 * sure,
            "upside down": 1.0 - 0.5 * sure,
            "noise": random.random(events),
        }[confidence]
        self.propensity = {
            "where unsure": np.clip(0.35 * (1.0 - sure), 0.03, 1.0),
            "where sure": np.clip(0.2 * sure, 0.03, 1.0),
            "where wrong": np.where(self.right, 0.03, 0.3),  # who asks knows the truth: the worst for a naive figure
        }[propensity]
        self.asked = random.random(events) < self.propensity
        self.truth = float(np.mean(self.right))

    def fold(self, quality: Quality, partitions: int = 1) -> Quality:
        millionths = np.rint(1e6 * self.confidence).astype(int)
        for i in np.flatnonzero(self.asked).tolist():
            f, of_partition = float(self.confidence[i]), slice(i % partitions, i + 1, partitions)
            seen = RunningTotals(len(millionths[of_partition]), int(millionths[of_partition].sum()))
            example = make_example(i, float(self.propensity[i]), bool(self.right[i]))
            told = {"request": f"{i % partitions}-{i}", "seen": seen, "confidence": f, "probability": f}
            quality.fold(msgspec.structs.replace(example, **told))
        return quality


CONFIDENCES = ("calibrated", "overconfident", "upside down", "noise")
PROPENSITIES = ("where unsure", "where sure", "where wrong")


@pytest.mark.parametrize("propensity", PROPENSITIES)
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_a_confidence_that_lies_does_not_bias_the_estimate(confidence: str, propensity: str) -> None:
    """Over 60 populations the mean error is 0 within 4 standard errors, and 95 % intervals cover by a test at 0.1 %."""
    errors, covered = [], 0
    for seed in range(60):
        population = Population(seed, confidence, propensity)
        estimate = population.fold(Quality(10_000)).total_accuracy()
        assert estimate is not None
        errors.append(estimate.value - population.truth)
        covered += estimate.low <= population.truth <= estimate.high
    assert abs(np.mean(errors)) < 4.0 * np.std(errors) / math.sqrt(60) + 0.002
    assert covered >= stats.binom.ppf(0.001, 60, 0.95)


def test_a_confidence_that_tells_narrows_the_interval() -> None:
    """Against Hájek's on the same labels, and the mean error with it; one that is noise leaves it as it was."""
    widths: dict[str, list[float]] = {name: [] for name in ("calibrated", "noise")}
    errors: list[tuple[float, float]] = []
    for seed in range(60):
        for name, found in widths.items():
            population = Population(seed, name, "where unsure")
            quality = population.fold(Quality(10_000))
            ours, plain = quality.total_accuracy(), quality.total.proportion()
            assert ours is not None
            assert plain is not None
            found.append((ours.high - ours.low) / (plain.high - plain.low))
            if name == "calibrated":
                errors.append((abs(ours.value - population.truth), abs(plain.value - population.truth)))
    assert np.mean(widths["calibrated"]) < 0.97
    assert 0.97 < np.mean(widths["noise"]) <= 1.0
    ours_mean, plain_mean = np.mean(errors, axis=0)
    assert ours_mean < plain_mean


@given(weighted, st.floats(0.0, 1.0))
def test_aipw_is_the_regression(labels: list[tuple[float, bool]], mean: float) -> None:
    """Hájek plus slope times the difference of the means, recomputed with NumPy, where it is taken at all."""
    f = [0.5 + 0.5 * ((i * 7) % 11) / 11 for i in range(len(labels))]
    sums = Sums()
    for (propensity, correct), confidence in zip(labels, f, strict=True):
        sums.add(1.0 / propensity, correct, confidence)
    ours, plain = sums.proportion(mean), sums.proportion()
    assert ours is not None
    assert plain is not None
    if ours == plain:
        return
    w = np.array([1.0 / p for p, _ in labels])
    c = np.array([float(correct) for _, correct in labels])
    slope = np.polyfit(f, c, 1, w=np.sqrt(w))[0]
    expected = np.average(c, weights=w) + slope * (mean - np.average(f, weights=w))
    assert ours.value == pytest.approx(min(1.0, max(0.0, float(expected))), abs=1e-6)


def test_the_interval_counts_the_degrees_of_freedom() -> None:
    """With equal weights: s/√n from the squares over n - 1; with a confidence, whose slope is fitted, over n - 2."""
    f = np.array([0.55, 0.6, 0.7, 0.75, 0.85, 0.9, 0.95])
    y = np.array([0.9, 1.0, 0.6, 0.7, 0.3, 0.35, 0.1])
    sums, n = Sums(), len(y)
    for each, confidence in zip(y, f, strict=True):
        sums.add(1.0, float(each), float(confidence))
    residuals = y - np.polyval(np.polyfit(f, y, 1), f)
    for estimate, squares, freedom in (
        (sums.mean(), np.sum((y - y.mean()) ** 2), n - 1),
        (sums.mean(float(f.mean())), np.sum(residuals**2), n - 2),
    ):
        assert estimate is not None
        half = stats.norm.ppf(0.975) * math.sqrt(squares / freedom / n)
        assert (estimate.low, estimate.high) == pytest.approx((y.mean() - half, y.mean() + half))


def test_the_window_knows_its_own_events() -> None:
    """From the label that has left it to its last, in each partition: how many events, and how sure the model was."""
    quality = Population(1, "calibrated", "where unsure").fold(Quality(100), partitions=3)
    window = [labelled.request for labelled in quality._window]
    offsets = [int(request.partition("-")[2]) for request in window]
    known = quality._population().between()
    assert abs(known.events - (offsets[-1] - offsets[0])) < 100
    assert 0.5 < known.confidence / known.events / 1e6 < 1.0


# More than accuracy.


def test_the_log_loss_is_that_of_all_events() -> None:
    """Within its interval on most of 60 populations, though the labels are those that the model found hard."""
    covered = 0
    for seed in range(60):
        population = Population(seed, "calibrated", "where unsure")
        estimate = population.fold(Quality(10_000)).log_loss()
        assert estimate is not None
        # make_example: the label's probability is f, whether or not the prediction was right
        covered += estimate.low <= float(np.mean(-np.log(population.confidence))) <= estimate.high
    assert covered >= stats.binom.ppf(0.001, 60, 0.95)


def test_recalls_and_their_mean() -> None:
    """Σ w of the right ones over Σ w, class by class; the balanced accuracy is their mean, within its interval."""
    quality = folded(100, [(0.1, True), (0.5, False), (0.1, True), (0.5, True), (0.2, False)])
    recalls = {label: read_events.value for label, read_events in quality.recalls().items()}
    assert recalls == pytest.approx({"a": (10 + 10 + 2) / (10 + 2 + 10 + 2 + 5)})
    two = Quality(100)
    for i, (label, said) in enumerate([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")]):
        two.fold(msgspec.structs.replace(make_example(i, 0.5, correct=True), label=label, predicted=said))
    balanced = two.balanced_accuracy()
    assert balanced is not None
    assert balanced.value == 0.75
    assert 0.0 <= balanced.low < 0.75 < balanced.high <= 1.0
    assert Quality(10).balanced_accuracy() is None


# Watched all the time.


class Watched:
    """A stream whose estimate is looked at after every label, for the first time after 40 of them."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        events, floor = 3_000, 0.05
        right = random.random(events) < np.where(np.arange(events) < 1_500, 0.9, 0.6)  # drifts
        p = np.where(random.random(events) < 0.2, 0.4, floor)
        f = np.clip(0.8 + 0.2 * random.standard_normal(events), 0.0, 1.0)
        truth, total = np.cumsum(right) / np.arange(1, events + 1), np.cumsum(f)
        sums, sequence = Sums(), ConfidenceSequence(floor)
        self.left = {"wilson": False, "sequence": False}
        for i in np.flatnonzero(random.random(events) < p).tolist():
            sums.add(1.0 / p[i], bool(right[i]), f[i])
            sequence.add(1.0 / p[i], bool(right[i]), f[i])
            if sums.count < 40:
                continue
            for name, estimate in (
                ("wilson", sums.proportion(float(total[i]) / (i + 1))),
                ("sequence", sequence.accuracy(i + 1, float(total[i]))),
            ):
                assert estimate is not None
                self.left[name] |= not estimate.low <= truth[i] <= estimate.high
        last = sequence.accuracy(events, float(total[-1]))
        assert last is not None
        self.width = last.high - last.low


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_confidence_sequence_is_never_left(count: int) -> None:
    """By at most 5 % of the streams, ever, while who watches the pointwise interval sees it fail far more often."""
    streams = [Watched(seed) for seed in range(count)]
    assert sum(stream.left["sequence"] for stream in streams) <= count // 20
    assert sum(stream.left["wilson"] for stream in streams) > stats.binom.ppf(0.999, count, 0.05)
    assert np.mean([stream.width for stream in streams]) < 0.3


def test_the_sequence_is_the_figure_if_it_is_wanted() -> None:
    """``quality.interval = "confidence_sequence"``: over everything, in the place of the window's."""
    population = Population(2, "calibrated", "where unsure")
    estimate = population.fold(Quality(100, floor=0.03)).accuracy()
    assert estimate is not None
    assert estimate.low <= population.truth <= estimate.high
    assert Quality(100, floor=0.03).accuracy() is None


def test_a_weight_beyond_the_floor_is_bounded() -> None:
    """Asked while the audit lane was closed: the label counts as one of the least propensity, not for more."""
    heavy, bounded = ConfidenceSequence(0.1), ConfidenceSequence(0.1)
    heavy.add(1_000.0, correct=True, confidence=0.5)
    bounded.add(10.0, correct=True, confidence=0.5)
    assert heavy.accuracy(100, 50.0) == bounded.accuracy(100, 50.0)
