"""The command line: help that teaches, exit codes 0, 1, 2, and one line that names what is wrong."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from streamal.cli import app
from streamal.edge.sqlite import SqliteLog
from tests.conftest import Cli
from tests.recorded import rows_of

COMMANDS = [str(command.name) for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(cli: Cli, command: str) -> None:
    """--help of every command ends with 0, explains it in a sentence, and describes each option."""
    ended = cli(command, "--help")
    assert ended.code == 0
    assert f"Usage: streamal {command}" in ended.out
    assert len(ended.out.split()) > 40


def test_alone_it_shows_its_commands(streamal: Cli, directory: Path) -> None:
    """`streamal` without a command shows help with every command in it."""
    ended = streamal(cwd=directory)
    assert "Usage: streamal" in ended.out + ended.err
    assert all(command in ended.out + ended.err for command in COMMANDS)


def test_the_version(cli: Cli) -> None:
    """--version prints name and version."""
    assert cli("--version").out.split()[0] == "streamal"


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("run", "--nonsense"), ("replay", "s.csv"), ("replay", "s.csv", "--label", "y", "--limit", "0")],
)
def test_usage_errors_end_with_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    """A command, option or argument that is wrong or missing."""
    assert cli(*arguments).code == 2


WRONG = {
    "no TOML": ("budget = ", "config.toml is not TOML"),
    "an unknown section": ("[bugdet]\nshare = 0.1", "bugdet"),
    "an unknown key": ("[budget]\nshares = 0.1", "budget.shares"),
    "a share above 1": ("[budget]\nshare = 2", "budget.share"),
    "a share of nothing": ("[budget]\nshare = 0", "budget.share"),
    "a wrong type": ('[limits]\nfeatures = "many"', "limits.features"),
    "an unknown strategy": ('[sampling]\nstrategy = "clever"', "randomised_variable"),
    "an unknown measure": ('[sampling]\nuncertainty = "doubt"', "least_confidence"),
    "two topics of one name": ('[topics]\nevents = "streamal.labels"', "topics"),
    "a class twice": ('[labels]\nclasses = ["a", "a"]', "labels"),
    "a model that River has not": ('[model]\npipeline = [{ use = "linear_model.Nope" }]', "model.pipeline[0].use"),
    "a model outside of River": ('[model]\npipeline = [{ use = "os.system" }]', "model.pipeline[0].use"),
    "a wrong argument": ('[model]\npipeline = [{ use = "naive_bayes.GaussianNB", x = 1 }]', "model.pipeline"),
    "no classifier": ('[model]\npipeline = [{ use = "preprocessing.StandardScaler" }]', "model"),
    "a factory that is not there": ('[model]\nfactory = "nowhere:build"', "model.factory"),
    "a binary model of three classes": (
        '[labels]\nclasses = ["a", "b", "c"]\n[model]\npipeline = [{ use = "linear_model.LogisticRegression" }]',
        "labels.classes",
    ),
    "more partitions than burst": ("[transport]\npartitions = 30", "budget.burst"),
    "no directory": ('[transport]\npath = "gone/streamal.db"', "gone does not exist"),
    "no address": ('[server]\nhost = "no.such.host.invalid"', "server.host"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_configuration_is_one_line(cli: Cli, directory: Path, wrong: str) -> None:
    """`run` ends with 2 and one line that names the key, and makes nothing."""
    text, told = WRONG[wrong]
    (directory / "config.toml").write_text(text)
    ended = cli("run")
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert told in lines[0]
    assert [path.name for path in directory.iterdir()] == ["config.toml"]


@pytest.mark.parametrize("command", ["run", "check", "export", "verify", "status", "report"])
def test_a_missing_configuration_is_one_line(cli: Cli, directory: Path, command: str) -> None:
    """A file that is not there is never skipped in silence."""
    ended = cli(command, "-c", "gone.toml")
    assert ended.code == 2
    assert "gone.toml" in ended.line
    assert "--config" in ended.line
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("command", ["export", "verify", "status", "report"])
def test_a_missing_database_is_one_line(cli: Cli, directory: Path, command: str) -> None:
    """Reading commands make no database; they say who does."""
    (directory / "config.toml").write_text("")
    ended = cli(command)
    assert ended.code == 2
    assert "transport.path" in ended.line
    assert "streamal run" in ended.line
    assert not (directory / "streamal.db").exists()


BROKEN_MODELS = """
import random
from river import base

class Impure(base.Classifier):
    _multiclass = True
    def __init__(self):
        self.n = 0
    def learn_one(self, x, y):
        self.n += 1
    def predict_proba_one(self, x):
        self.n += 1
        return {"a": 1 / self.n, "b": 1 - 1 / self.n}

class Random(Impure):
    def predict_proba_one(self, x):
        p = random.random()
        return {"a": p, "b": 1 - p}

class Raising(Impure):
    def predict_proba_one(self, x):
        raise RuntimeError("no idea")
"""


@pytest.mark.parametrize(
    ("model", "told"),
    [("Impure", "predicting changes the model"), ("Random", "two models"), ("Raising", "no idea")],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_model_that_breaks_the_contract_is_refused(
    cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch, model: str, told: str, command: str
) -> None:
    """Exit code 2, the reason, and nothing was opened."""
    (directory / "broken_models.py").write_text(BROKEN_MODELS)
    (directory / "config.toml").write_text(
        f'[labels]\nclasses = ["a", "b"]\n[model]\nfactory = "broken_models:{model}"\n[server]\nport = 0\n'
    )
    monkeypatch.syspath_prepend(str(directory))
    ended = cli(command)
    assert ended.code == 2
    assert told in ended.line
    assert not (directory / "streamal.db").exists()


def make_database(cli: Cli, directory: Path) -> None:
    (directory / "config.toml").write_text('[server]\nport = 0\n[labels]\nclasses = ["a", "b"]')
    (directory / "s.csv").write_text("x,y\n1,a\n2,b\n")
    assert cli("simulate", "s.csv", "--label", "y", "--rate", "1000", "--linger", "0").code == 0


@pytest.mark.parametrize("command", ["run", "check"])
def test_partitions_cannot_change(cli: Cli, directory: Path, command: str) -> None:
    """Another number of partitions than the topics have ends with 2, and says what to do."""
    make_database(cli, directory)
    ended = cli(command, "--set", "transport.partitions=2")
    assert ended.code == 2
    last = ended.err.splitlines()[-1]
    assert "has 1 partitions, not 2" in last
    assert "start a new file" in last


def test_a_database_of_another_version_is_refused(cli: Cli, directory: Path) -> None:
    """The tables of another streamal are not touched."""
    make_database(cli, directory)
    with sqlite3.connect("streamal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    ended = cli("run")
    assert ended.code == 2
    assert "version 99" in ended.err.splitlines()[-1]


@pytest.mark.parametrize("content", [b"name = 'no database'\n" * 99, None])
def test_what_is_no_database_is_refused(cli: Cli, directory: Path, content: bytes | None) -> None:
    """A text file, or a directory, under the database's name."""
    (directory / "config.toml").write_text("[server]\nport = 0")
    if content is None:
        (directory / "streamal.db").mkdir()
    else:
        (directory / "streamal.db").write_bytes(content)
    ended = cli("run")
    assert ended.code == 2
    assert "streamal.db" in ended.err.splitlines()[-1]


# Check, status, environment.


def test_check_reports_and_changes_nothing(cli: Cli, directory: Path) -> None:
    """A sound configuration gives a summary, for programs too, and not one file."""
    (directory / "config.toml").write_text('[labels]\nclasses = ["a", "b"]\n[features]\ndeclared = { x = "number" }')
    told = json.loads(cli("check", "--json").out)
    assert told["audit lane"] == "each event with a probability of 1/34"
    assert told["features"] == {"x": "number"}
    assert "does not exist yet" in told["topics"]
    assert [path.name for path in directory.iterdir()] == ["config.toml"]


def test_status_counts_what_waits(cli: Cli, directory: Path) -> None:
    """Without a daemon everything that was sent is lag, and there are no figures of quality or of a model."""
    make_database(cli, directory)
    told = json.loads(cli("status", "--json").out)
    assert (told["lag_events"], told["open_requests"], told["dead_letters"]) == (2, 0, 0)
    assert told["quality_accuracy"] is None
    assert not {"gain_over_random", "quality_accuracy_natural", "model_sick"} & told.keys()
    assert "lag events" in cli("status").out


def test_status_shows_the_bill_and_what_is_left_of_each_cap(cli: Cli, directory: Path) -> None:
    """What was spent always, what is left only of the caps there are; with the daemon stopped, from the topics."""
    make_database(cli, directory)
    told = json.loads(cli("status", "--json").out)
    assert (told["spend"], told["spend_settled"], told["spend_reserved"]) == (0.0, 0.0, 0.0)
    assert not any(name.startswith("budget_left") for name in told)
    priced = ["--set", "budget.cost_per_label=0.08", "--set", "budget.cost_per_day=25", "--set", "budget.per_day=9"]
    told = json.loads(cli("status", "--json", *priced).out)
    assert {name: value for name, value in told.items() if name.startswith("budget_left")} == {
        "budget_left_cost_day": 25.0,
        "budget_left_requests_day": 9,
    }


def test_verify_of_a_broken_promise_ends_with_1(cli: Cli, directory: Path) -> None:
    """A prediction that somebody else has written is found, and named."""
    make_database(cli, directory)
    log = SqliteLog("streamal.db")
    forged = {
        "event": "0-0",
        "label": "a",
        "probabilities": {"a": 1.0},
        "version": 0,
        "propensity": 1.0,
        "uncertainty": 0.0,
    }
    log.append("streamal.predictions", 0, b"0-0", json.dumps(forged).encode())
    assert len(rows_of(log, "streamal.predictions")) == 1
    log.close()
    ended = cli("verify")
    assert ended.code == 1
    assert "BROKEN" in ended.out
    assert "0-0" in ended.out


def test_the_environment_is_stronger_than_the_file(cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMAL_SECTION__KEY sets a key; --set is stronger still."""
    (directory / "config.toml").write_text("[budget]\nshare = 0.5")
    monkeypatch.setenv("STREAMAL_BUDGET__SHARE", "0.05")
    assert json.loads(cli("check", "--json").out)["budget"].startswith("0.05 of")
    assert json.loads(cli("check", "--json", "--set", "budget.share=0.2").out)["budget"].startswith("0.2 of")


@pytest.mark.parametrize("name", ["STREAMAL_BUDGT__SHARE", "STREAMAL_BUDGET__SHRE", "STREAMAL_SHARE"])
def test_a_mistyped_variable_is_an_error(cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is named, with what there is instead, rather than ignored."""
    (directory / "config.toml").write_text("")
    monkeypatch.setenv(name, "0.05")
    ended = cli("check")
    assert ended.code == 2
    assert name in ended.line


@pytest.mark.parametrize("override", ["budget.share", "budget.shre=1", "nope.x=1", "budget.share=lots", "budget=1"])
def test_a_mistyped_override_is_an_error(cli: Cli, directory: Path, override: str) -> None:
    """--set with an unknown key, without a value, or with a wrong one."""
    (directory / "config.toml").write_text("")
    ended = cli("check", "--set", override)
    assert ended.code == 2
    assert "budget" in ended.line


def test_a_command_warns_of_kubernetes_variables(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names them and what keeps them away; the command ends as it would without them."""
    Path("config.toml").write_text("[snapshots]\ndirectory = ''\n")
    plain = cli("check", "--json")
    monkeypatch.setenv("STREAMAL_LABEL_SERVICE_HOST", "10.96.0.13")
    warned = cli("check", "--json")
    assert warned.code == plain.code == 0
    assert "STREAMAL_LABEL_SERVICE_HOST" in warned.line
    assert "enableServiceLinks" in warned.line
