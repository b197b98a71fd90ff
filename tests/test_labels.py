"""Labels are one class whatever the format that they come in; a near-miss is told with the class that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from streamal.bootstrap import build
from streamal.bootstrap.transports import create_topics
from streamal.config import Config, load_config
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.labels import class_name, explain_unknown, find_meant
from streamal.core.records import NaturalLabel, Reason, Refusal, Reply
from streamal.errors import ConfigError
from streamal.recordings.reading import read_stream
from tests.conftest import Cli
from tests.making import World as JoinWorld
from tests.making import ask, make_fold, make_request, make_rules, reply_record
from tests.recorded import make_config

SPELLINGS: dict[str, list[Any]] = {
    "1": [1, 1.0, "1", "1.0", " 1 ", "1.000"],
    "0": [0, 0.0, -0.0, "0", "0.0", "-0.0"],
    "-7": [-7, -7.0, "-7", "-7.0"],
    "true": [True, "true", "True", "TRUE", " true\n"],
    "false": [False, "false", "False", "FALSE"],
    "wet": ["wet", " wet ", "\twet", "wet\u00a0"],
    "0.5": [0.5, "0.5"],
    "007": ["007"],
    "9.223372036854776e+18": [2.0**63, "9.223372036854776e+18"],
    "1.10": ["1.10"],
    "Wet": ["Wet"],
}
CASES = [(name, label) for name, labels in SPELLINGS.items() for label in labels]
CAFE, CAFE_IN_PARTS = "caf\u00e9", "cafe\u0301"


# The rule.


@pytest.mark.parametrize(("name", "label"), CASES)
def test_a_label_has_one_spelling(name: str, label: Any) -> None:
    """Numbers, truth values and spaces around a text make no class of their own; codes and cases of letters do."""
    assert class_name(label) == name


@given(st.text() | st.integers() | st.floats() | st.booleans())
def test_a_spelling_is_final(label: Any) -> None:
    """The class of a class's name is the class itself, so it does not matter how often the rule is used."""
    assert class_name(class_name(label)) == class_name(label)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_one_class(number: int) -> None:
    """As an integer, a float, and the text of either."""
    assert {class_name(each) for each in (number, float(number), str(number), f"{number}.0")} == {str(number)}


@pytest.mark.parametrize(
    ("label", "difference"),
    [("WET grass", "case"), ("wet  grass", "spaces"), ("wetgrass", "spaces"), ("Wet\u200bGrass", "case, spaces or")],
)
def test_a_near_miss_is_told(label: str, difference: str) -> None:
    """Case and spaces: the class that was meant is named, and what differs."""
    said = explain_unknown(label, ["dry", "wet grass"])
    assert "'wet grass' was probably meant" in said
    assert difference in said


def test_another_unicode_form_is_a_near_miss() -> None:
    """A letter that is composed differently looks the same, so the message says what differs."""
    assert find_meant(CAFE_IN_PARTS, ["tea", CAFE]) == CAFE
    assert "Unicode form" in explain_unknown(CAFE_IN_PARTS, ["tea", CAFE])


def test_another_word_is_no_near_miss() -> None:
    """Then the classes are named."""
    assert find_meant("damp", ["dry", "wet"]) is None
    assert explain_unknown("damp", ["dry", "wet"]) == "label 'damp' is not among the classes (dry, wet)"


# Where it holds.


@pytest.mark.parametrize(("name", "label"), [case for case in CASES if case[1] not in {0.5, 2.0**63}])
def test_replies_and_natural_labels_keep_the_rule(name: str, label: Any) -> None:
    """Whatever JSON type the label has."""
    reply = decode_reply(json.dumps({"request": "0-1", "label": label}).encode(), WireRules(), None)
    assert isinstance(reply, Reply)
    assert reply.label == name
    natural = decode_reply(json.dumps({"event": "0-1", "label": label}).encode(), WireRules(natural=True), None)
    assert isinstance(natural, NaturalLabel)
    assert natural.label == name


@pytest.mark.parametrize("label", [b'""', b'"  "', b'"\\u00a0"', b"1e300", b"0.5", b'"' + b"x" * 257 + b'"'])
def test_a_blank_or_huge_label_is_refused(label: bytes) -> None:
    """It is the name of no class."""
    refused = decode_reply(b'{"request": "0-1", "label": %s}' % label, WireRules(), None)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.BAD_FIELD


@pytest.mark.parametrize("classes", [(0, 1), (0.0, 1.0), ("0", "1"), ("0.0", " 1 ")])
@pytest.mark.parametrize("labels", [(0, 1), (0.0, 1.0), ("0", "1"), ("0.0", "1.0")])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_recordings_keep_the_rule(directory: Path, ending: str, labels: tuple[Any, Any], classes: Any) -> None:
    """A recording's labels are the declared classes, however each of the two spells them."""
    path = directory / f"stream.{ending}"
    rows = [{"x": float(number), "label": labels[number % 2]} for number in range(4)]
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text("\n".join(["x,label", *(f"{row['x']},{row['label']}" for row in rows)]))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    config = Config.model_validate({"labels": {"classes": classes}})
    assert config.labels.classes == ("0", "1") == read_stream(str(path), "label").classes


@pytest.mark.parametrize("texts", ["[true, false]", '["True", "FALSE"]', '[" true", "false"]'])
def test_declared_classes_keep_the_rule(directory: Path, texts: str) -> None:
    """TOML's own truth values too; quotas name the same classes."""
    (directory / "config.toml").write_text(f"labels.classes = {texts}\nbudget.quotas = {{ True = 0.01 }}\n")
    loaded = load_config(directory / "config.toml")
    assert set(loaded.labels.classes) == {"true", "false"}
    assert set(loaded.budget.quotas) == {"true"}


def test_two_spellings_of_one_class_are_not_two_classes(directory: Path) -> None:
    """A configuration that declares both is wrong, and says so."""
    (directory / "config.toml").write_text('labels.classes = ["1", "1.0"]')
    with pytest.raises(ConfigError, match="one class"):
        load_config(directory / "config.toml")


@pytest.mark.parametrize("labels", [("0.0", "1.0"), ("False", "True"), (" no", "yes ")])
def test_a_warm_start_keeps_the_rule(directory: Path, labels: tuple[str, str]) -> None:
    """Its labels are the classes of the replies to come: 1.0 in a file and 1 in a reply are one."""
    classes = [class_name(label) for label in labels]
    rows = [f"{number},{number % 7},{labels[number % 2]}" for number in range(20)]
    (directory / "labelled.csv").write_text("\n".join(["x1,x2,label", *rows]))
    config = make_config(labels={"classes": []}, model={"warm_start": directory / "labelled.csv", "pipeline": []})
    fold = build(config).new_fold()
    assert sorted(fold.learned.model.classes) == sorted(classes)
    assert sum(fold.learned.model.learned.values()) == 20


# Near-misses.


def test_the_dead_letter_of_a_near_miss_names_the_class() -> None:
    """The detail says what was probably meant; the request stays open."""
    world = JoinWorld(make_rules(), make_fold(kinds={"x": "number"}))
    ask(world.fold, make_request(0))
    world.run([reply_record(0, "0-0", "A")], 1.0)
    letter = json.loads(world.written["dead-letters"][0].value or b"")
    assert letter["reason"] == "label_unknown"
    assert "'a' was probably meant" in letter["detail"]
    assert "0-0" in world.fold.books.pending.open


def test_a_long_near_miss_names_the_class_within_a_dead_letter() -> None:
    """Long names are cut, so that the hint has room in the 256 bytes of a detail."""
    world = JoinWorld(make_rules(), make_fold(kinds={"x": "number"}, classes=("a" * 200, "b")))
    ask(world.fold, make_request(0))
    world.run([reply_record(0, "0-0", "A" * 200)], 1.0)
    assert "probably meant" in json.loads(world.written["dead-letters"][0].value or b"")["detail"]


def test_an_import_names_the_class_that_was_meant(cli: Cli, directory: Path) -> None:
    """The row is refused, nothing is written; 1.0, " yes " and the like are no near-misses but the class itself."""
    (directory / "config.toml").write_text('labels.classes = ["no", "yes"]\nfeatures.declared = { x1 = "number" }\n')
    loaded = load_config(directory / "config.toml")
    create_topics(loaded)
    (directory / "a.jsonl").write_text('{"request": "0-0", "label": "Yes"}\n{"request": "0-1", "label": " yes "}\n')
    ended = cli("import", "a.jsonl")
    first, second = ended.err.splitlines()
    assert "row 1" in first
    assert "'yes' was probably meant" in first
    assert "there is no request 0-1" in second


def test_a_near_miss_in_a_warm_start_names_the_class(directory: Path) -> None:
    """`check` and `run` end with the row's label and the class that was meant."""
    (directory / "labelled.csv").write_text("x1,x2,label\n1,2,no\n3,4,YES\n")
    config = make_config(model={"warm_start": directory / "labelled.csv", "pipeline": []})
    with pytest.raises(ConfigError, match=r"example 2: .*'yes' was probably meant, which differs in case"):
        build(config).new_fold()
