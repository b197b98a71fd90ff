"""tune: searches the first part, reports on the rest, and writes settings that do what the report says."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace as changed_copy
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from river import base

from streamal.bootstrap.model import build_model
from streamal.config import Config, load_config
from streamal.core.coins import HashedUniform
from streamal.core.model.checks import check_absence
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator
from streamal.core.records import FeatureValue
from streamal.errors import ConfigError
from streamal.experiments import Execution, Goal, ReportOptions, SearchOptions, Tuned, tune
from streamal.experiments.bench import Bench, Cell, slice_stream
from streamal.experiments.config_file import render_config
from streamal.experiments.labels_needed import labels_needed
from streamal.experiments.model_families import families
from streamal.experiments.overrides import with_sections
from streamal.experiments.results import Candidate
from streamal.experiments.runs import Run
from streamal.experiments.search import Search
from streamal.experiments.search_space import model_section, sampling_section
from streamal.experiments.shapes import Defaults, Shape
from streamal.experiments.summaries import ALL, CONTROL, TUNED
from streamal.replay import Recorded, Stream, replay
from streamal.replay.annotators import AnnotatorsRules
from streamal.reports import save_report
from tests.conftest import Cli
from tests.recorded import easy_stream

SMALL: dict[str, Any] = {
    "search": SearchOptions(trials=3, train_share=0.4, families=("logistic", "naive_bayes")),
    "report": ReportOptions(seeds=2, budgets=("0.05", "0.3")),
    "execution": Execution(workers=0),
}
WORDS = ("late", "again", "cheap", "offer", "meeting", "report", "please", "now")


def mixed_stream(count: int, kinds: tuple[str, ...], classes: tuple[str, ...]) -> Stream:
    """Return rows with one feature of each kind, all of them telling something of the class."""
    coin, rows = HashedUniform(3, "mixed"), []
    for number in range(count):
        u = coin.uniform(f"{number}")
        label = classes[int(u * len(classes))]
        values: dict[str, FeatureValue] = {
            "number": u,
            "boolean": u > 0.5,
            "string": f"s{int(u * 7)}",
            "text": " ".join(WORDS[int((u + coin.uniform(f"{number} {i}")) * 4)] for i in range(9)),
            "vector(3)": [u, 1.0 - u, coin.uniform(f"{number} noise")],
        }
        rows.append(Recorded({f"a {kind}": values[kind] for kind in kinds}, label, float(number), None))
    return Stream("mixed", rows, {f"a {kind}": kind for kind in kinds}, classes)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return easy_stream(500)


@pytest.fixture(scope="module")
def tuned(stream: Stream) -> Tuned:
    return tune(stream, **SMALL)


def test_the_report_is_of_the_rest(tuned: Tuned) -> None:
    """Every replay that is reported has as many events as the rest of the stream, from an empty model."""
    assert (tuned.first, tuned.rest) == (200, 300)
    assert {run.events for run in tuned.runs} == {300}
    assert {run.arm for run in tuned.runs} == {TUNED, CONTROL, ALL, f"{ALL}, same model"}
    assert {run.budget for run in tuned.runs if run.arm == TUNED} == {0.05, 0.1, 0.3}
    assert max(trial.rows for trial in tuned.trials) == 200


def test_every_family_is_met_at_its_defaults(tuned: Tuned) -> None:
    """First each family, then the first one without the rehearsal that few labels ask for; all labels need none."""
    met = [(trial.candidate.family, trial.parameters.get("logistic.repeats")) for trial in tuned.trials]
    assert met == [("logistic", 5), ("naive_bayes", None), ("logistic", 0)]
    assert tuned.full_trials[0].parameters["logistic.repeats"] == 0


class ScriptedBench(Bench):
    """Replays nothing: for each model and seed, the run has the figure that the script says."""

    def __init__(self, stream: Stream, run: Run, script: dict[str, tuple[float, ...]]) -> None:
        """Answer with copies of *run*."""
        super().__init__(stream, workers=0)
        self._run_like, self._script = run, script

    def run(self, cells: Sequence[Cell], done: Callable[[int], object] = lambda _: None) -> list[Run]:
        """Return what the script says."""
        del done
        coins = [self._script[cell.model][cell.config.sampling.seed] for cell in cells]
        return [structs.replace(self._run_like, settled=value) for value in coins]


@pytest.mark.parametrize(
    ("script", "wins"),
    [
        ({"a": (0.90, 0.70), "b": (0.85, 0.85), "full": (0.50, 0.50)}, "b"),
        ({"a": (0.90, 0.70), "b": (0.85, 0.85), "full": (0.84, 0.84)}, "full"),
    ],
)
def test_the_best_is_chosen_over_the_coins(
    stream: Stream, tuned: Tuned, script: dict[str, tuple[float, ...]], wins: str
) -> None:
    """The mean over the coins decides, not one of them; the best model with all labels wins what chance may decide."""
    bench, shape = ScriptedBench(stream, tuned.runs[0], script), Shape.of(stream, "accuracy")
    config = load_config(None, ["sampling.seed=0"])
    search = Search(bench, config, shape, "accuracy", AnnotatorsRules(), 600, all_labels=False, delayed=False)
    candidates = {name: Candidate({}, 1, name) for name in script}
    assert search.best([candidates["a"], candidates["b"]], 2, [candidates["full"]]).family == wins


def test_the_rest_cannot_influence_the_search(stream: Stream, tuned: Tuned) -> None:
    """With a rest of noise instead, every trial and the settings are the same to the last digit; the result is not."""
    head, coin = list(stream.rows[:200]), HashedUniform(9, "noise")
    noise = [
        row._replace(label=stream.classes[coin.uniform(f"{i}") < 0.5], features={"x1": coin.uniform(f"{i} x")})
        for i, row in enumerate(stream.rows[200:])
    ]
    other = tune(Stream(stream.name, [*head, *noise], stream.kinds, stream.classes), **SMALL)
    assert other.trials == tuned.trials
    assert other.full_trials == tuned.full_trials
    assert (other.config.model, other.config.sampling, other.batch) == (
        tuned.config.model,
        tuned.config.sampling,
        tuned.batch,
    )
    assert other.labels_needed.full < tuned.labels_needed.full


def test_the_same_seed_gives_the_same_bytes(stream: Stream, tuned: Tuned, tmp_path: Path) -> None:
    """--json is the same byte for byte: with two processes as with none, replayed or from the cache, or half of it."""
    first = tune(stream, **{**SMALL, "execution": Execution(tmp_path, workers=2)})
    assert json.dumps(first.as_dict()) == json.dumps(tuned.as_dict())
    for path in sorted(tmp_path.glob("*.json"))[::4]:
        path.unlink()
    again = tune(stream, **{**SMALL, "execution": Execution(tmp_path, workers=0)})
    assert json.dumps(again.as_dict()) == json.dumps(tuned.as_dict())


def test_the_command_prints_the_same_bytes(cli: Cli) -> None:
    """`tune --json` twice, with one process and with two, nothing kept: not a byte differs."""
    search = ("--limit", "700", "--trials", "3", "--families", "logistic,hoeffding_tree", "--seeds", "1")
    command = ("tune", "river:Phishing", "--label", "target", "--budget", "0.2", "--budgets", "0.2", *search)
    told = [cli(*command, "--cache", "", "--json", "--workers", workers) for workers in ("1", "2")]
    assert told[0].code == 0, told[0].err
    assert told[0].out == told[1].out
    assert json.loads(told[0].out)["reported_on"] == 490


def test_the_written_settings_replay_with_the_same_figures(stream: Stream, tuned: Tuned, tmp_path: Path) -> None:
    """The file loads, and a replay of the rest under it gives the figures of the report, to the last digit."""
    path = tmp_path / "config.toml"
    tuned.write(path)
    config = load_config(path)
    again = replay(slice_stream(stream, tuned.first), config, batch=tuned.batch)
    reported = next(run for run in tuned.runs if run.arm == TUNED and run.budget == tuned.labels_needed.recommended)
    assert config == tuned.config
    assert (again.accuracy, again.share, again.requests) == (reported.accuracy, reported.share, reported.requests)
    assert path.read_text().startswith("# On the 300 events that tuning has not seen")


def test_the_written_settings_are_what_the_daemon_takes(tuned: Tuned, directory: Path, cli: Cli) -> None:
    """`streamal check` finds nothing wrong with the file."""
    tuned.write(directory / "config.toml")
    checked = cli("check", "--config", "config.toml")
    assert checked.code == 0, checked.out + checked.err


def test_secrets_are_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password or token of the environment does not get into the file, and None of the defaults neither."""
    security = {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "hush"}
    hidden = {"server": {"token": "hush " * 4}, "snapshots": {"key": "hush " * 4}, "bridge": {"token": "hush"}}
    told = render_config(Config.model_validate({"transport": {"kind": "kafka", "security": security}, **hidden}))
    assert "sasl_username" in told
    assert "hush" not in told
    assert "password" not in told
    assert "***" not in told
    assert "token" not in told


def test_awkward_values_survive_the_file(tmp_path: Path) -> None:
    """Quotes, blanks, unicode, nothing and nested tables load as they were."""
    config = Config.model_validate(
        {
            "features": {"declared": {'a "b" \\ é\n': "number", "": "text"}},
            "labels": {"classes": ["ja", "nein, ÄÖ"]},
            "budget": {"share": "0.000001", "quotas": {"ja": "0.5"}},
            "snapshots": {"directory": None},
            "model": {
                "pipeline": [
                    {"use": "compose.SelectType", "args": [{"type": "number"}]},
                    {"use": "imblearn.RandomOverSampler", "desired_dist": {"nein, ÄÖ": 1e-07}, "x": [[1, 2], []]},
                ]
            },
        }
    )
    path = tmp_path / "config.toml"
    path.write_text(render_config(config), encoding="utf-8")
    assert load_config(path) == config


OWN_FILE = """\
# our own notes

# the file of the north plant
[budget]
share = 0.2  # twenty
burst = 20   # the default, and we want to see it
per_hour = 100

[transport]  # where
path = "north.db"  # beside the program
"""


def test_an_existing_file_keeps_its_comments(tmp_path: Path) -> None:
    """Comments, order and what already fits stay; keys that no longer hold go."""
    config = Config.model_validate(
        {"budget": {"share": "0.05"}, "transport": {"path": "north.db"}, "labels": {"classes": ["a", "b"]}}
    )
    text = render_config(config, ["One remark.", "Another."], OWN_FILE)
    assert text.startswith("# One remark.\n# Another.\n\n# our own notes\n")
    kept = ("burst = 20   # the default, and we want to see it", "[transport]  # where", 'path = "north.db"  # beside')
    for line in ("# the file of the north plant", "share = 0.05  # twenty", *kept):
        assert f"\n{line}" in text
    assert "per_hour" not in text
    assert text.index("[budget]") < text.index("[transport]") < text.index("[labels]")
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path) == config
    assert render_config(config, ["One remark.", "Another."], text) == text


def test_tuning_twice_into_one_file_leaves_one_set_of_remarks(tuned: Tuned, tmp_path: Path) -> None:
    """The second run replaces the remarks and settings of the first; a file that is no TOML is refused."""
    path = tmp_path / "config.toml"
    tuned.write(path)
    first = path.read_text()
    changed_copy(tuned, first=123).write(path)
    assert path.read_text() == first.replace(f"first {tuned.first:,} events", "first 123 events")
    path.write_text("no = = toml")
    with pytest.raises(ConfigError, match="TOML"):
        tuned.write(path)


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")], ids=["binary", "three classes"])
@pytest.mark.parametrize(
    "kinds",
    [
        ("number",),
        ("string",),
        ("text",),
        ("number", "boolean"),
        ("vector(3)",),
        ("number", "boolean", "string", "text", "vector(3)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_every_family_fits_its_columns(kinds: tuple[str, ...], classes: tuple[str, ...], metric: Any) -> None:
    """Each model that is offered is built from configuration, learns, predicts all classes, and bears a gap."""
    stream = mixed_stream(40, kinds, classes)
    shape = Shape.of(stream, metric)
    assert families(shape)
    for name in families(shape):
        section = model_section(shape, Defaults(family=name))
        config = Config.model_validate({"model": section, "features": {"declared": dict(stream.kinds)}})
        config = with_sections(config, {"labels": {"classes": classes}})
        model = build_model(config)
        for row in stream.rows:
            model.learn(row.features, row.label)
        assert model.failures == 0, name
        raw = model.raw(stream.rows[0].features)
        assert set(raw) == set(classes), name
        assert sum(raw.values()) == pytest.approx(1.0), name
        assert not check_absence(partial(build_model, config), stream.kinds), name


def test_the_space_follows_the_columns() -> None:
    """Words only where there is text, products and neighbours only of numbers, one model for many classes."""
    numbers = families(Shape({"x": "number"}, ("a", "b")))
    assert {"polynomial", "neighbours", "forest"} <= set(numbers)
    assert not any(name.startswith("words") for name in numbers)
    assert "softmax" not in numbers
    assert "softmax" in families(Shape({"x": "number"}, ("a", "b", "c")))
    assert "neighbours" not in families(Shape({"x": "number", "s": "string"}, ("a", "b")))
    assert {"words_naive_bayes"} < set(families(Shape({"t": "text"}, ("a", "b"))))


@pytest.mark.parametrize("kinds", [{"e": "vector(3)"}, {"e": "vector(3)", "x": "number"}])
@pytest.mark.parametrize("scaled", ["one length", "standardised"])
def test_vectors_are_searched_with_both_scales(kinds: dict[str, str], scaled: str) -> None:
    """One length for the whole, or each number by itself; alone, long steps of plain gradient descent come first."""
    shape = Shape(kinds, ("a", "b"))
    pipeline = model_section(shape, Defaults(**{"logistic.vectors": scaled}))["pipeline"]
    assert ("streamal.UnitVectors" in str(pipeline)) == (scaled == "one length")
    assert ("StandardScaler" in str(pipeline)) == (scaled == "standardised" or "x" in kinds)
    assert ("optim.SGD" in str(pipeline)) == ("x" not in kinds)
    model = Model(build_estimator(pipeline, None, 1), LabelRules(("a", "b")))
    for i in range(100):
        model.learn({"e": [1.0, i % 2, 1.0 - i % 2], **({"x": i % 2 + 0.5} if "x" in kinds else {})}, "ab"[i % 2])
    assert model.failures == 0
    assert model.predict({"e": [1.0, 1.0, 0.0], **({"x": 1.5} if "x" in kinds else {})})["b"] > 0.8


def test_embedded_texts_are_vectors_to_the_search() -> None:
    """Not words: the model never sees them."""
    assert set(families(Shape.of(mixed_stream(5, ("text",), ("a", "b")), "accuracy", ["a text"]))) == {"logistic"}


def test_late_labels_bring_damping_into_the_search() -> None:
    """Near-duplicates of open requests are a question only where requests stay open."""
    shape = Shape({"x": "number"}, ("a", "b"))
    for delayed in (False, True):
        draw = Defaults()
        sampling_section(shape, draw, delayed)
        assert ("damping" in draw.values) == delayed


@pytest.mark.parametrize("goal", [Goal(target_value=0.7), Goal(target_share=0.9)], ids=["value", "share"])
def test_a_target_chooses_the_least_budget(tuned: Tuned, goal: Goal) -> None:
    """The budget is the least whose mean, less two standard errors, reaches the target."""
    needed = labels_needed(tuned.runs, goal, "accuracy")
    assert needed.wanted == goal.wanted(needed.full)
    assert needed.reached
    sure = [
        row.budget
        for row in tuned.summaries()
        if row.arm == TUNED and row.value - 2 * row.sd / row.seeds**0.5 >= needed.wanted
    ]
    assert needed.recommended == min(sure)


def test_a_target_out_of_reach_is_said_so(tuned: Tuned) -> None:
    """Where no budget reaches the target, the sentence says by how much, and the largest budget is written."""
    needed = labels_needed(tuned.runs, Goal(target_value=0.999), "accuracy")
    assert (needed.reached, needed.recommended) == (False, 0.3)
    assert "did not reach" in changed_copy(tuned, labels_needed=needed).sentence()


def test_a_budget_is_kept(tuned: Tuned) -> None:
    """Who names a budget gets settings with that budget, whatever the curve says."""
    assert labels_needed(tuned.runs, Goal(budget=Decimal("0.05")), "accuracy").recommended == 0.05


def test_the_report_shows_the_answer_and_the_settings(tuned: Tuned, tmp_path: Path) -> None:
    """The page begins with the answer, and holds the settings that can be copied."""
    save_report(tuned, tmp_path / "r.html")
    page = re.sub(r'src="data:[^"]*"', "", (tmp_path / "r.html").read_text())
    assert tuned.sentence() in page
    assert "[model]" in page
    assert f"<td>{tuned.trials[0].value:.4f}</td>" in page
    assert "http" not in page


def test_the_frames_have_the_runs_and_the_trials(tuned: Tuned) -> None:
    """One row for each replay of the rest, one for each trial of the first part."""
    assert len(tuned.to_frame()) == len(tuned.runs)
    assert len(tuned.trials_frame()) == len(tuned.trials)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--budget", "0.1", "--target-accuracy", "0.9"), "one of"),
        (("--budget", "lots"), "--budget"),
        (("--limit", "100"), "rows"),
        (("--families", "nothing"), "families"),
        (("--write", "/nowhere/config.toml"), "no directory"),
        (("--write", __file__), "not TOML"),
    ],
)
def test_wrong_arguments_are_one_line(cli: Cli, arguments: tuple[str, ...], word: str) -> None:
    """Exit code 2, and what to do."""
    done = cli("tune", "river:Phishing", "--label", "target", "--workers", "1", "--cache", "", *arguments)
    assert done.code == 2
    assert word in done.err


def test_every_figure_is_of_a_run_with_all_its_parts(tuned: Tuned) -> None:
    """Curves end at the stream's end, and what was spent adds up in each of its three views."""
    for run in tuned.runs:
        assert isinstance(run, Run)
        assert (run.curve[-1].events, run.curve[-1].requests) == (run.events, run.requests)
        assert run.curve[-1].accuracy == run.accuracy
        for counts in (run.spending.uncertainty, run.spending.time, list(run.spending.classes.values())):
            assert (sum(c[0] for c in counts), sum(c[1] for c in counts)) == (run.events, run.requests)


def test_the_models_are_rivers(stream: Stream) -> None:
    """What is found is configuration: it builds an estimator of River, and evaluates nothing."""
    section = model_section(Shape.of(stream, "accuracy"), Defaults())
    assert json.loads(json.dumps(section)) == section
    config = with_sections(Config(), {"model": section}, {"labels": {"classes": stream.classes}})
    assert isinstance(build_model(config)._estimator, base.Base)


def test_the_documentation_names_every_family() -> None:
    """Each family that may be searched stands in the table of docs/tuning.md."""
    page = (Path(__file__).parents[1] / "docs/tuning.md").read_text()
    for kinds in ({"n": "number"}, {"t": "text"}):
        for classes in (("a", "b"), ("a", "b", "c")):
            assert all(f"`{name}`" in page for name in families(Shape(kinds, classes)))


def test_a_strategy_that_lost_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where random does as well on the rest, the settings ask at random, and the labels needed are those of random."""
    tune_module = importlib.import_module("streamal.experiments.tune")  # the package has a function of that name
    real = tune_module.best_gain
    monkeypatch.setattr(tune_module, "best_gain", lambda runs, metric: changed_copy(real(runs, metric), value=0.0))
    lost = tune(easy_stream(500), **SMALL)
    assert (lost.asks, lost.config.sampling.strategy, lost.config.sampling.parameters) == (CONTROL, CONTROL, {})
    assert lost.labels_needed == labels_needed(lost.runs, Goal(target_share=0.98), "accuracy", CONTROL)
    assert lost.gain_sentence().endswith("So the settings ask at random.")


def test_the_answer_says_whether_asking_was_worth_it(tuned: Tuned) -> None:
    """In the JSON, in the written file and in a notebook; the result is one line as text."""
    assert tuned.gain_sentence().startswith("Asking by tuned ")
    assert tuned.as_dict()["asking"] == tuned.gain_sentence()
    assert tuned.gain_sentence()[:40] in tuned.toml()
    assert tuned.gain_sentence() in tuned._repr_html_()
    assert repr(tuned).startswith("Tuned(easy: ")
    assert "\n" not in repr(tuned)
