"""Which features reach the model: the first type wins, nothing unknown passes unless the schema is open (F32)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.records import Reason, Scalar
from streamal.core.schema import Schema, infer_schema
from tests.making import feature_maps

KINDS = {"n": "number", "s": "string", "b": "boolean", "t": "text"}
FITTING: Mapping[str, Scalar] = {"n": 1.0, "s": "x", "b": True, "t": "some words"}


def test_the_first_type_of_a_name_wins() -> None:
    """A name is what it was when it was first seen, whatever it is later (F32)."""
    assert infer_schema([{"a": 1.0}, {"a": "x", "b": True}, {"a": True, "b": 1.0}], 10) == {
        "a": "number",
        "b": "boolean",
    }


def test_the_most_frequent_names_are_kept() -> None:
    """The bound holds whatever the first requests bring; ties go by name, so that every trainer decides alike."""
    samples: list[dict[str, Scalar]] = [{"z": 1.0, "b": 1.0}, {"z": 1.0, "a": "x"}, {"c": True}]
    assert infer_schema(samples, 2) == {"a": "string", "z": "number"}
    assert infer_schema([], 2) == {}


@given(st.lists(feature_maps, max_size=6), st.integers(1, 8))
def test_an_inferred_schema_accepts_what_it_has_seen_first(samples: list[dict[str, Scalar]], most: int) -> None:
    """It is bounded, sorted, and the first sample passes through it unchanged as far as its names were kept."""
    kinds = infer_schema(samples, most)
    assert len(kinds) <= most
    assert list(kinds) == sorted(kinds)
    for features in samples[:1]:
        assert Schema(kinds).mismatch(features) is None
        assert Schema(kinds).select(features) == {name: value for name, value in features.items() if name in kinds}


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
