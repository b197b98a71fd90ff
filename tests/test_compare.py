"""compare: a grid of replays on the same coins, beside three baselines; resumable, and the same byte for byte."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import pytest

import streamal
from streamal.errors import ConfigError
from streamal.experiments import Comparison, Execution, Grid, compare
from streamal.experiments import bench as bench_module
from streamal.experiments.bench import Bench, Cell
from streamal.experiments.runs import Run, Spending
from streamal.experiments.summaries import ALL, CONTROL, Baselines, best_gain, gain_sentence, remarks
from streamal.replay import Stream, read_stream
from streamal.reports import save_pictures, save_report
from streamal.reports.charts import PANELS, data_uri
from streamal.reports.study import Study
from tests.conftest import Cli
from tests.recorded import easy_stream, make_config

HERE = Execution(workers=0)
GRID = ("compare", "river:Phishing", "--label", "target", "--limit", "200", "--seeds", "2", "--budgets", "0.05,0.2")


@pytest.fixture(scope="module")
def stream() -> Stream:
    return easy_stream(400)


@pytest.fixture(scope="module")
def result(stream: Stream) -> Comparison:
    grid = Grid(strategies=("variable", "quantile"), budgets=(0.05, "0.2"), seeds=2)
    return compare(stream, make_config(), grid, execution=HERE)


def test_the_grid_is_full(result: Comparison) -> None:
    """Every strategy, and the control, at every budget with every seed; all labels once for the model."""
    found = Counter((run.arm, run.budget, run.seed) for run in result.runs)
    arms = ("variable", "quantile", CONTROL)
    wanted = {(arm, budget, seed) for arm in arms for budget in (0.05, 0.2) for seed in (7, 8)}
    assert found == Counter([*wanted, (ALL, 1.0, 7)])


def test_the_baselines_are_what_they_say(result: Comparison, stream: Stream) -> None:
    """All labels asks for every event; the commonest class and the label before are counted from the labels."""
    full = next(run for run in result.runs if run.arm == ALL)
    labels = [row.label for row in stream.rows]
    assert (full.share, full.labels) == (1.0, len(labels))
    assert result.baselines.majority == max(Counter(labels).values()) / len(labels)
    assert result.baselines.no_change == sum(a == b for a, b in itertools.pairwise(labels)) / len(labels)
    assert all(run.accuracy <= full.accuracy + 0.05 for run in result.runs)


def test_the_control_meets_the_same_coins(result: Comparison, stream: Stream) -> None:
    """A comparison without the other strategies has the very same control."""
    alone = compare(stream, make_config(), Grid(strategies=(), budgets=(0.05, 0.2), seeds=2), execution=HERE)
    assert [run for run in alone.runs if run.arm == CONTROL] == [run for run in result.runs if run.arm == CONTROL]


def test_many_processes_find_the_same_as_one(result: Comparison, stream: Stream, tmp_path: Path) -> None:
    """Two processes, spawned, give the same figures in the same order, and leave them in the cache."""
    grid = Grid(strategies=("variable", "quantile"), budgets=(0.05, 0.2), seeds=2)
    assert compare(stream, make_config(), grid, execution=Execution(tmp_path, workers=2)).runs == result.runs
    assert len(list(tmp_path.glob("*.json"))) == len(result.runs)


def test_an_interrupted_comparison_goes_on(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished before an interruption is not replayed again; a file that was cut off is."""
    cells = [Cell("x", "m", make_config(sampling={"seed": seed})) for seed in range(3)]
    replayed: list[int] = []
    real = bench_module.run_cell

    def interrupted(rows: Stream, cell: Cell) -> Run:
        replayed.append(cell.config.sampling.seed)
        if len(replayed) == 3:
            raise KeyboardInterrupt
        return real(rows, cell)

    monkeypatch.setattr(bench_module, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt), Bench(stream, tmp_path, workers=0) as bench:
        bench.run(cells)
    first = min(tmp_path.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    first.write_bytes(first.read_bytes()[:100])
    with Bench(stream, tmp_path, workers=0) as bench:
        runs = bench.run(cells)
    assert replayed == [0, 1, 2, 0, 2]
    with Bench(stream, None, workers=0) as bench:
        assert bench.run(cells) == runs


def test_what_is_asked_twice_is_replayed_once(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that differ by name alone share a replay, also without a cache, and every one of them is counted."""
    replayed: list[str] = []
    counted: list[int] = []
    real = bench_module.run_cell

    def noted(rows: Stream, cell: Cell) -> Run:
        replayed.append(cell.arm)
        return real(rows, cell)

    monkeypatch.setattr(bench_module, "run_cell", noted)
    with Bench(stream, None, workers=0) as bench:
        runs = bench.run([Cell("a", "m", make_config()), Cell("b", "n", make_config())], counted.append)
        assert bench.run([Cell("c", "m", make_config())])[0].curve == runs[0].curve
    assert len(replayed) == 1
    assert sum(counted) == 2
    assert [(run.arm, run.model) for run in runs] == [("a", "m"), ("b", "n")]


def test_another_stream_is_another_cell(stream: Stream, tmp_path: Path) -> None:
    """The cache tells streams, settings, rows and annotators apart, and does not mind the names."""
    cell = Cell("a", "m", make_config())
    other = Stream("easy", [*stream.rows[:-1], stream.rows[0]], stream.kinds, stream.classes)
    for rows, wanted in (
        (stream, cell),
        (stream, Cell("b", "n", make_config())),
        (other, cell),
        (stream, Cell("a", "m", make_config(), last=300)),
        (stream, Cell("a", "m", make_config(), batch=2)),
    ):
        with Bench(rows, tmp_path, workers=0) as bench:
            assert bench.run([wanted])[0].arm == wanted.arm
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_any_change_of_the_package_makes_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed byte in any file of the package, a new one or a renamed one: the cached replays no longer count."""
    package = Path(streamal.__file__).parent
    copy = tmp_path / "streamal"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(streamal, "__file__", str(copy / "__init__.py"))
    digest = bench_module._code_digest.__wrapped__
    digests = {whole := digest()}
    files = sorted(copy.rglob("*.py"))
    for file in files:
        before = file.read_bytes()
        file.write_bytes(before + b"#")
        digests.add(digest())
        file.write_bytes(before)
    assert len(digests) == 1 + len(files) > 100
    assert digest() == whole
    (copy / "new.py").write_text("")
    (copy / "ports.py").rename(copy / "harbours.py")
    assert digest() not in digests


def test_the_same_seed_gives_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    """--json is deterministic byte for byte, whether replayed or taken from the cache."""
    command = (*GRID, "--strategies", "variable", "--json")
    told = [
        cli(*command, "--cache", cache, "--workers", workers)
        for cache, workers in ((str(tmp_path), "1"), (str(tmp_path), "1"), ("", "2"))
    ]
    assert told[0].code == 0, told[0].err
    assert told[0].out == told[1].out == told[2].out
    assert set(json.loads(told[0].out)) == {
        *("stream", "events", "metric", "asking", "remarks", "no_change", "majority", "summaries", "runs", "account"),
    }


def test_the_report_needs_nothing_else(result: Comparison, tmp_path: Path) -> None:
    """One HTML file with every picture and figure inside: no address, no script, no reference out of it or them."""
    path = tmp_path / "report.html"
    save_report(result, path)
    page = path.read_text()
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    bare = re.sub(r'src="data:image/svg\+xml;base64,[^"]*"', "", page)
    assert not re.findall(r"https?:|//\w+\.\w|<script|<link|<iframe|@import|\bsrc=|\bhref=|url\(", bare)
    assert len(pictures) == len(PANELS) == page.count("<img") == page.count("<figcaption>")
    for picture in pictures:
        svg = base64.b64decode(picture, validate=True).decode()
        assert ET.fromstring(svg).tag.endswith("}svg")
        assert not re.findall(r"<script|<image|href=\"(?!#)|@import|url\((?!#)", svg)
    for row in result.summaries():
        assert f"<td>{row.value:.4f}</td>" in page
    assert all(panel.title in page for panel in PANELS)


def test_the_pictures_are_files_too(result: Comparison, tmp_path: Path) -> None:
    """SVG and PNG of every picture, and drawing one again changes no byte of the report's."""
    save_pictures(result, tmp_path)
    names = {f"{panel.key}.{suffix}" for panel in PANELS for suffix in ("svg", "png")}
    assert {path.name for path in tmp_path.iterdir()} == names
    study = Study.of(result)
    assert data_uri(PANELS[0], study) == data_uri(PANELS[0], study)


def test_names_in_a_report_are_only_text(tmp_path: Path) -> None:
    """A stream or class whose name is HTML does no harm."""
    rows = [row._replace(label=row.label.replace("yes", "<script>")) for row in easy_stream(120).rows]
    stream = Stream("<script>alert(1)</script>", rows, {"x1": "number", "x2": "number"}, ("<script>", "no"))
    grid = Grid(strategies=(), budgets=(0.2,), seeds=1)
    save_report(compare(stream, grid=grid, execution=HERE), tmp_path / "r.html")
    assert "<script" not in (tmp_path / "r.html").read_text()


def test_the_frame_has_a_row_for_each_replay(result: Comparison) -> None:
    """to_frame() has one row a replay, with plain columns."""
    frame = result.to_frame()
    assert len(frame) == len(result.runs)
    columns = list(getattr(frame, "column_names", None) or frame.columns)
    assert {"arm", "model", "budget", "seed", "share", "accuracy", "estimated_low"} <= set(columns)


def test_the_terminal_shows_the_curve_and_the_table(cli: Cli) -> None:
    """For people: the main curve, then one line for each arm and budget."""
    done = cli(*GRID, "--strategies", "variable", "--cache", "", "--workers", "1")
    assert done.code == 0, done.err
    for word in ("labels, % of the events", "variable", "random", "all labels", "the label before", "100.00%"):
        assert word in done.out


def test_models_are_compared_by_name(stream: Stream) -> None:
    """A family of models stands for a pipeline; each model has its own baselines."""
    grid = Grid(models=("logistic", "hoeffding_tree"), strategies=(), budgets=(0.1,), seeds=1)
    result = compare(stream, grid=grid, execution=HERE)
    assert Counter(run.model for run in result.runs) == {"logistic": 2, "hoeffding_tree": 2}
    assert len({run.accuracy for run in result.runs if run.arm == ALL}) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"grid": Grid(strategies=("nonsense",))}, "strategy"),
        ({"grid": Grid(budgets=("a lot",))}, "--budgets"),
        ({"grid": Grid(budgets=(2,))}, "budget.share"),
        ({"grid": Grid(models=("words_naive_bayes",))}, "does not fit"),
        ({"metric": "f1"}, "--metric"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(stream: Stream, changes: dict[str, object], word: str) -> None:
    """What does not exist is named."""
    with pytest.raises(ConfigError, match=word):
        compare(stream, execution=HERE, **changes)  # type: ignore[arg-type]


def test_balanced_accuracy_weighs_the_classes_alike(stream: Stream) -> None:
    """The figure that is summarised is the mean recall, where it is asked for."""
    grid = Grid(strategies=(), budgets=(0.1,), seeds=1)
    result = compare(stream, make_config(), grid, metric="balanced_accuracy", execution=HERE)
    assert [row.value for row in result.summaries()] == [run.balanced_accuracy for run in result.runs]
    assert result.baselines.majority == 0.5


def test_river_streams_are_read(cli: Cli) -> None:
    """The option --limit and data sets of River work as in replay."""
    assert len(read_stream("river:Phishing", "target", limit=10).rows) == 10
    assert cli("compare", "river:Nothing", "--label", "target").code == 2


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_trees_do_not_depend_on_the_hashes_of_their_process(hash_seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """River's trees walk through sets of classes: worker processes hash alike, and leave our environment as it was."""
    monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
    seen: list[str] = []
    monkeypatch.setattr(bench_module, "ProcessPoolExecutor", _Spy)
    monkeypatch.setattr(bench_module, "_start_worker", lambda _: None)  # is for a process of its own
    monkeypatch.setattr(bench_module, "_STREAMS", [stream := easy_stream(30)])
    monkeypatch.setattr(_Spy, "seen", seen)
    with Bench(stream, None, workers=1) as bench:
        bench.run([Cell("x", "m", make_config())])
    assert seen == ["0"]
    assert os.environ["PYTHONHASHSEED"] == hash_seed


class _Spy:
    """A pool that notes the hash seed under which its processes would start, and runs everything at once."""

    seen: ClassVar[list[str]] = []

    def __init__(self, workers: int, context: Any, initializer: Any, initargs: Any) -> None:
        initializer(*initargs)

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        self.seen.append(os.environ["PYTHONHASHSEED"])
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **how: bool) -> None:
        """Nothing has been started."""


def made(arm: str, seed: int, accuracy: float, **more: Any) -> Run:
    """Return a run of 1,000 events with that accuracy."""
    counts: dict[str, Any] = dict.fromkeys(("requests", "labels"), 100)
    fields = {"share": 0.1, "balanced_accuracy": accuracy, "settled": accuracy, "settled_balanced": accuracy}
    empty: dict[str, Any] = {
        "recall": {},
        "confusion": {},
        "never_labelled": [],
        "remarks": [],
        "curve": [],
        "drifts": [],
    }
    return Run(
        arm=arm, model="m", budget=0.1, seed=seed, events=1_000, accuracy=accuracy, estimated=None, naive=None,
        spending=Spending([], {}, []), **{**counts, **fields, **empty, **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.90, 0.91, 0.90), "Asking by a was better than asking at random for as many labels: +0.1033 in accuracy"),
        ((0.81, 0.80, 0.80), "Asking by a did no better than asking at random for as many labels: it is within chance"),
        ((0.79, 0.80, 0.78), "Asking by a did no better than asking at random for as many labels: it did not win"),
    ],
)
def test_one_sentence_says_whether_asking_was_worth_it(values: Sequence[float], words: str) -> None:
    """By pairs with the same coins; what three seeds show by chance is not called a gain."""
    runs = [made(CONTROL, seed, 0.8) for seed in range(3)]
    runs += [made("a", seed, value) for seed, value in enumerate(values)]
    runs += [made("worse", seed, 0.5) for seed in range(3)]
    comparison = Comparison("s", 1_000, "accuracy", Baselines(0.5, 0.5), runs)
    assert comparison.sentence().startswith(words)
    assert comparison.as_dict()["asking"] == comparison.sentence()


def test_without_another_arm_there_is_nothing_to_say() -> None:
    """Random alone, or all labels, is no comparison."""
    assert gain_sentence([made(CONTROL, 1, 0.8), made(ALL, 1, 0.9)], "accuracy") == ""


def test_an_agreement_of_seeds_is_no_proof() -> None:
    """Three seeds that happen to give the same difference have an error all the same: that of so many events."""
    runs = [made(arm, seed, value) for arm, value in ((CONTROL, 0.8), ("a", 0.81)) for seed in range(3)]
    gain = best_gain(runs, "accuracy")
    assert gain is not None
    assert gain.error == pytest.approx((0.1 / 1_000 / 3) ** 0.5)
    assert not gain.is_clear


def test_what_weakens_the_figures_is_said(cli: Cli, directory: Path) -> None:
    """A class that no strategy found; labels that were refused, whoever asked."""
    runs = [made(ALL, 1, 0.9, remarks=["3 labels were refused"]), made("a", 1, 0.8, never_labelled=["x"])]
    assert remarks([*runs, made(CONTROL, 1, 0.8)]) == [
        "with all labels: 3 labels were refused",
        "in 1 of 2 replays a class was never labelled, so never predicted: 'x'",
    ]
    (directory / "s.csv").write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2] * 300}\n" for n in range(100)))
    small = ("--strategies", "variable", "--budgets", "0.1", "--seeds", "1", "--cache", "", "--workers", "1")
    ended = cli("compare", "s.csv", "--label", "y", *small)
    assert "streamal: with all labels: 100 labels were refused: bad_field 100" in ended.err
    assert "did no better than asking at random" in ended.out


def test_results_are_short_in_a_notebook(result: Comparison) -> None:
    """One line as text, a table as HTML with both accuracies."""
    assert repr(result).startswith("Comparison(easy: 400 events, ")
    assert repr(result.runs[0]).startswith(f"Run({ALL}, configured, ")
    assert len(repr(result)) + len(repr(result.runs[0])) < 400
    assert "<th>balanced accuracy</th>" in result._repr_html_()
    assert result.sentence() in result._repr_html_()


def test_the_report_has_recall_and_confusion(result: Comparison, tmp_path: Path) -> None:
    """By class, for the runs that are drawn; the sentence leads it."""
    save_report(result, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "Recall by class" in page
    assert "true \\ predicted" in page
    assert result.sentence().split(":")[0] in page
