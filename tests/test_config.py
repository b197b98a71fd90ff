"""The configuration: who overrides whom, and one line of help for everything that can be wrong with it (F47)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from streamal.bootstrap import build
from streamal.bootstrap.model import build_model
from streamal.config import Config, ServerConfig, load_config, service_variables
from streamal.errors import ConfigError, StreamalError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("STREAMAL_"):
            monkeypatch.delenv(name)


def write(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    return path


# Order.


def test_the_order_of_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--set > environment > file > a command's defaults > the built-in ones, key by key."""
    path = write(tmp_path, "[budget]\nshare = 0.2\nburst = 30\nper_hour = 40\n")
    presets = {"budget": {"share": 0.3, "burst": 31, "per_hour": 41, "currency": "USD"}}
    monkeypatch.setenv("STREAMAL_BUDGET__SHARE", "0.4")
    monkeypatch.setenv("STREAMAL_BUDGET__BURST", "32")
    budget = load_config(path, ["budget.share=0.5"], presets).budget
    assert (budget.share, budget.burst, budget.per_hour, budget.currency) == (Decimal("0.5"), 32, 40, "USD")
    assert budget.audit_share == Decimal("0.3")


def test_the_later_override_wins() -> None:
    """As on any command line."""
    assert load_config(overrides=["budget.burst=30", "budget.burst=40"]).budget.burst == 40


def test_defaults_stand_without_a_file() -> None:
    """Everything has a default, and the defaults are consistent with each other."""
    config = load_config()
    assert config == Config()
    assert type(config) is Config


def test_tables_merge_across_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A declared feature is added by the command line or the environment (JSON there), not the table replaced."""
    path = write(tmp_path, '[features.declared]\nx = "number"\n')
    monkeypatch.setenv("STREAMAL_FEATURES__DECLARED", '{"e": "boolean"}')
    declared = load_config(path, ["features.declared.s=string"]).features.declared
    assert declared == {"x": "number", "s": "string", "e": "boolean"}


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("budget.share=0.25", "budget", "share", Decimal("0.25")),
        ("sampling.strategy=variable", "sampling", "strategy", "variable"),
        ("transport.path=/tmp/a b.db", "transport", "path", Path("/tmp/a b.db")),
        ('labels.classes=["ham", "spam"]', "labels", "classes", ("ham", "spam")),
        ("server.enabled=false", "server", "enabled", False),
        (" log.level =debug", "log", "level", "debug"),
        ("transport.group=a=b", "transport", "group", "a=b"),
    ],
)
def test_an_override_is_a_toml_value_or_a_word(override: str, section: str, key: str, value: object) -> None:
    """``--set section.key=value`` needs no quotes around words."""
    assert getattr(getattr(load_config(overrides=[override]), section), key) == value


def test_a_share_is_exactly_what_was_written(tmp_path: Path) -> None:
    """0.1 is one tenth and not the nearest double: the bound on spending is exact."""
    path = write(tmp_path, "[budget]\nshare = 0.1\naudit_share = 0.3\n")
    assert load_config(path).budget.fractions == (Fraction(1, 10), Fraction(3, 10))


# What is wrong, in one line.

WRONG_OVERRIDES = [
    ("budgt.share=0.1", "no section 'budgt'; the sections are transport, topics,"),
    ("budget.shar=0.1", "section 'budget' has no key 'shar', but share, burst,"),
    ("features={open=true}", "is a section"),
    ("labels.classes=['only']", "one class alone leaves nothing to ask"),
    ("budget=0.1", "'budget' is a section; name one of its keys"),
    ("share=0.1", "no section 'share'"),
    ("budget.share", "write section.key=value"),
    ("", "write section.key=value"),
    ("=1", "no section ''"),
    ("budget.=1", "no key ''"),
    ("budget.share.deep=1", r"budget\.share: "),
    ("budget.share=0", r"budget\.share: .*greater than 0 \(given: 0\)"),
    ("budget.share=1.01", r"budget\.share: .*less than or equal to 1"),
    ("budget.share=nan", r"budget\.share: .*finite"),
    ("budget.share=much", r"budget\.share: .*\(given: 'much'\)"),
    ("budget.audit_share=-0.1", r"budget\.audit_share: "),
    ("budget.burst=0", r"budget\.burst: "),
    ("budget.burst=1.5", r"budget\.burst: "),
    ("budget.per_hour=0", r"budget\.per_hour: "),
    ("budget.cost_per_label=-1", r"budget\.cost_per_label: "),
    ("budget.per_day=0", r"budget\.per_day: "),
    ("budget.cost_per_label=0.0000001", r"budget\.cost_per_label: .*no more than 6 decimal places"),
    ("budget.cost_per_day=25", r"budget: a cap on money needs a price: set cost_per_label or wage_per_hour"),
    ("budget.cost_per_month=0", r"budget\.cost_per_month: "),
    ("budget.seconds_max=0", r"budget\.seconds_max: "),
    ("budget.quotas={fraud = 1.0}", r"budget: quotas are parts .* must be less than 1"),
    ("budget.quotas={a = 0.1, b = 0.1, c = 0.1, d = 0.1, e = 0.1}", r"budget\.quotas: .*at most 4 items"),
    ("budget.quotas={fraud = 0}", r"budget\.quotas\.fraud: "),
    ("budget.pace_horizon_s=0", r"budget\.pace_horizon_s: "),
    ("budget.currency=dollars", r"budget\.currency: "),
    ("transport.kind=rabbit", r"transport\.kind: "),
    ("transport.partitions=0", r"transport\.partitions: "),
    ('transport.group=""', r"transport\.group: "),
    ("transport.poll_timeout_s=0", r"transport\.poll_timeout_s: "),
    ("transport.partitions=21", r"budget\.burst is divided among 21 partitions: it must be at least 21"),
    ("limits.open_requests=1", r"limits\.open_requests is divided among 1 partitions: it must be at least 2"),
    ("topics.labels=streamal.events", r"topics: the six topics need six different, non-empty names"),
    ("transport.partitions=1000000000", r"transport\.partitions: .*less than or equal to 10000"),
    ('transport.path="a\\u0000b"', r"--set: transport\.path contains a NUL character"),
    ('model.factory="a\\u0000b:c"', r"--set: model\.factory contains a NUL character"),
    ("topics.events=../../etc/passwd", r"topics: a topic's name has 1 to 249 letters, .* not '../../etc/passwd'"),
    ("topics.events=..", r"topics: a topic's name has .* not '..'"),
    (f"topics.events={'x' * 250}", r"topics: a topic's name has 1 to 249 letters"),
    (f"model.pipeline={'[' * 3_000}{']' * 3_000}", r"nested too deeply"),
    (f"model.pipeline={'[' * 100}{']' * 100}", r"--set: model\.pipeline … is nested deeper than 64 levels"),
    ('topics.labels=""', r"topics: the six topics need six different"),
    ("events.format=xml", r"events\.format: "),
    ("features.declared.x=integer", r"features\.declared\.x: "),
    ("features.declared=3", r"features\.declared: "),
    ("features.infer_from=0", r"features\.infer_from: "),
    ("features.unknown=keep", r"features\.unknown: "),
    ("features.null=zero", r"features\.null: "),
    ("features.open=perhaps", r"features\.open: "),
    ('labels.classes=["a", "a"]', r"labels: classes must differ"),
    ('labels.classes=["a", ""]', r"labels\.classes\.1: "),
    ("labels.classes=[[1], [2]]", r"labels\.classes\.0: .*; and 1 more"),
    ("labels.new_classes=maybe", r"labels\.new_classes: "),
    ("labels.new_classes=refuse", r"labels: new_classes = 'refuse' without any declared classes"),
    ("labels.ttl_s=0", r"labels\.ttl_s: "),
    ("labels.ttl_s=inf", r"labels\.ttl_s: .*finite"),
    ("model.factory=os.system", r"model\.factory: "),
    ("model.factory=my.mod:a.b", r"model\.factory: "),
    ("model.pipeline=3", r"model\.pipeline: "),
    ("model.seed=x", r"model\.seed: "),
    ("sampling.strategy=oracle", r"sampling: strategy must be one of random, periodic, fixed, .* not 'oracle'"),
    ("sampling.uncertainty=doubt", r"sampling: uncertainty must be one of least_confidence, .* not 'doubt'"),
    ("quality.window=0", r"quality\.window: "),
    ("snapshots.every_s=0", r"snapshots\.every_s: "),
    ("server.port=65536", r"server\.port: "),
    ("server.port=-1", r"server\.port: "),
    ("log.level=loud", r"log\.level: "),
    ("log.format=xml", r"log\.format: "),
    ("limits.magnitude=1e101", r"limits\.magnitude: "),
    ("limits.magnitude=0", r"limits\.magnitude: "),
    ("limits.classes=1", r"limits\.classes: "),
    ("limits.classes=10001", r"limits\.classes: "),
    *((f"limits.{name}=0", rf"limits\.{name}: ") for name in ("record_bytes", "features", "feature_name_bytes")),
    *((f"limits.{name}=0", rf"limits\.{name}: ") for name in ("events_per_step", "labels_per_step")),
    *((f"limits.{name}=0", rf"limits\.{name}: ") for name in ("closed_requests", "expiries_per_step")),
]


@pytest.mark.parametrize(("override", "message"), WRONG_OVERRIDES, ids=[each[0][:60] for each in WRONG_OVERRIDES])
def test_a_wrong_value_is_named(override: str, message: str) -> None:
    """Every bad setting is a ConfigError (exit code 2) of one line that names the key and what is wrong."""
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(overrides=[override])
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "overrides", [["budget.share=0.1", "budget.share.x=1"], ["budget.burst=3", "budget.burst.x=1"]]
)
def test_a_value_has_no_keys(overrides: Sequence[str]) -> None:
    """Two overrides that contradict each other."""
    with pytest.raises(ConfigError, match="was set to a value before"):
        load_config(overrides=overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[budgt]\nshare = 0.1\n", r"budgt: there is no such key"),
        ("[budget]\nshar = 0.1\n", r"budget\.shar: there is no such key"),
        ("share = 0.1\n", r"share: there is no such key"),
        ("[budget]\nshare = 2\n", r"budget\.share: .*\(given: 2\)"),
        ("budget = 3\n", r"budget: "),
        ("[budget\n", "is not TOML"),
        ("[budget]\nshare = 0.1\nshare = 0.2\n", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Unknown sections and keys in a file are errors too, and so is what is no TOML."""
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_file_must_exist_and_be_readable(tmp_path: Path) -> None:
    """The library would skip a missing file in silence (0.14); the path is in the message."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file.*--config"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STREAMAL_BUDGT__RATE", "1", "environment variable STREAMAL_BUDGT__RATE: there is no section 'budgt'"),
        ("STREAMAL_BUDGET__RATE", "1", "environment variable STREAMAL_BUDGET__RATE: section 'budget' has no key"),
        ("STREAMAL_BUDGET", '{"share": 0.2}', "environment variable STREAMAL_BUDGET: 'budget' is a section"),
        ("STREAMAL_BUDGET__SHARE", "2", r"budget\.share: "),
        ("STREAMAL_LABELS__CLASSES", "a,b", "lists and tables are written as JSON"),
        ("STREAMAL_", "1", "environment variable STREAMAL_: there is no section ''"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """Also those that the library would ignore in silence (0.14)."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message) as raised:
        load_config()
    assert "\n" not in str(raised.value)


def test_foreign_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests and of other programs are no configuration."""
    monkeypatch.setenv("STREAMAL_TEST_BROKER", "x")
    monkeypatch.setenv("STREAM_BUDGET__SHARE", "7")
    assert load_config() == Config()


def test_a_configuration_is_frozen() -> None:
    """Nobody changes a setting while the daemon runs."""
    config = load_config()
    with pytest.raises(ValidationError):
        config.budget.share = Decimal(1)
    with pytest.raises(ValidationError):
        config.budget = config.budget


def test_a_pipeline_and_a_factory_exclude_each_other() -> None:
    """Only one of them can make the model."""
    overrides = ["model.factory=my.models:make", 'model.pipeline=[{use = "naive_bayes.GaussianNB"}]']
    with pytest.raises(ConfigError, match="give either pipeline or factory, not both"):
        load_config(overrides=overrides)


def test_exit_codes() -> None:
    """2 for what the operator has to change, 1 for what a restart may cure."""
    assert (ConfigError.exit_code, StreamalError.exit_code) == (2, 1)


# What it makes.


def test_new_classes_follow_from_the_declared_ones() -> None:
    """Declared: closed, unless told otherwise; none declared: open."""
    assert load_config().labels.learn_new
    assert not load_config(overrides=['labels.classes=["a", "b"]']).labels.learn_new
    assert load_config(overrides=['labels.classes=["a", "b"]', "labels.new_classes=learn"]).labels.learn_new


@pytest.mark.parametrize("levels", [150, 3_000])
def test_a_file_that_is_nested_too_deeply_is_one_line(levels: int, tmp_path: Path) -> None:
    """Whether the parser gives up or a library below would: the file is named, and no stack is filled."""
    inner = '{ use = "linear_model.LogisticRegression" }'
    for _ in range(levels):
        inner = f'{{ use = "multiclass.OneVsRestClassifier", classifier = {inner} }}'
    path = write(tmp_path, f"[model]\npipeline = [{inner}]\n")
    with pytest.raises(ConfigError, match=r"config file .*nested") as refused:
        load_config(path)
    assert "\n" not in str(refused.value)


KUBERNETES = {
    "STREAMAL_SERVICE_HOST": "10.96.0.12",
    "STREAMAL_LABEL_SERVICE_HOST": "10.96.0.13",
    "STREAMAL_LABEL_SERVICE_PORT": "8800",
    "STREAMAL_LABEL_SERVICE_PORT_HTTP": "8800",
    "STREAMAL_LABEL_PORT": "tcp://10.96.0.13:8800",
    "STREAMAL_LABEL_PORT_8800_TCP": "tcp://10.96.0.13:8800",
    "STREAMAL_LABEL_PORT_8800_TCP_PROTO": "tcp",
    "STREAMAL_LABEL_PORT_8800_TCP_PORT": "8800",
    "STREAMAL_LABEL_PORT_8800_TCP_ADDR": "10.96.0.13",
}
"""What a pod finds in its environment if there are services called "streamal" and "streamal-label"."""


def test_the_variables_of_kubernetes_services_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """They pass, whatever the names and ports of the services; a command warns of them."""
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STREAMAL_SERVER__PORT", "9465")
    assert load_config() == Config(server=ServerConfig(port=9465))
    assert set(service_variables()) == KUBERNETES.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAMAL_SERVER_PORT", "9000"),
        ("STREAMAL_SERVER_HOST", "0.0.0.0"),
        ("STREAMAL_LABEL_PORT_8800_TCP_PORTS", "8800"),
        ("STREAMAL_LABEL_SERVICE_PORT", "http"),
        ("STREAMAL_BUDGET__SERVICE_HOST", "10.96.0.13"),
    ],
)
def test_what_only_looks_like_kubernetes_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped key, by its value or its underscores, is an error as any other."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        load_config()


@pytest.mark.parametrize("strategy", ["random", "fixed", "variable", "randomised_variable", "split", "entropy"])
def test_every_strategy_can_be_configured(strategy: str) -> None:
    """And the rules that come of it divide the caps among the partitions."""
    made = build(
        load_config(overrides=[f"sampling.strategy={strategy}", "budget.per_hour=5", "transport.partitions=3"])
    ).rules
    assert made.strategy_name == strategy
    assert made.uncertainty == ("entropy" if strategy == "entropy" else "least_confidence")
    assert sum(cap.total for partition_budget in made.budgets if (cap := partition_budget.requests[0])) == 5


def test_a_cap_on_money_must_pay_a_label_in_each_partition() -> None:
    """0.30 a day for four partitions at up to 0.08 a label would mute them: said at the start, with the figure."""
    overrides = ["transport.partitions=4", "budget.cost_per_label=0.08", "budget.cost_per_day=0.30"]
    with pytest.raises(ConfigError, match=r"budget\.cost_per_day is divided among 4 .*at least 0\.32"):
        load_config(overrides=overrides)
    assert load_config(overrides=[*overrides[:2], "budget.cost_per_day=0.32"]).budget.cost_per_day == Decimal("0.32")


def test_a_quota_is_for_a_class() -> None:
    """A class that cannot come is a slip of the pen."""
    classes = 'labels.classes=["ham", "spam"]'
    with pytest.raises(ConfigError, match=r"budget\.quotas names 'spma', which is not among labels\.classes"):
        load_config(overrides=[classes, "budget.quotas={spma = 0.2}"])
    made = build(load_config(overrides=[classes, "budget.quotas={spam = 0.2}"])).rules
    assert [quota.label for quota in made.budgets[0].quotas] == ["spam"]


def test_a_binary_model_and_many_classes_do_not_fit() -> None:
    """Told before anything starts, with the way out."""
    overrides = ['labels.classes=["a", "b", "c"]', 'model.pipeline=[{use = "linear_model.LogisticRegression"}]']
    with pytest.raises(ConfigError, match=r"is binary: wrap it in multiclass\.OneVsRestClassifier"):
        build_model(load_config(overrides=overrides))


def test_declared_features_need_no_inference() -> None:
    """The schema stands from the first event; otherwise it is the trainer's to write."""
    schema = (
        build(load_config(overrides=["features.declared.x=number", "features.unknown=refuse"]))
        .new_fold()
        .learned.schema
    )
    assert schema is not None
    assert (schema.kinds, schema.unknown, schema.open) == ({"x": "number"}, "refuse", False)
    assert build(load_config()).new_fold().learned.schema is None


def test_what_contradicts_itself_is_refused() -> None:
    """More classes than limits.classes, or an open schema that refuses unknown names, cannot be meant."""
    with pytest.raises(ConfigError, match=r"labels\.classes has 3, limits\.classes allows 2"):
        load_config(None, ["limits.classes=2", "labels.classes=['a', 'b', 'c']"])
    with pytest.raises(ConfigError, match="choose one"):
        load_config(None, ["features.open=true", "features.unknown=refuse"])


def test_snapshots_can_be_switched_off() -> None:
    """An empty snapshots.directory is none, rather than the present directory."""
    assert load_config(None, ["snapshots.directory="]).snapshots.directory is None
