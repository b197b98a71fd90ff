"""Real workers on a real broker, killed, frozen, fenced and fed with poison: what the topics say afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from streamal.assembly import budget_rules, new_fold, rules
from streamal.cli import parts
from streamal.config import Config, load_config
from streamal.verification import verify
from tests import kafka_broker
from tests.chaos import SESSION_S, Outside, Worker, configured, worker
from tests.recount import recount

pytestmark = pytest.mark.kafka

MEMORY_BYTES_MAX = 500_000_000


@contextmanager
def outside_of(path: Path, seed: int, per_second: float) -> Iterator[Outside]:
    """The world outside, for as long as the test lasts."""
    outside = Outside(load_config(path), seed, per_second)
    outside.start()
    try:
        yield outside
    finally:
        outside.end()
        outside.log.close()


def require_promises(config: Config, outside: Outside) -> dict[str, int]:
    """Fail with what the verifier or the recount has found; return how much there was to look at."""
    log, partitions = parts.open_log(config), config.transport.partitions
    try:
        deciding, group = rules(config, partitions), config.transport.group
        checks = verify(log, deciding, budget_rules(config), group, lambda: new_fold(config), rederive=True)
        sent = len([None for p in range(partitions) for _ in range(log.end(config.topics.events, p))])
    finally:
        log.close()
    assert [(check.promise, check.where) for check in checks if check.broken] == []
    assert all(check.looked_at for check in checks)
    assert checks[0].looked_at == sent
    return dict(recount(config, outside.in_time))


def kill_in_rotation(workers: Sequence[Worker], outside: Outside, times: int, chance: random.Random) -> int:
    """Kill one after the other, at work or wherever it stands; return how many were at work."""
    hit = 0
    for number in range(times):
        victim = workers[number % len(workers)]
        if number % 2:
            outside.play_until(victim.works)
        outside.play(chance.uniform(0.0, 1.5))
        hit += victim.works()
        victim.kill()
        victim.start()
    return hit


def test_workers_that_are_killed_frozen_fenced_and_replaced_keep_every_promise(tmp_path: Path) -> None:
    """Three workers in a bad neighbourhood (F1-F13, F18-F24, F29-F31): the topics show nothing of it."""
    seed, began = 1, time.monotonic()
    chance = random.Random(seed)
    with kafka_broker.fragile() as cluster, ExitStack() as stack:
        path = configured(cluster, tmp_path)
        outside = stack.enter_context(outside_of(path, seed, per_second=100.0))
        names = [["--set", "transport.instance=one"], ["--set", "transport.instance=two"], []]
        workers = [
            stack.enter_context(worker(path, name, *names[number]))
            for number, name in enumerate(("one", "two", "three"))
        ]
        outside.play_until(lambda: all(each.works() for each in workers))
        hit = kill_in_rotation(workers, outside, 21, chance)
        print("killed", time.monotonic() - began)
        outside.play_until(lambda: all(each.works() for each in workers))
        one, two, three = workers
        three.freeze()
        outside.play(SESSION_S + 1.0)
        four = stack.enter_context(worker(path, "four"))
        outside.play_until(four.works)
        three.thaw()
        print("thawed", time.monotonic() - began)
        two.freeze()
        twin = stack.enter_context(worker(path, "twin", "--set", "transport.instance=two"))
        outside.play_until(twin.works)
        two.thaw()
        outside.play_until(lambda: two.process.poll() is not None)
        assert two.process.wait() == 1
        print("twin", time.monotonic() - began)
        assert four.stop() == 0
        cluster.nodes[0].kill()
        outside.play(1.0)
        cluster.nodes[0].start()
        cluster.wait()
        outside.play(3.0)
        print("broker", time.monotonic() - began)
        outside.finish()
        print("finished", time.monotonic() - began)
        memory = max(each.memory_bytes() for each in (one, three, twin))
        assert [each.stop() for each in (one, three, twin)] == [0, 0, 0]
        figures = require_promises(load_config(path), outside)
        print(time.monotonic() - began, hit, memory, outside.did, figures, [each.rebalances() for each in workers])
