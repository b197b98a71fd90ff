"""`check` finds before the first event what would go wrong with the model, the classes and the features."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from streamal.bootstrap.transports import create_topics, open_transport
from streamal.config import load_config
from streamal.core.codec.events import encode
from streamal.core.records import OffsetAndMetadata, OutputRecord, SchemaSet, TopicPartition
from streamal.core.state import TrainerState, encode_state
from tests.conftest import Cli

MODELS = '''
import numpy as np
from river import base


class Shares(base.Classifier):
    """The share of each class."""

    def __init__(self):
        self.n = {}

    @property
    def _multiclass(self):
        return True

    def learn_one(self, x, y):
        self.n[y] = self.n.get(y, 0) + 1

    def predict_proba_one(self, x):
        total = sum(self.n.values())
        return {y: n / total for y, n in self.n.items()} if total else {}


class Float32(Shares):
    def predict_proba_one(self, x):
        return {y: np.float32(p) for y, p in super().predict_proba_one(x).items()}


class Percent(Shares):
    def predict_proba_one(self, x):
        return {y: 100 * p for y, p in super().predict_proba_one(x).items()}


class Lambda(Shares):
    def __init__(self):
        super().__init__()
        self.f = lambda v: v


class Mutates(Shares):
    def learn_one(self, x, y):
        x.pop("humidity", None)
        super().learn_one(x, y)


class NeedsAll(Shares):
    def learn_one(self, x, y):
        x["temp"] + x["humidity"]
        super().learn_one(x, y)

    def predict_proba_one(self, x):
        x["temp"] + x["humidity"]
        return super().predict_proba_one(x)


class Exits(Shares):
    def learn_one(self, x, y):
        raise SystemExit(3)


def fails():
    raise KeyError("no weights")
'''
BROKEN = [
    ("Percent", "the probabilities of"),
    ("Lambda", "it cannot be pickled"),
    ("Mutates", "learning changes the features"),
    ("NeedsAll", "without 'temp' predict_proba_one raised KeyError: 'temp'"),
    ("Exits", "SystemExit: 3"),
    ("fails", "failed: KeyError: 'no weights' (line "),
    ("nothing", "has no attribute 'nothing'; it was looked for in "),
]


@pytest.fixture
def models(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with some models of the user's own, a configuration without one, and a recording."""
    (directory / "models_to_check.py").write_text(MODELS)
    (directory / "config.toml").write_text(
        'labels.classes = ["dry", "wet"]\nfeatures.declared = { temp = "number", humidity = "number" }\n'
    )
    rows = [f"{number % 7},{number % 5},{('dry', 'wet')[number % 2]}" for number in range(60)]
    (directory / "s.csv").write_text("\n".join(["temp,humidity,label", *rows]))
    monkeypatch.syspath_prepend(str(directory))
    return directory


@pytest.mark.parametrize("command", ["check", "replay"])
@pytest.mark.parametrize(("name", "told"), BROKEN)
def test_a_model_of_the_users_own_is_held_to_the_contract(
    cli: Cli, models: Path, command: str, name: str, told: str
) -> None:
    """`check` and `replay` say what is wrong with it before anything is predicted."""
    stream = ["s.csv", "--label", "label", "--config", "config.toml"] if command == "replay" else []
    ended = cli(command, *stream, "--set", f"model.factory=models_to_check:{name}")
    assert ended.code == 2
    assert told in ended.err


@pytest.mark.parametrize("name", ["Shares", "Float32"])
@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_sound_model_of_the_users_own_passes(cli: Cli, models: Path, command: str, name: str) -> None:
    """NumPy's numbers are numbers."""
    stream = ["s.csv", "--label", "label", "--config", "config.toml"] if command == "replay" else []
    ended = cli(command, *stream, "--json", "--set", f"model.factory=models_to_check:{name}")
    assert ended.code == 0, ended.err


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(cli: Cli, models: Path) -> None:
    """The folder of the file has to be named, or be the present one."""
    ended = cli("check", "--set", "model.factory=nowhere_at_all:build")
    assert ended.code == 2
    assert "it was looked for in" in ended.line
    assert str(models) in ended.line
    assert "PYTHONPATH" in ended.line
    strategy = cli("check", "--set", "sampling.strategy=nowhere_at_all:Mine")
    assert strategy.code == 2
    assert "it was looked for in" in strategy.line


def write_schema(directory: Path, **features: str) -> None:
    """Let the training log begin with a schema, as if it had been inferred."""
    config = load_config(directory / "config.toml")
    create_topics(config)
    with closing(open_transport(config)) as transport:
        transport.poll({}, 0.0)
        transport.assignment()
        record = OutputRecord("streamal.training", 0, None, encode(SchemaSet(features, 1.0)))
        state = OffsetAndMetadata(0, encode_state(TrainerState(1, 1)))
        transport.commit([record], {TopicPartition("streamal.labels", 0): state})


def test_the_schema_of_the_log_is_shown_and_compared(cli: Cli, directory: Path) -> None:
    """Where nothing is declared it is what counts; else every difference is named, and the declared types count."""
    (directory / "config.toml").write_text('labels.classes = ["dry", "wet"]')
    assert json.loads(cli("check", "--json").out)["features"] == "inferred from 20 requests"
    write_schema(directory, temp="string", hum="number")
    assert json.loads(cli("check", "--json").out)["features"] == {"hum": "number", "temp": "string"}
    told = json.loads(cli("check", "--json", "--set", 'features.declared={temp="number", hum="number"}').out)
    assert told["features"] == {"temp": "number", "hum": "number"}
    assert told["schema differs"] == "'temp' is a string in the log, declared as number: features.declared counts"
    same = json.loads(cli("check", "--json", "--set", 'features.declared={temp="string", hum="number"}').out)
    assert "schema differs" not in same


def test_near_misses_among_the_classes_are_told(cli: Cli, directory: Path) -> None:
    """Two declared classes that only look alike are probably one."""
    (directory / "config.toml").write_text('labels.classes = ["dry", "wet", "Wet"]')
    told = json.loads(cli("check", "--json").out)
    assert told["classes alike"] == "'wet' and 'Wet' differ in case, spaces or Unicode form only"
    (directory / "config.toml").write_text('labels.classes = ["dry", "wet"]')
    assert "classes alike" not in json.loads(cli("check", "--json").out)


def test_near_misses_in_a_warm_start_are_told(cli: Cli, directory: Path) -> None:
    """Where new classes are learned none is refused, so the ones that only look alike are named."""
    rows = [f"{number},{('dry', 'wet', 'Wet ')[number % 3]}" for number in range(30)]
    (directory / "labelled.csv").write_text("\n".join(["temp,label", *rows]))
    (directory / "config.toml").write_text(
        'features.declared = { temp = "number" }\nmodel.warm_start = "labelled.csv"\n'
    )
    told = json.loads(cli("check", "--json").out)
    assert told["classes alike"] == "'wet' and 'Wet' differ in case, spaces or Unicode form only"
