"""The memory of the open requests is bounded, and so are the bytes of a step."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest

from streamal.core.codec.events import decode_request, encode
from streamal.core.pending import Pending, resident_bytes, resident_bytes_max
from streamal.core.records import FeatureValue, Lane, Record, Request
from tests.making import World, event_record, make_fold, make_request, make_rules
from tests.recorded import World as Topics
from tests.recorded import make_config, rows_of

KINDS = {"x": "number", "t": "string"}
FEATURES: list[dict[str, FeatureValue]] = [
    {f"number {n}": n / 7.0 for n in range(8)},
    {f"number {n}": n / 7.0 for n in range(200)},
    {"text": "x" * 10_000},
    {"text": "x" * 9_999 + "😀"},
    {"täxt": "é" * 5_000, "flag": True},
    {f"t{n}": "word" for n in range(100)},
    {"e": [n / 7.0 for n in range(4_096)]},
    {f"e{n}": [1.0] for n in range(100)},
    {f"e{n}": [float(n), 2.0, 3.0] for n in range(100)},
]


@pytest.mark.parametrize("features", FEATURES, ids=range(len(FEATURES)))
def test_no_open_request_takes_more_than_is_counted(features: dict[str, FeatureValue]) -> None:
    """F65: what Python takes for a request that was read from its topic is at most what the bound counts for it."""
    values = []
    for number in range(50):
        request = make_request(number)
        values.append(
            encode(
                Request(**{name: getattr(request, name) for name in request.__struct_fields__} | {"features": features})
            )
        )
    pending = Pending(1_000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for value in values:
        found = decode_request(value)
        assert isinstance(found, Request)
        pending.add(found)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken <= pending.bytes == 50 * resident_bytes(features, 2)
    assert resident_bytes(features, 2) <= resident_bytes_max(len(values[0]), len(features), has_vectors=True)


def long_event(offset: int, size: int) -> Record:
    return event_record(offset, {"x": float(offset % 7), "t": "x" * size})


def counted(world: World) -> int:
    return sum(
        resident_bytes(each.features, len(each.probabilities)) for each in world.fold.books.pending.open.values()
    )


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_open_requests_take_no_more_memory_than_allowed(batch: int) -> None:
    """F65: however large the steps, asking ends at the bound; the audit lane has its part; expiries open it again."""
    rules = make_rules(share="1", audit_share="0.3", burst=1_000, open_bytes=300_000, strategy="random")
    world = World(rules, make_fold(kinds=KINDS))
    for first in range(0, 200, batch):
        world.run([long_event(offset, 10_000) for offset in range(first, min(200, first + batch))], 0.0)
    assert 300_000 - 13_000 < counted(world) <= 300_000
    lanes = Counter(each.lane for each in world.fold.books.pending.open.values())
    assert lanes[Lane.STRATEGY] == 16  # 0.7 of 300,000 bytes, at 12,750 each
    assert lanes[Lane.AUDIT] == 7
    before = len(world.written["requests"])
    world.run([event_record(200 + n, {"x": 1.0}) for n in range(20)], 1.0)
    assert len(world.written["requests"]) > before, "a short one fits"
    world.run([], 101.0)
    world.run([], 101.0)
    assert counted(world) < 13_000
    world.run([long_event(300 + n, 10_000) for n in range(50)], 102.0)
    assert 200_000 < counted(world) <= 300_000


def test_dropped_features_take_no_memory() -> None:
    """F65: 600 events with a megabyte that nobody declared leave as much open as short ones do."""
    sizes = []
    for junk in ("x" * 1_000_000, "x"):
        world = World(make_rules(share="1", audit_share="0", burst=1_000), make_fold(kinds={"x": "number"}))
        for first in range(0, 600, 50):
            world.run([event_record(first + n, {"x": 1.0, "junk": junk}) for n in range(50)], 0.0)
        assert len(world.fold.books.pending) > 300
        sizes.append(counted(world))
    assert sizes[0] == sizes[1]


def test_a_step_takes_no_more_bytes_than_allowed() -> None:
    """F66: fifty long texts are fifty short steps, in order, with one prediction each; a rewind loses none."""
    config = make_config(limits={"step_bytes": 25_000})
    world = Topics(config)
    daemon = world.daemon(step_bytes=25_000)
    daemon.start()
    for number in range(50):
        world.event({"x1": number / 50.0, "x2": 0.5, "text": "x" * (12_000 if number % 10 else 60_000)})
    steps = []
    while consumed := daemon.tick():
        steps.append(consumed)
        if len(steps) == 7:
            daemon._rewind()
    assert set(steps) == {1, 2}
    assert sum(steps) == 50
    assert [row["event"] for row in rows_of(world.broker, world.topics.predictions)] == [f"0-{n}" for n in range(50)]


def test_without_vectors_a_hidden_request_takes_a_text_at_most() -> None:
    """Sixteen requests that are not visible yet close no lane, where no feature is a vector; five with vectors may."""
    texts, vectors = (resident_bytes_max(1_048_576, 1_000, has_vectors=has) for has in (False, True))
    assert 16 * texts < 96_000_000 < 5 * vectors
    letters = {"text": "\N{GRINNING FACE}" * 1_000}
    assert resident_bytes(letters, 2) <= resident_bytes_max(len(str(letters).encode()), 1, has_vectors=False)
