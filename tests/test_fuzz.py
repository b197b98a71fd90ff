"""A million mutated inputs through the wire: nothing raises, nothing grows, whatever is let through is sane.

Hypothesis looks for single inputs (tests/test_wire.py); this is a mutator of our own, quick enough for masses: seeds of
every kind, cut, spliced, repeated, their bytes flipped, their numbers and brackets exchanged. Other decoders of what
strangers send join by a line in `DECODERS`, as bytes -> anything.
"""

from __future__ import annotations

import gc
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from streamal.config import load_config
from streamal.core.codec.dead_letters import dead_letter
from streamal.core.codec.events import decode_event, decode_request, decode_training, encode
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Event, NaturalLabel, Reason, Refusal, Reply
from streamal.core.schema import Schema
from streamal.edge.memory import Broker
from streamal.labeling.web.annotating import Annotators, Denied
from streamal.labeling.web.api import decode_body
from streamal.labeling.web.bodies import Answer
from streamal.labeling.web.topics_thread import TopicsThread
from tests.making import make_request
from tests.outside import POISON_EVENTS, POISON_REPLIES
from tests.test_wire import ALL_RULES, NATURAL, TOKENS

SCHEMA = Schema({"a": "number", "b": "string", "c": "boolean"}, unknown="drop")
SEEDS = [
    b'{"id": 7, "time": "2026-11-22T14:00:00Z", "features": {"a": 1.5, "b": "x", "c": true, "d": null}}',
    b'{"a": 1, "b": "\\u00e9", "id": "seven", "time": 1763820000.5}',
    b'{"request": "0-1845", "label": "rain", "annotator": "kim", "reply": "r1", "seconds": 4.2}',
    b'{"request": "0-1845", "abstain": true}',
    b'{"event": "3-9", "label": 1}',
    b'{"features": {"a": 2}, "label": false, "id": null}',
    (
        b'{"kind":"example","request":"0-1","label":"x","features":{"a":1.0},"predicted":null,"propensity":0.1,'
        b'"lane":"audit","asked_at":1.0,"at":2.0}'
    ),
    (
        b'{"request":"0-1","features":{},"label":null,"probabilities":{"x":0.5,"y":0.5},"version":3,"lane":"strategy",'
        b'"strategy":"fixed","uncertainty":0.5,"propensity":0.1,"asked_at":1.0,"expires_at":9.0}'
    ),
    *(value for value in (*POISON_EVENTS, *POISON_REPLIES) if value is not None and len(value) < 300),
]
PIECES = [token for token in TOKENS if len(token) < 300]


def _event(rules: WireRules, value: bytes) -> Any:
    return decode_event(0, 1, value, rules, SCHEMA)


@cache
def _page() -> tuple[TopicsThread, Annotators]:
    """A label page with one open request."""
    broker, config = Broker(), load_config(None, ["labels.new_classes='learn'"])
    for topic in config.topics.model_dump().values():
        broker.create(topic, 1)
    broker.append(config.topics.requests, 0, b"0-1845", encode(make_request(1845, ttl_s=1e12)))
    topics = TopicsThread(config, lambda: broker)
    topics.start()
    return topics, Annotators(config, topics)


def _label(value: bytes) -> str:
    """Give the page's interface a body, as ``POST /api/labels`` does; return what became of it."""
    topics, annotators = _page()
    try:
        answer = decode_body(value, Answer)
        topics.call(lambda: annotators.respond("kim", answer)).result(10)
    except Denied as denied:
        return f"denied {denied.status}"
    return "taken"


def _reply(rules: WireRules, value: bytes) -> Any:
    return decode_reply(value, rules, SCHEMA)


DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    **{f"event {n}": partial(_event, rules) for n, rules in enumerate(ALL_RULES)},
    **{f"reply {n}": partial(_reply, rules) for n, rules in enumerate((ALL_RULES[0], NATURAL))},
    "label": _label,
    "request": decode_request,
    "training": decode_training,
}


def mutated(seed: int, count: int) -> Iterator[bytes]:
    """Yield *count* inputs, the same for the same *seed*; at most some 2 kB each."""
    chance = random.Random(seed)
    for _ in range(count):
        value = bytearray(chance.choice(SEEDS))
        for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
            at, until = sorted(chance.randrange(len(value) + 1) for _ in range(2))
            match chance.randrange(7):
                case 0 if value:
                    value[min(at, len(value) - 1)] = chance.randrange(256)
                case 1:
                    del value[at : min(until, at + 8)]
                case 2:
                    value[at:at] = chance.choice(PIECES)
                case 3:
                    value[at:at] = value[at : min(until, at + 40)] * chance.choice((1, 2, 9))
                case 4:
                    value[at:] = chance.choice(SEEDS)[chance.randrange(20) :]
                case 5:
                    value[at:at] = chance.choice(
                        (b'{"a":', b"[", b"]", b"}", b'"', b",", b"\\", b"\x00")
                    ) * chance.choice((1, 1, 60))
                case _:
                    value[at:until] = chance.choice(PIECES)
            del value[2_000:]
        yield bytes(value)


def sane(found: Any) -> bool:
    """Whether what was let through is what the core may rely on."""
    match found:
        case Event(features=features):
            return bool(features) and all(not isinstance(v, float) or math.isfinite(v) for v in features.values())
        case Reply(label=label, seconds=seconds):
            return (label is None or isinstance(label, str)) and (seconds is None or 0 <= seconds < 1e9)
        case NaturalLabel(label=label):
            return isinstance(label, str)
        case Refusal(reason=reason, detail=detail):
            return reason in Reason and len(detail) < 1_000
        case _:
            return True


def fuzz(seed: int, count: int) -> Counter[str]:
    """Run *count* inputs, each through one decoder after the other in turn; return what became of them."""
    seen: Counter[str] = Counter()
    decoders = list(DECODERS.items())
    for number, value in enumerate(mutated(seed, count)):
        name, decode = decoders[number % len(decoders)]
        found = decode(value)
        assert sane(found), (name, value)
        if isinstance(found, Refusal):
            seen[f"{name.split()[0]} {found.reason}"] += 1
            assert len(dead_letter("t", 0, 1, value, found, 1.0)) < 1_500
        else:
            seen[f"{name.split()[0]} {found if isinstance(found, str) else 'taken'}"] += 1
    return seen


def grown(count: int) -> tuple[Counter[str], int]:
    """Return what became of *count* inputs, and by how many kB the process has grown in the latter half."""
    seen = fuzz(1, count // 2)
    gc.collect()
    before = resident_kb()
    seen += fuzz(2, count // 2)
    gc.collect()
    return seen, resident_kb() - before


def resident_kb() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])


def require_whole(seen: Counter[str], growth: int, count: int) -> None:
    """Fail if memory has grown, or the inputs were all of a kind."""
    assert seen.total() == count
    assert growth < 2_000, growth
    assert {name for name in seen if name.startswith("label")} == {
        "label taken",
        "label denied 409",
        "label denied 422",
    }
    for kind in ("event", "reply"):
        assert seen[f"{kind} taken"] > count / 500
        assert len([name for name in seen if name.startswith(kind)]) >= 8, seen


def test_many_mutated_inputs() -> None:
    """10,000 of them: no exception, no growth; some are taken, and refused for many reasons."""
    require_whole(*grown(10_000), 10_000)


@pytest.mark.slow
def test_a_million_mutated_inputs() -> None:
    """10^6 of them, likewise."""
    seen, growth = grown(1_000_000)
    print(f"{growth} kB more after half a million; {dict(seen.most_common())}")
    require_whole(seen, growth, 1_000_000)


@pytest.mark.slow
def test_a_million_bytes_of_noise() -> None:
    """Neither does noise raise that has never been JSON: a million inputs of up to 64 random bytes."""
    chance = random.Random(64)
    for number in range(1_000_000):
        value = chance.randbytes(chance.randrange(64))
        name, decode = list(DECODERS.items())[number % len(DECODERS)]
        assert sane(decode(value)), (name, value)
