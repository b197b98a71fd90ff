"""Which features reach the model: the type of most values, nothing unknown unless the schema is open (F32)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.codec.events import encode
from streamal.core.codec.schema_records import find_schema
from streamal.core.records import Reason, Record, Scalar, SchemaSet
from streamal.core.schema import Schema, describe_differences, infer_schema, kind_of
from tests.making import feature_maps, make_fold

KINDS = {"n": "number", "s": "string", "b": "boolean", "t": "text"}
FITTING: Mapping[str, Scalar] = {"n": 1.0, "s": "x", "b": True, "t": "some words"}


def test_the_type_of_most_values_wins() -> None:
    """One placeholder, wherever it stands, does not decide (F32)."""
    numbers: list[dict[str, Scalar]] = [{"temp": 1.0}] * 3
    for place in range(4):
        samples: list[dict[str, Scalar]] = [*numbers[:place], {"temp": "n/a"}, *numbers[place:]]
        assert infer_schema(samples, 10) == {"temp": "number"}
    assert infer_schema([{"a": "x"}, {"a": "y"}, {"a": 1.0}], 10) == {"a": "string"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, "x"], "number"),
        (["x", 1.0], "number"),
        (["x", True], "boolean"),
        ([True, 1.0, "x"], "number"),
        (["n/a"], "string"),
        ([True, "x", "y", 1.0], "string"),
    ],
)
def test_a_tie_has_a_rule(values: list[Scalar], kind: str) -> None:
    """A number before a truth value before a text; a single value decides alone."""
    assert infer_schema([{"a": value} for value in values], 10) == {"a": kind}


@given(st.lists(feature_maps, max_size=8), st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(samples: list[dict[str, Scalar]], most: int, random: Random) -> None:
    """Workers read the partitions of ``requests`` in different orders; the same requests give the same schema."""
    shuffled = samples[:]
    random.shuffle(shuffled)
    assert infer_schema(shuffled, most) == infer_schema(samples, most)


def test_the_most_frequent_names_are_kept() -> None:
    """The bound holds whatever the first requests bring; ties go by name, so that every trainer decides alike."""
    samples: list[dict[str, Scalar]] = [{"z": 1.0, "b": 1.0}, {"z": 1.0, "a": "x"}, {"c": True}]
    assert infer_schema(samples, 2) == {"a": "string", "z": "number"}
    assert infer_schema([], 2) == {}


@given(st.lists(feature_maps, max_size=6), st.integers(1, 8))
def test_an_inferred_schema_accepts_most_values_of_each_name(samples: list[dict[str, Scalar]], most: int) -> None:
    """It is bounded and sorted; no other type of a name has more values."""
    kinds = infer_schema(samples, most)
    assert len(kinds) <= most
    assert list(kinds) == sorted(kinds)
    for name, kind in kinds.items():
        counts = Counter(kind_of(features[name]) for features in samples if name in features)
        assert counts[kind] == max(counts.values())


def test_differences_are_named() -> None:
    """Each name whose type differs or that one side lacks; a text is a string to whoever sends it."""
    declared = {"temp": "number", "note": "text", "new": "boolean"}
    assert describe_differences(declared, {"temp": "string", "note": "string", "old": "number"}) == [
        "'new' is not in the log",
        "'old' is not declared",
        "'temp' is a string in the log, declared as number",
    ]
    assert describe_differences(declared, declared) == []
    many = describe_differences({}, {f"x{number:03}": "number" for number in range(100)})
    assert (len(many), many[-1]) == (21, "and 80 more")


def test_the_schema_of_a_log_is_found() -> None:
    """Among the records of the training log; there is none before the trainer has written it."""
    record = encode(SchemaSet({"x": "number"}, 1.0))
    records = [Record("training", 0, 0, None, b"{}"), Record("training", 0, 1, None, record)]
    assert find_schema(records) == {"x": "number"}
    assert find_schema(records[:1]) == {}


def test_a_declared_type_is_not_overruled_by_the_log() -> None:
    """Features that were declared after a schema was inferred count; what differs is kept to be told."""
    fold = make_fold(kinds={"temp": "number"})
    fold.apply_training(0, encode(SchemaSet({"temp": "string", "hum": "number"}, 1.0)))
    assert fold.learned.schema is not None
    assert fold.learned.schema.kinds == {"temp": "number", "hum": "number"}
    assert fold.learned.differences == (
        "'hum' is not declared",
        "'temp' is a string in the log, declared as number",
    )


def test_an_inferred_schema_differs_from_nothing() -> None:
    """Nobody declared another one."""
    fold = make_fold()
    fold.apply_training(0, encode(SchemaSet({"temp": "string"}, 1.0)))
    assert fold.learned.differences == ()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [1.0, "x", True])
def test_only_the_declared_type_passes(name: str, value: Scalar) -> None:
    """Another type is refused in an event, and left out where it comes from an older record (F32)."""
    schema = Schema(KINDS)
    fits = type(value) is type(FITTING[name])
    refusal = schema.mismatch({name: value})
    assert (refusal is None) == fits
    assert refusal is None or refusal.reason is Reason.FEATURE_TYPE
    assert (schema.select({name: value}).get(name) == value) == fits


def test_unknown_names_are_dropped_or_refused() -> None:
    """``features.unknown`` says which; either way the model never sees them: its scalers would grow."""
    features: dict[str, Scalar] = {"n": 1.0, "new": 2.0}
    assert Schema({"n": "number"}).mismatch(features) is None
    assert Schema({"n": "number"}).select(features) == {"n": 1.0}
    refusal = Schema({"n": "number"}, unknown="refuse").mismatch(features)
    assert refusal is not None
    assert refusal.reason is Reason.FEATURE_UNKNOWN


@pytest.mark.parametrize("refuse", [False, True])
def test_an_open_schema_lets_unknown_names_through(refuse: bool) -> None:
    """Sparse streams declare what they can; the rest passes, but a declared name keeps its type."""
    schema = Schema({"n": "number"}, unknown="refuse" if refuse else "drop", open=True)
    assert schema.mismatch({"new": "x"}) is None
    assert schema.select({"n": 1.0, "new": "x"}) == {"n": 1.0, "new": "x"}
    assert schema.mismatch({"n": "x"}) is not None
    assert schema.select({"n": "x"}) == {}


def test_a_missing_text_is_the_empty_text() -> None:
    """River's vectorisers raise without their feature; anything else that is missing stays missing (F33)."""
    assert Schema(KINDS).select({"n": 1.0}) == {"n": 1.0, "t": ""}
    assert Schema(KINDS).select(FITTING) == FITTING
