"""The replay: the production loop on a recorded stream, with a budget that holds and the same answer every time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import pytest
from river import base

from streamal.bootstrap.transports import create_topics
from streamal.cli.replay import draw_confusion
from streamal.config import Config
from streamal.core.strategies import STRATEGIES
from streamal.core.strategies.uncertainty import MEASURES
from streamal.edge.sqlite import SqliteTransport
from streamal.replay import Recorded, Replay, Stream, read_stream, replay
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player, play
from streamal.replay.scores import balanced_accuracy
from tests.conftest import Cli
from tests.recorded import World, easy_stream, make_config, predictions_of

KEYS = {
    *("events", "requests", "labels", "share", "accuracy", "estimated_accuracy", "naive_accuracy"),
    *("no_change_accuracy", "majority_accuracy", "events_per_second"),
}
APART = {
    *("stream", "balanced_accuracy", "recall", "confusion", "refused", "refused_labels", "abstained", "expired"),
    *("unanswered", "never_labelled", "learning_failures", "quarantined", "sick", "remarks"),
}
COMMITTEE = ({"use": "ensemble.BaggingClassifier", "n_models": 3, "model": [{"use": "naive_bayes.GaussianNB"}]},)
PHISHING = ("replay", "river:Phishing", "--label", "target", "--limit", "300", "--json")


@pytest.fixture(scope="module")
def phishing() -> Stream:
    return read_stream("river:Phishing", "target")


def figures(result: Any) -> dict[str, Any]:
    """Return what a replay has printed, but for the one figure that depends on the machine."""
    assert result.code == 0, result.err
    return {name: value for name, value in json.loads(result.out).items() if name != "events_per_second"}


def holds(result: Replay, config: Config, partitions: int = 1) -> bool:
    """Whether in every prefix of every partition requests <= share * events + its part of the burst."""
    share, burst = Fraction(config.budget.share), config.budget.burst
    for partition in range(partitions):
        spent, part = 0, burst // partitions + (partition < burst % partitions)
        for number, lane in enumerate(result.asked[partition::partitions], 1):
            spent += lane is not None
            if spent > share * number + part:
                return False
    return True


def test_the_report_has_its_keys(cli: Cli) -> None:
    """--json prints exactly the figures that are promised, the estimate with its interval."""
    report = json.loads(cli(*PHISHING).out)
    assert set(report) == KEYS | APART | {"account"}
    assert set(report["estimated_accuracy"]) == {"value", "low", "high"}
    assert (
        report["estimated_accuracy"]["low"]
        < report["estimated_accuracy"]["value"]
        < report["estimated_accuracy"]["high"]
    )
    assert (report["events"], report["share"]) == (300, report["requests"] / 300)


def test_the_report_for_people_has_the_same_figures(cli: Cli) -> None:
    """Without --json there is a table with a row for each."""
    told = cli(*PHISHING[:-1]).out
    assert all(name.replace("_", " ") in told for name in KEYS)


@pytest.mark.parametrize("uncertainty", MEASURES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_budget_holds_in_every_prefix(phishing: Stream, strategy: str, uncertainty: str) -> None:
    """Whatever the strategy and its measure, no prefix of the stream has cost more than its budget."""
    config = Config.model_validate(
        {
            "sampling": {"strategy": strategy, "uncertainty": uncertainty},
            "budget": {"share": "0.07", "burst": 5},
            "model": {"pipeline": COMMITTEE if strategy == "committee" else ()},
        }
    )
    result = replay(phishing, config)
    assert holds(result, config)
    assert 0 < result.requests <= 0.07 * result.events + 5


def test_the_budget_holds_in_every_partition(phishing: Stream) -> None:
    """With three partitions each keeps to its own part, and every event is predicted."""
    config = Config.model_validate({"transport": {"partitions": 3}, "budget": {"burst": 4}})
    result = replay(phishing, config)
    assert result.events == len(phishing.rows)
    assert holds(result, config, partitions=3)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "committee"])
@pytest.mark.parametrize(
    "model", ["naive_bayes.GaussianNB", "tree.HoeffdingTreeClassifier", "linear_model.SoftmaxRegression"]
)
def test_no_strategy_is_ever_mute(phishing: Stream, strategy: str, model: str) -> None:
    """Also with models that are sure of everything after a label or two, at which River's own sampler asks nothing."""
    config = Config.model_validate({"sampling": {"strategy": strategy}, "model": {"pipeline": [{"use": model}]}})
    result = replay(Stream("s", phishing.rows[:600], phishing.kinds, phishing.classes), config)
    assert result.requests >= 600 // 68  # the audit lane alone asks twice as many on average
    assert result.labels == result.requests


def test_the_same_seed_gives_the_same_report(cli: Cli) -> None:
    """But for the speed; another seed of the coins asks for other labels."""
    assert figures(cli(*PHISHING)) == figures(cli(*PHISHING))
    assert figures(cli(*PHISHING)) != figures(cli(*PHISHING, "--set", "sampling.seed=8"))


def test_a_process_of_its_own_reports_the_same(cli: Cli, streamal: Cli, directory: Path) -> None:
    """Neither the hash seed nor what ran before has a say."""
    assert figures(streamal(*PHISHING, cwd=directory, PYTHONHASHSEED="77")) == figures(cli(*PHISHING))


def test_keys_can_be_set_on_the_command_line(cli: Cli) -> None:
    """--set takes TOML, nested tables too, and a bare word as a string."""
    pipeline = 'model.pipeline=[{use="preprocessing.StandardScaler"},{use="linear_model.LogisticRegression"}]'
    told = figures(
        cli(*PHISHING, "--set", pipeline, "--set", "sampling.strategy=variable", "--set", "budget.share=0.05")
    )
    assert told["share"] <= 0.05 + 20 / 300
    assert told != figures(cli(*PHISHING))


def test_annotators_can_be_late_wrong_and_silent(cli: Cli) -> None:
    """--delay, --abstain, --silence and --error reach the annotators: fewer labels than requests."""
    told = figures(cli(*PHISHING, "--delay", "20", "--abstain", "0.3", "--silence", "0.3", "--error", "0.5"))
    assert 0 < told["labels"] < 0.8 * told["requests"]


def test_larger_steps_learn_later_but_lose_nothing(cli: Cli) -> None:
    """--batch changes when a label is learned, not how many events there are or what may be spent."""
    told = figures(cli(*PHISHING, "--batch", "50"))
    assert told["events"] == 300
    assert told["labels"] == told["requests"] <= 50


def test_mixed_columns_need_no_pipeline(cli: Cli, directory: Path) -> None:
    """Numbers, strings, truth values and blanks: the default model copes, and learns what a string column tells."""
    rows = [
        {
            "n": number % 5 if number % 3 else None,
            "s": "up" if number % 2 else "down",
            "b": number % 7 == 0,
            "y": number % 2,
        }
        for number in range(300)
    ]
    (directory / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert figures(cli("replay", "s.jsonl", "--label", "y", "--json"))["accuracy"] > 0.9


def test_label_times_delay_the_learning(cli: Cli, directory: Path) -> None:
    """Labels that only come after the end of the stream teach nothing in time, but are counted."""
    lines = [f"{number},{number + lag},{number % 2},{'ab'[number % 2]}" for lag in (0,) for number in range(200)]
    (directory / "prompt.csv").write_text("\n".join(["t,late,x,y", *lines]))
    (directory / "late.csv").write_text(
        "\n".join(["t,late,x,y", *(f"{n},{n + 1000},{n % 2},{'ab'[n % 2]}" for n in range(200))])
    )
    options = ("--label", "y", "--time", "t", "--label-time", "late", "--json")
    prompt, late = (figures(cli("replay", name, *options)) for name in ("prompt.csv", "late.csv"))
    assert prompt["accuracy"] > 0.9 > late["accuracy"]
    assert late["labels"] == late["requests"] > 0


def test_baselines_are_those_of_the_stream(cli: Cli, directory: Path) -> None:
    """No-change predicts the label before, majority the commonest one."""
    (directory / "s.csv").write_text("x,y\n1,a\n1,a\n1,b\n1,a\n")
    told = figures(cli("replay", "s.csv", "--label", "y", "--json"))
    assert (told["no_change_accuracy"], told["majority_accuracy"]) == (0.25, 0.75)


def test_a_replay_decides_as_the_embedded_transport_does(directory: Path) -> None:
    """Stepped alike, the loop in memory and the loop on SQLite predict and ask the same."""
    config = make_config(budget={"share": 0.2}, transport={"partitions": 2})
    stream, rules = easy_stream(300), AnnotatorsRules(delay_s=4.0, error=0.1, abstain=0.1, silence=0.1)
    told = []
    for kind in ("memory", "sqlite"):
        world = World(config)
        if kind == "memory":
            daemon = world.daemon()
            log: Any = world.broker
        else:
            create_topics(config)
            topics = config.topics
            log = SqliteTransport("streamal.db", "streamal", "w", topics.events, topics.labels, synchronous="OFF")
            daemon = world.daemon(transport=log)
        play(daemon, Player(log, world.topics, stream, rules), world.clock, 3, lambda _: None)
        # offsets of training, and so versions, differ: transactions take slots in memory, as in Kafka
        told.append([msgspec.structs.replace(each, version=0) for each in predictions_of(log, config)])
        log.close()
    assert told[0] == told[1]
    assert sum(each.asked is not None for each in told[0]) > 30


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gone.csv", "--label", "y"), "gone.csv"),
        (("river:Phishing", "--label", "target", "--drop", "nope"), "no column 'nope'"),
        (("river:Phishing", "--label", "target", "--set", "sampling.strategy=clever"), "sampling"),
        (("river:Phishing", "--label", "target", "--set", "budget"), "section.key=value"),
        (("river:Phishing", "--label", "target", "-c", "gone.toml"), "gone.toml"),
    ],
)
def test_a_mistake_is_one_line(cli: Cli, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and what was wrong is named."""
    ended = cli("replay", *arguments)
    assert ended.code == 2
    assert told in ended.line


def test_a_flat_format_is_played_flat(cli: Cli) -> None:
    """With events.format = "flat" the replay writes flat events, and every one of them is accepted."""
    assert figures(cli(*PHISHING, "--set", "events.format=flat"))["events"] == 300


def test_refused_rows_are_told(cli: Cli, directory: Path) -> None:
    """A row that is no acceptable event is told on standard error and counts nowhere; if all are, that is an error."""
    rows = [f"{10.0**15 if number % 10 == 0 else number},{'ab'[number % 2]}" for number in range(60)]
    (directory / "s.csv").write_text("\n".join(["x,y", *rows]))
    ended = cli("replay", "s.csv", "--label", "y", "--json")
    assert json.loads(ended.out)["events"] == 54
    assert "6 of 60 rows were refused: number_out_of_range" in ended.err
    (directory / "s.csv").write_text("x,y\n1e15,a\n2e15,b\n")
    ended = cli("replay", "s.csv", "--label", "y")
    assert ended.code == 2
    assert "no row is an acceptable event" in ended.line


# What makes the figures mean less than they seem to.


def labelled(labels: Sequence[str], label_time: float | None = None) -> Stream:
    """Return rows whose one feature tells the label."""
    classes = sorted(set(labels))
    rows = [
        Recorded({"x": float(classes.index(label))}, label, float(number), label_time and number + label_time)
        for number, label in enumerate(labels)
    ]
    return Stream("s", rows, {"x": "number"}, tuple(classes))


def test_the_scores_by_class_are_those_of_the_sequences() -> None:
    """Recall, balanced accuracy and confusion are counted from what was predicted of each event."""
    result = replay(easy_stream(300), make_config())
    pairs = Counter(zip(result.truths, result.predicted, strict=True))
    assert {(a, b or None): n for a, row in result.confusion.items() for b, n in row.items()} == pairs
    for label in ("no", "yes"):
        assert result.recall[label] == pairs[label, label] / result.truths.count(label)
    assert result.balanced_accuracy == pytest.approx(fmean(result.recall.values()))
    assert result.balanced_accuracy == balanced_accuracy(result.truths, result.correct)


def test_labels_that_are_refused_are_said() -> None:
    """A label of 300 characters is no class; nothing was learned, and that is no silent 0."""
    result = replay(labelled(["a" * 300, "b" * 300] * 50), Config())
    assert (result.labels, result.refused_labels) == (0, {"bad_field": result.requests})
    refused, nothing = result.remarks()[:2]
    assert refused.startswith(f"{result.requests} labels were refused: bad_field {result.requests} (label, annotator")
    assert nothing == "no label was learned: the accuracy is that of a model that knows nothing"


def test_labels_that_come_after_the_ttl_are_said() -> None:
    """Their requests have expired, but for one whose label comes in the very step that would end it."""
    result = replay(labelled(["a", "b"] * 50, label_time=1e6), Config())
    assert (result.labels, result.expired, result.unanswered) == (1, result.requests - 1, 0)
    assert result.remarks()[0].startswith(f"{result.expired} of {result.requests} requests expired before")


def test_requests_without_an_answer_are_said() -> None:
    """Silent annotators leave them open; an abstention closes one."""
    result = replay(labelled(["a", "b"] * 50), Config(), AnnotatorsRules(silence=0.5, abstain=0.5))
    assert result.labels + result.abstained + result.unanswered == result.requests
    assert min(result.abstained, result.unanswered) > 0
    assert any("had no answer when the stream ended" in remark for remark in result.remarks())


def test_a_class_that_was_never_labelled_is_said() -> None:
    """One that is too rare for the budget cannot be predicted."""
    result = replay(labelled(["a", "b"] * 200 + ["rare"]), Config.model_validate({"budget": {"share": "0.01"}}))
    assert result.never_labelled == ["rare"]
    assert "never labelled, so never predicted: 'rare'" in " ".join(result.remarks())


class _Raises(base.Classifier):
    """Raises at every example."""

    def learn_one(self, x: Any, y: Any) -> None:
        raise ValueError

    def predict_proba_one(self, x: Any, **_: Any) -> dict[Any, float]:
        return {True: 0.5, False: 0.5}


def raising() -> base.Classifier:
    return _Raises()


class _Sick(_Raises):
    """Learns, and has no probabilities."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Nothing is learned."""

    def predict_proba_one(self, x: Any, **_: Any) -> dict[Any, float]:
        return {True: float("nan"), False: 0.5}


def sick() -> base.Classifier:
    return _Sick()


def test_a_model_that_fails_is_said() -> None:
    """How often it raised, and that its answers are no probabilities."""
    stream = labelled(["a", "b"] * 100)
    failing = replay(stream, make_config(features={"declared": {"x": "number"}}, labels={"classes": ["a", "b"]},
                                         model={"pipeline": (), "factory": "tests.test_replay:raising"}))  # fmt: skip
    assert failing.learning_failures == failing.labels > 0
    assert f"raised an error at {failing.labels} of {failing.labels} labels" in " ".join(failing.remarks())
    ill = replay(stream, make_config(features={"declared": {"x": "number"}}, labels={"classes": ["a", "b"]},
                                     model={"pipeline": (), "factory": "tests.test_replay:sick"}))  # fmt: skip
    assert ill.sick
    assert "the model is sick" in " ".join(ill.remarks())


def test_a_model_below_no_model_is_said() -> None:
    """Predicting the label before is better on a stream of runs whose feature tells nothing."""
    rows = [Recorded({"x": float(n % 7)}, "ab"[n // 50 % 2], float(n), None) for n in range(400)]
    result = replay(Stream("s", rows, {"x": "number"}, ("a", "b")), Config())
    assert "is below that of predicting the label before" in result.remarks()[-1]
    assert not replay(easy_stream(300), make_config()).remarks()


def test_remarks_are_printed_and_counted(cli: Cli, directory: Path) -> None:
    """On standard error, and in the JSON."""
    (directory / "s.csv").write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2] * 300}\n" for n in range(100)))
    ended = cli("replay", "s.csv", "--label", "y", "--json")
    told = json.loads(ended.out)
    lines = [line.removeprefix("streamal: ") for line in ended.err.splitlines()]
    of_the_reading = ("s.csv: ", "suspicious: ")
    assert told["remarks"] == [line for line in lines if not line.startswith(of_the_reading)]
    assert told["refused_labels"]["bad_field"] == told["requests"]


def test_the_confusion_is_a_table(cli: Cli) -> None:
    """A row for each true class; of many classes the commonest mistakes."""
    assert "true \\ predicted" in cli(*PHISHING[:-1]).out
    many = {f"c{number}": {f"c{number}": 5, f"c{number + 1}": number} for number in range(20)}
    table = draw_confusion(many)
    assert (str(table.title), table.row_count) == ("the commonest mistakes", 10)


def test_a_result_is_short_in_a_notebook() -> None:
    """One line as text; a table as HTML, in which a class is only text."""
    result = replay(labelled(["<a>", "b"] * 50), Config())
    assert repr(result).startswith("Replay(s: 100 events, ")
    assert len(repr(result)) < 200
    html = result._repr_html_()
    assert "recall of &lt;a&gt;" in html
    assert "<a>" not in html
