"""A warm start: the same for every worker, counted in nothing, and clear about what is wrong with it."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from river import linear_model, multiclass, preprocessing

from streamal.bootstrap import build
from streamal.cli.run import log_warm_start
from streamal.config import Config, load_config
from streamal.errors import ConfigError, InconsistentLog
from streamal.inspection.verify.verify import verify
from streamal.replay import replay
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import play
from tests.conftest import Cli
from tests.making import BAYES
from tests.recorded import ListLog, ListSnapshots, World, easy_stream, make_config, rows_of

TOML = """
[features]
declared = { x1 = "number", x2 = "number" }
[labels]
classes = ["no", "yes"]
[model]
warm_start = "FILE"
"""
PROBES = [row.features for row in easy_stream(20, seed=3).rows]


def labelled(directory: Path, name: str = "labelled.csv", count: int = 200) -> Path:
    """Write rows of the easy stream to a file, in the format of its name."""
    rows = [{**row.features, "label": row.label, "note": "not a feature"} for row in easy_stream(count, seed=9).rows]
    if ".jsonl" in name:
        text = "\n".join(json.dumps(row) for row in rows)
    else:
        text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    path = directory / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def pickled(directory: Path, estimator: Any, classes: tuple[Any, Any] = (False, True)) -> Path:
    """Train *estimator* on rows of the easy stream and pickle it."""
    for row in easy_stream(200, seed=9).rows:
        estimator.learn_one(row.features, classes[row.label == "yes"])
    path = directory / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    path.chmod(0o600)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def warm(path: Path, **more: Any) -> Config:
    alone: dict[str, Any] = {"pipeline": []} if path.suffix == ".pkl" else {}
    return make_config(model={"warm_start": path, **alone, **more})


def right(config: Config) -> float:
    """Return the accuracy of a worker that has folded nothing yet."""
    fold = build(config).new_fold()
    rows = easy_stream(300, seed=4).rows
    said = [fold.learned.model.predict(row.features) for row in rows]
    return sum(max(p, key=p.__getitem__) == row.label for p, row in zip(said, rows, strict=True)) / len(rows)


# What it teaches.


@pytest.mark.parametrize("name", ["labelled.csv", "labelled.csv.gz", "labelled.jsonl", "labelled.jsonl.gz"])
def test_labelled_rows_are_learned_before_the_first_event(directory: Path, name: str) -> None:
    """The model is good at once; columns outside the schema are no features; quality and spend know of nothing."""
    config = warm(labelled(directory, name))
    fold = build(config).new_fold()
    assert sum(fold.learned.model.learned.values()) == 200
    assert right(config) > 0.8 > right(make_config()) + 0.2
    assert (fold.learned.quality.total.count, fold.learned.quality.natural_count, fold.books.version.records) == (
        0,
        0,
        0,
    )


def test_a_pickled_model_is_gone_on_with(directory: Path) -> None:
    """It predicts as it was pickled from the first event on, though this worker has learned nothing yet."""
    estimator = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    path = pickled(directory, estimator)
    config = warm(path, warm_start_sha256=digest(path))
    fold = build(config).new_fold()
    said = estimator.predict_proba_one(dict(PROBES[0]))
    assert fold.learned.model.predict(PROBES[0]) == {"no": said[False], "yes": said[True]}
    assert right(config) > 0.8


@pytest.mark.parametrize("kind", ["labelled.csv", "model.pkl"])
def test_the_first_record_says_what_every_worker_began_with(directory: Path, kind: str) -> None:
    """Once, by the trainer; restarts, snapshots and `verify` go along, and the figures count bought labels only."""
    if kind == "model.pkl":
        estimator = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        path = pickled(directory, estimator)
        config = warm(path, warm_start_sha256=digest(path))
    else:
        path = labelled(directory)
        config = warm(path)
    world, snapshots = World(config), ListSnapshots()
    daemon = world.daemon(snapshots)
    play(daemon, world.player(easy_stream(200), AnnotatorsRules()), world.clock, 5, lambda _: None)
    daemon.close()
    training = rows_of(world.broker, world.topics.training)
    assert {key: training[0][key] for key in ("kind", "sha256")} == {"kind": "warm", "sha256": digest(path)}
    assert [row["kind"] for row in training].count("warm") == 1
    assert daemon.fold.learned.quality.total.count == len(training) - 1 > 10
    for shelf in (snapshots, None):
        again = world.daemon(shelf)
        again.start()
        assert [again.fold.learned.model.predict(p) for p in PROBES] == [
            daemon.fold.learned.model.predict(p) for p in PROBES
        ]
    parts = build(config)
    checks = verify(world.broker, parts.rules, parts.budget, "streamal", parts.new_fold)
    assert [check.promise for check in checks if check.broken] == []


def test_a_replay_begins_warm(directory: Path) -> None:
    """`streamal replay` shows what the file is worth: the first events are predicted rightly too."""
    stream, path = easy_stream(150), labelled(directory)
    cold, begun = (replay(stream, config) for config in (make_config(), warm(path)))
    assert sum(begun.correct[:40]) > sum(cold.correct[:40])
    assert begun.labels == begun.requests


def test_a_control_begins_as_the_model_does(directory: Path) -> None:
    """Both of its models know what the warm start taught, and none of the three is another."""
    path = labelled(directory)
    fold = build(make_config(model={"warm_start": path}, quality={"control": True})).new_fold()
    assert fold.learned.control is not None
    models = (fold.learned.model, fold.learned.control.random, fold.learned.control.chosen)
    assert len({id(model) for model in models}) == 3
    for model in models:
        assert [model.predict(p) for p in PROBES] == [fold.learned.model.predict(p) for p in PROBES]
    before = [fold.learned.model.predict(p) for p in PROBES]
    fold.learned.control.random.learn(PROBES[0], "no")
    assert [model.predict(PROBES[0]) for model in models[::2]] == [before[0]] * 2


# Workers that began otherwise.


def test_a_worker_with_another_file_stops(directory: Path) -> None:
    """Another file, none, or one where the log began with none: InconsistentLog, exit 2, both digests named."""
    ours, other = labelled(directory, "ours.csv"), labelled(directory, "other.csv", count=150)
    for began, come in ((ours, other), (ours, None), (None, other)):
        config = make_config() if began is None else warm(began)
        world = World(config)
        daemon = world.daemon()
        play(daemon, world.player(easy_stream(30), AnnotatorsRules()), world.clock, 1, lambda _: None)
        world.config = make_config() if come is None else warm(come)
        with pytest.raises(InconsistentLog, match=r"began with .*warm start") as raised:
            world.daemon().start()
        assert raised.value.exit_code == 2
        assert all(digest(path) in str(raised.value) for path in (began, come) if path)


def test_the_fingerprint_knows_the_file(directory: Path) -> None:
    """A snapshot that began with another file under the same name is not taken."""
    path = labelled(directory)
    before = build(warm(path)).settings.fingerprint
    labelled(directory, count=199)
    assert build(warm(path)).settings.fingerprint != before


def test_the_fingerprint_knows_the_least_propensity() -> None:
    """A confidence sequence rests on it: a snapshot of one of another audit lane is not taken."""
    sequence, others = {"interval": "confidence_sequence"}, ({"audit_share": 0.3}, {"audit_share": 0.5})
    assert len({build(make_config(quality=sequence, budget=budget)).settings.fingerprint for budget in others}) == 2
    assert len({build(make_config(budget=budget)).settings.fingerprint for budget in others}) == 1


# What is wrong with it.

WRONG = {
    "no such file": ("", None, "No such file"),
    "no such label": ("x1,x2,klass\n1,2,yes\n", None, "no column 'label', but x1, x2, klass"),
    "a class nobody declared": ("x1,x2,label\n1,2,maybe\n", None, "example 1: label 'maybe' is not among the classes"),
    "no number": ("x1,x2,label\n1,2,yes\n1,two,no\n", None, "row 2: column 'x2' is 'two', not a number"),
    "nothing but NaN": ("x1,x2,label\ninf,nan,yes\n", None, "row 1: no feature left"),
    "too large": ("x1,x2,label\n1,1e13,yes\n", None, "row 1: feature 'x2' is beyond"),
    "no features": ("a,b,label\n1,2,yes\n", None, "row 1: no feature left"),
    "no labels": ("x1,x2,label\n1,2,\n", None, "no row has a label"),
    "another delimiter": ("x1~x2~label\n1~2~yes\n", None, "a warm start has no such options: mend the file"),
    "another file": ("x1,x2,label\n1,2,yes\n", "0" * 64, "not model.warm_start_sha256 = 0000"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_does_not_fit_ends_with_2_and_one_line(cli: Cli, directory: Path, what: str) -> None:
    """`streamal check` names the file, the row and what is wrong."""
    text, sha256, expected = WRONG[what]
    if text:
        (directory / "labelled.csv").write_text(text)
    more = f'warm_start_sha256 = "{sha256}"\n' if sha256 else ""
    (directory / "config.toml").write_text(TOML.replace("FILE", "labelled.csv") + more)
    ended = cli("check")
    assert ended.code == 2
    assert "model.warm_start" in ended.line
    assert expected in ended.line


def test_undeclared_features_are_asked_for(cli: Cli, directory: Path) -> None:
    """A file cannot say which of its columns an event has, nor whether 3 is a class: the line to write is shown."""
    labelled(directory)
    (directory / "config.toml").write_text('[model]\nwarm_start = "labelled.csv"\n')
    ended = cli("check")
    assert ended.code == 2
    assert 'features.declared = { x1 = "number", x2 = "number", note = "string" }' in ended.line


def test_check_says_what_it_begins_with(cli: Cli, directory: Path) -> None:
    """Number of examples, file and digest; status needs no file."""
    path = labelled(directory)
    (directory / "config.toml").write_text(TOML.replace("FILE", "labelled.csv"))
    shown = json.loads(cli("check", "--json").out)
    assert shown["warm start"] == "200 examples from labelled.csv"
    assert shown["warm start sha256"] == digest(path)


UNTIDY = {
    "NA and labels that are missing": ("x1,x2,label\n1,NA,yes\n2,1,NA\n3,2,no\n", {"missing": 1, "no_label": 1}),
    "short rows": ("x1,x2,label\n1,2,yes\n2\n3,4,no\n", {"short_rows": 1}),
    "a number out of range": ("x1,x2,label\n1,2,yes\n1e13,2,no\n3,4,no\n", {"refused": 1}),
    "a column that nobody has": ("x1,label\n1,yes\n2,no\n", {"declared_missing": 1}),
    "a column that holds nothing": ("x1,x2,label\n1,,yes\n2,,no\n", {"empty_column": 1}),
    "semicolons and decimal commas": ("x1;x2;label\n1,5;2,5;yes\n3,5;4,5;no\n", {"guess": 2}),
    "an index": (",x1,x2,label\n0,1,2,yes\n1,3,4,no\n", {"index": 1}),
}


@pytest.mark.parametrize("what", UNTIDY)
def test_what_is_left_out_of_it_is_said(cli: Cli, directory: Path, what: str) -> None:
    """By `check`, with rows and values, and in its JSON; by `run` in the log, without values."""
    text, expected = UNTIDY[what]
    (directory / "labelled.csv").write_text(text)
    (directory / "config.toml").write_text(TOML.replace("FILE", "labelled.csv"))
    ended = cli("check", "--json")
    assert ended.code == 0, ended.err
    account = json.loads(ended.out)["warm start account"]
    assert {each["kind"]: each["count"] for each in account["findings"]} == expected or what.startswith("semi")
    assert all(f"model.warm_start: labelled.csv: {each['text']}" in ended.err for each in account["findings"])
    log = ListLog()
    log_warm_start(load_config(directory / "config.toml"), log)
    assert log.fields("warm_start_findings")["findings"] == expected
    assert "NA" not in str(log.said)


def test_a_tidy_file_says_nothing(cli: Cli, directory: Path) -> None:
    """No line of `check`, none in the log."""
    labelled(directory)
    (directory / "config.toml").write_text(TOML.replace("FILE", "labelled.csv"))
    ended = cli("check")
    assert (ended.code, ended.err) == (0, "")
    log = ListLog()
    log_warm_start(load_config(directory / "config.toml"), log)
    assert log.said == []


def test_labels_of_the_warm_start_are_those_of_replies(directory: Path) -> None:
    """1.0 and 0.0 in the file, 1 and 0 in the replies: two classes."""
    rows = [f"{row.features['x1']},{row.features['x2']},{float(row.label == 'yes')}" for row in easy_stream(60).rows]
    (directory / "labelled.csv").write_text("x1,x2,label\n" + "\n".join(rows))
    config = make_config(labels={"classes": ()}, model={"warm_start": directory / "labelled.csv"})
    world = World(config)
    stream = easy_stream(60, seed=2)
    renamed = [row._replace(label=str(int(row.label == "yes"))) for row in stream.rows]
    daemon = world.daemon()
    play(daemon, world.player(replace(stream, rows=renamed), AnnotatorsRules()), world.clock, 5, lambda _: None)
    assert set(daemon.fold.learned.model.classes) == {"0", "1"}


def test_a_pickle_is_opened_on_request_only(cli: Cli, directory: Path) -> None:
    """Without its digest in the configuration the code in it never runs, and the message gives the digest."""
    path = directory / "model.pkl"
    path.write_bytes(b"cstreamal.warming\nlessons\n(tR.")  # whatever it would call, with the wrong arguments
    path.chmod(0o600)
    (directory / "config.toml").write_text(TOML.replace("FILE", "model.pkl"))
    ended = cli("check")
    assert ended.code == 2
    assert "runs whatever code it holds" in ended.line
    assert f'model.warm_start_sha256 = "{digest(path)}"' in ended.line


def test_a_pickle_that_others_may_write_to_is_refused(directory: Path) -> None:
    """As a snapshot is (F50)."""
    path = pickled(directory, linear_model.LogisticRegression())
    path.chmod(0o622)
    with pytest.raises(ConfigError, match="chmod go-w"):
        build(warm(path, warm_start_sha256=digest(path))).new_fold()


@pytest.mark.parametrize(
    ("estimator", "classes", "expected"),
    [
        (
            multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
            (0, 1),
            r"trained on the classes \['0', '1",
        ),
        (BAYES(), ("no", "perhaps"), "'perhaps'"),
    ],
)
def test_a_pickle_of_other_classes_is_refused(
    directory: Path, estimator: Any, classes: tuple[Any, Any], expected: str
) -> None:
    """Its classes would never be predicted: those of the configuration have to be the ones that it knows."""
    path = pickled(directory, estimator, classes)
    with pytest.raises(ConfigError, match=expected):
        build(warm(path, warm_start_sha256=digest(path))).new_fold()


def test_a_pickle_of_something_else_is_refused(directory: Path) -> None:
    """Neither a string nor a scaler is a classifier."""
    for thing, expected in (("a string", "holds a str"), (preprocessing.StandardScaler(), "must be a classifier")):
        path = directory / "model.pkl"
        path.write_bytes(pickle.dumps(thing))
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=expected):
            build(warm(path, warm_start_sha256=digest(path))).new_fold()
