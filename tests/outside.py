"""The world outside of a chaos test: producers and annotators who lie, are late, are early, and send poison."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors

from streamal.bootstrap import transports
from streamal.config import Config, load_config
from streamal.core.records import OutputRecord
from streamal.errors import Uncommitted
from streamal.ports import scan
from tests.chaos import TTL_S

CLASSES = ("no", "yes")
HUGE = b'{"features": {"a": "' + b"x" * 10_000_000 + b'"}}'
"""Good JSON of ten megabytes; one is allowed."""

POISON_EVENTS = (
    None,
    b"",
    b"this is no JSON",
    b"\xff\xfe\x00",
    b"[1]",
    b'{"features": {"a": NaN}}',
    b'{"features": {"a": 1e308, "b": 1}}',
    b'{"features": {"a": -1e308}}',
    b'{"features": {"a": 1e999}}',
    b'{"features": {"a": ' + b"9" * 5_000 + b"}}",
    b'{"features": {"a": "one", "b": 1}}',
    b'{"features": {"a": true, "b": 1}}',
    b'{"features": {"a": null}}',
    b'{"features": {"a": [1]}}',
    b'{"features": {}}',
    b'{"id": 7}',
    b'{"features": {"a": "\xff"}}',
    b'{"features": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b', "features": {"a": 1}}',
)
POISON_REPLIES = (
    None,
    b"",
    b"{",
    b"\xff",
    b"[]",
    b'{"label": "no"}',
    b'{"request": "0-0"}',
    b'{"request": 7, "label": "no"}',
    b'{"request": "0-0", "label": 1.5}',
    b'{"request": "0-0", "label": "maybe"}',
    b'{"request": "0-0", "label": "no", "abstain": true}',
    b'{"request": "0-0", "label": "no", "seconds": 1e308}',
    b'{"request": "0-0", "label": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
)


@contextmanager
def outside_of(config: Path, seed: int, per_second: float, codecs: Sequence[str | None] = ()) -> Iterator[Outside]:
    """The world outside, for as long as a test lasts; its producers compress by *codecs*, each batch by another."""
    outside = Outside(load_config(config), seed, per_second, codecs)
    outside.start()
    try:
        yield outside
    finally:
        outside.end()
        outside.log.close()


class Outside(threading.Thread):
    """Producers and annotators, on a thread of their own.

    What becomes of a request hangs on its coordinates alone: whoever sees it, as often as they see it, says the same
    first; contradictions follow only when that is certain to be before them. So the test knows what must be learned.

    Attributes:
        sending: whether events flow; replies always do.
        in_time: request -> label, of those that were answered for certain before their deadline.
        did: how often what was done.
    """

    def __init__(self, config: Config, seed: int, per_second: float, codecs: Sequence[str | None] = ()) -> None:
        super().__init__(name="outside", daemon=True)
        servers = config.transport.bootstrap_servers.split(",")
        self._producers = [
            KafkaProducer(bootstrap_servers=servers, acks="all", compression_type=codec, max_request_size=32_000_000)
            for codec in codecs
        ]
        self.config, self.log = config, transports.open_log(config)
        self.sending, self.in_time, self.did = True, dict[str, str | None](), Counter[str]()
        self._seed, self._random, self._per_second = seed, random.Random(seed), per_second
        self.left = ""
        self._owed, self._closing, self._failed = 0.0, threading.Event(), list[BaseException]()
        self._open: dict[str, str] = {}
        self._late: list[tuple[float, str]] = []
        self._positions = dict.fromkeys(range(config.transport.partitions), 0)
        self._last = dict.fromkeys(self._positions, -1)
        self._glancing = self._early_reader()

    def run(self) -> None:
        before = time.monotonic()
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                self._owed, before = min(self._owed + (now - before) * self._per_second, 50.0), now
                with suppress(Uncommitted):  # the broker is away; nobody knows what was written
                    self._send()
                    self._glance()
                    self._read()
                    self._be_late()
                time.sleep(0.01)
        except BaseException as error:
            self._failed.append(error)

    def require_well(self) -> None:
        if self._failed:
            raise AssertionError("the world outside has ended") from self._failed[0]

    def play(self, seconds: float) -> None:
        time.sleep(seconds)
        self.require_well()

    def play_until(self, holds: Callable[[], object], patience_s: float = 180.0) -> None:
        """Play on until something has come true."""
        deadline = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < deadline, f"it takes too long; {self.left}"
            self.play(0.05)

    def finish(self, patience_s: float = 180.0) -> None:
        """Send no more, and play on until all is consumed and no request is open (I16); then end."""
        self.sending = False
        asking = transports.open_log(self.config)
        try:
            self.play_until(lambda: self._is_done(asking), patience_s)
        finally:
            asking.close()
            self.end()

    def end(self) -> None:
        self._closing.set()
        self.join()
        self._glancing.close()
        for producer in self._producers:
            producer.close(timeout=5)

    def _is_done(self, log: Any) -> bool:
        topics = self.config.topics
        places = [(topics.labels, 0), *((topics.events, partition) for partition in self._positions)]
        try:
            done = log.committed(self.config.transport.group)
            lag = {place: log.end(*place) - (done[place].offset if place in done else 0) for place in places}
        except Uncommitted:
            return False
        self.left = f"lag {[each for each in lag.items() if each[1]]}, open {list(self._open)}, late {self._late}"
        return not any(lag.values()) and not self._open and not self._late

    def _early_reader(self) -> KafkaConsumer:
        """Return what an annotator sees who does not care what is committed."""
        reader = KafkaConsumer(
            bootstrap_servers=self.config.transport.bootstrap_servers.split(","),
            isolation_level="read_uncommitted",
            enable_auto_commit=False,
            fetch_max_wait_ms=5,
        )
        places = [TopicPartition(self.config.topics.requests, partition) for partition in self._positions]
        reader.assign(places)
        reader.seek_to_beginning(*places)
        return reader

    def _send(self) -> None:
        """Send the events that are due; one in twenty is poison, and now and then one is huge."""
        outputs = []
        while self.sending and self._owed >= 1.0:
            self._owed -= 1.0
            self.did["event"] += 1
            partition = self._random.randrange(len(self._positions))
            outputs.append(OutputRecord(self.config.topics.events, partition, b"key", self._event()))
        if outputs and self._producers:
            self._produce(self._random.choice(self._producers), outputs)
        elif outputs:
            self.log.append_all(outputs)

    def _produce(self, producer: KafkaProducer, outputs: Sequence[OutputRecord]) -> None:
        """Send *outputs* as any other program would; what becomes of them while a broker is away, nobody knows."""
        with suppress(errors.KafkaError):
            for each in outputs:
                producer.send(each.topic, each.value, key=each.key, partition=each.partition)
            producer.flush(timeout=10)

    def _event(self) -> bytes | None:
        if self.did["event"] in (200, 2_000):
            self.did["huge"] += 1
            return HUGE
        if self._random.random() < 0.05:
            return self._random.choice(POISON_EVENTS)
        features = {"a": self._random.gauss(0, 1), "b": self._random.gauss(0, 1)}
        if self._random.random() < 0.1:
            features |= {"c": 1.0}  # unknown: dropped
        return json.dumps({"features": features}).encode()

    def _glance(self) -> None:
        """Answer as soon as a request can be seen at all: mostly before it is committed, sometimes before it is not."""
        for place, records in self._glancing.poll(timeout_ms=2).items():
            for record in records:
                key = (record.key or b"").decode()
                if record.value is not None and self._fate(key) == "early":
                    self._reply(key, self._truth(key, record.value))
                    self.did["early"] += 1
                    self.did["overtook"] += self.log.end(place.topic, place.partition) <= record.offset

    def _read(self) -> None:
        """Answer, or not, what is committed."""
        for partition, position in self._positions.items():
            for record in scan(self.log, self.config.topics.requests, partition, position):
                self._positions[partition] = record.offset + 1
                key = (record.key or b"").decode()
                if record.value is not None:
                    self._open[key] = self._truth(key, record.value)
                    self._answer(key, json.loads(record.value)["expires_at"])
                    self._forge(key)
                else:
                    truth = self._open.pop(key)
                    if self._fate(key) == "silent":
                        self._reply(key, truth)
                        self.did["after the expiry"] += 1

    def _answer(self, key: str, expires_at: float) -> None:
        fate, truth = self._fate(key), self._open[key]
        if fate == "slow":
            self._late.append((time.monotonic() + self._random.uniform(0.0, 1.5 * TTL_S), key))
            return
        if fate == "silent":
            return
        label = None if fate == "abstain" else truth
        self._reply(key, label)
        self.did[fate] += 1
        if time.time() < expires_at - 0.5:
            self.in_time[key] = label
        if fate == "contradict":
            self._reply(key, CLASSES[truth == "no"])
            self._reply(key, None)
            self._reply(key, truth)

    def _be_late(self) -> None:
        due, now = [], time.monotonic()
        for each in list(self._late):
            if each[0] <= now:
                self._late.remove(each)
                due.append(each[1])
        for key in due:
            self._reply(key, CLASSES[len(key) % 2])
            self.did["slow"] += 1

    def _forge(self, key: str) -> None:
        """Answer what was never asked: the future, other partitions, and events that were passed over."""
        partition, _, offset = key.partition("-")
        before, self._last[int(partition)] = self._last[int(partition)], int(offset)
        if self._random.random() < 0.3:
            made_up = [f"{partition}-{10**9 + self.did['event']}", f"99-{offset}", "nonsense", f"{partition}-1e3"]
            if before + 1 < int(offset):
                made_up.append(f"{partition}-{self._random.randrange(before + 1, int(offset))}")
            self._reply(self._random.choice(made_up), "yes")
            self.did["forged"] += 1
        if self._random.random() < 0.3:  # the truth about some event before this one, asked or not, good or poison
            told = {"event": f"{partition}-{self._random.randrange(int(offset) + 1)}", "label": "yes"}
            self._append(json.dumps(told).encode())
            self.did["natural"] += 1
        if self._random.random() < 0.1:
            huge = self.did["poison reply"] in (3, 30)
            self._append(HUGE if huge else self._random.choice(POISON_REPLIES))
            self.did["poison reply"] += 1

    def _fate(self, key: str) -> str:
        fates = (
            "early",
            "early",
            "early",
            "plain",
            "plain",
            "plain",
            "plain",
            "contradict",
            "abstain",
            "slow",
            "silent",
        )
        return random.Random(f"{self._seed} {key}").choice(fates)

    def _truth(self, key: str, request: bytes) -> str:
        features = json.loads(request)["features"]
        return CLASSES[features["a"] + features["b"] > 0]

    def _reply(self, key: str, label: str | None) -> None:
        answer = {"abstain": True} if label is None else {"label": label}
        self._append(json.dumps({"request": key, **answer, "annotator": "kim"}).encode())

    def _append(self, value: bytes | None) -> None:
        """Write a reply, perhaps twice: where nobody knows whether it was written, it is written again."""
        while not self._closing.is_set():
            with suppress(Uncommitted):
                self.log.append(self.config.topics.labels, 0, b"key", value)
                return
