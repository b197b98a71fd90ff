"""Real workers on a real broker, killed, frozen, fenced and fed with poison: what the topics say afterwards."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, errors

from tests import kafka_broker
from tests.chaos import SESSION_S, Worker, configured, worker
from tests.kafka_broker import Cluster
from tests.outside import Outside, outside_of
from tests.recount import require_promises

pytestmark = pytest.mark.kafka

MEMORY_BYTES_MAX = 500_000_000
OTHER_CLIENT = ("--set", "transport.client=confluent")
CODECS = (None, "gzip", "snappy", "lz4", "zstd")


@contextmanager
def workers_of(path: Path, *names: str) -> Iterator[list[Worker]]:
    """Workers; those with a capital have it as an instance too, the others are nameless."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker(path, name, *_instance(name))) for name in names]


def _instance(name: str) -> list[str]:
    return ["--set", f"transport.instance={name.partition('-')[0]}"] if name[0].isupper() else []


def kill_in_rotation(workers: Sequence[Worker], outside: Outside, times: int, chance: random.Random) -> int:
    """Kill one after the other, every second one at work, the others wherever they stand; return how many worked."""
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


def freeze(victim: Worker, outside: Outside, seconds: float) -> None:
    """Stop all of its threads, long enough that the others take it for dead; it does not know how long it was."""
    victim.freeze()
    outside.play(seconds)
    victim.thaw()


def replace(victim: Worker, path: Path, outside: Outside, stack: ExitStack) -> Worker:
    """Freeze a worker and start another of its name; the older one wakes up, and ends. Return the newer one (F11)."""
    victim.freeze()
    twin = stack.enter_context(worker(path, f"{victim.name}-{os.urandom(4).hex()}", *_instance(victim.name)))
    outside.play_until(twin.works)
    victim.thaw()
    outside.play_until(lambda: victim.process.poll() is not None)
    assert victim.process.wait() == 1, victim.log()
    return twin


def restart(cluster: Cluster, outside: Outside, node: int, seconds: float) -> None:
    """End a broker as a power failure would, and start it again; a named worker may be fenced by the time it takes."""
    cluster.nodes[node].kill()
    outside.play(seconds)
    cluster.nodes[node].start()
    cluster.wait()


def require_all_was_met(did: Counter[str], found: Counter[str]) -> None:
    """Fail if the world outside was too kind."""
    met = (
        "early",
        "overtook",
        "contradict",
        "abstain",
        "slow",
        "after the expiry",
        "forged",
        "poison reply",
        "natural",
    )
    assert [what for what in met if not did[what]] == []
    assert did["huge"] >= 2
    assert (
        min(found["example"], found["abstention"], found["expiry"], found["refused"], found["poison"], found["natural"])
        > 0
    )


@pytest.mark.parametrize("kills", [9, pytest.param(21, marks=pytest.mark.slow)])
def test_workers_that_are_killed_frozen_and_replaced_keep_every_promise(kills: int, tmp_path: Path) -> None:
    """Three workers, a broker, and a world that means no good (F1-F13, F18-F24, F29-F31): the topics show none of it.

    Kill -9 in rotation, 21 times in the slow run; a worker that is frozen until it is fenced, one that is replaced
    meanwhile, one that joins and leaves; the broker killed and started again.
    """
    with kafka_broker.fragile(apart=True) as cluster, ExitStack() as stack:
        path = configured(cluster, tmp_path)
        outside = stack.enter_context(outside_of(path, seed=1, per_second=100.0))
        workers = stack.enter_context(workers_of(path, "One", "Two", "three"))
        outside.play_until(lambda: all(each.works() for each in workers))
        hit = kill_in_rotation(workers, outside, kills, random.Random(1))
        outside.play_until(lambda: all(each.works() for each in workers))
        freeze(workers[2], outside, SESSION_S + 1.0)
        four = stack.enter_context(worker(path, "four"))
        outside.play_until(four.works)
        workers[1] = replace(workers[1], path, outside, stack)
        assert four.stop() == 0
        restart(cluster, outside, 0, 1.0)
        outside.play_until(lambda: _all_work(workers), patience_s=120.0)
        outside.play(3.0)
        outside.finish()
        memory_bytes = max(each.memory_bytes() for each in workers)
        assert [each.stop() for each in workers] == [0, 0, 0]
        require_all_was_met(outside.did, require_promises(outside))
    assert hit >= kills // 2
    assert memory_bytes < MEMORY_BYTES_MAX
    assert sum(each.rebalances() for each in (*workers, four)) >= 5


@pytest.mark.parametrize("kills", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_workers_on_the_other_client_are_killed_in_rotation(kills: int, kafka: Cluster, tmp_path: Path) -> None:
    """The same on librdkafka, and one that stays on kafka-python in the same group: as while one changes over."""
    path = configured(kafka, tmp_path)
    with ExitStack() as stack:
        outside = stack.enter_context(outside_of(path, seed=2, per_second=100.0))
        workers = [
            stack.enter_context(worker(path, "Named", *_instance("Named"), *OTHER_CLIENT)),
            stack.enter_context(worker(path, "nameless", *OTHER_CLIENT)),
            stack.enter_context(worker(path, "old")),
        ]
        outside.play_until(lambda: all(each.works() for each in workers))
        hit = kill_in_rotation(workers, outside, kills, random.Random(2))
        outside.play_until(lambda: _all_work(workers))
        outside.finish()
        assert [each.stop() for each in workers] == [0, 0, 0]
        require_promises(outside)
    assert hit >= kills // 2


@pytest.mark.slow
def test_a_random_schedule_on_three_nodes_keeps_every_promise(tmp_path: Path) -> None:
    """As above, longer, in any order, with both clients, five codecs, clocks that jump and brokers that fail in turn.

    STREAMAL_TEST_SEED plays a schedule again, STREAMAL_TEST_ACTIONS says how long it is (60: some six minutes).
    """
    seed = int(os.environ.get("STREAMAL_TEST_SEED") or random.randrange(10**6))
    print(f"STREAMAL_TEST_SEED={seed}")
    chance, done = random.Random(seed), Counter[str]()
    with kafka_broker.fragile(3) as cluster, ExitStack() as stack:
        path = configured(cluster, tmp_path, 10)  # some for each of six workers
        outside = stack.enter_context(outside_of(path, seed, per_second=60.0, codecs=CODECS))
        workers = stack.enter_context(workers_of(path, "One", "Two", "three"))
        workers.append(stack.enter_context(worker(path, "other", *OTHER_CLIENT)))
        for number in range(int(os.environ.get("STREAMAL_TEST_ACTIONS") or 60)):
            what = chance.choice(
                ("kill", "kill", "kill", "kill", "freeze", "replace", "node", "join", "leave", "clock")
            )
            victim = chance.randrange(len(workers))
            done[what] += 1
            print(number, what, workers[victim].name, flush=True)
            outside.play(chance.uniform(0.0, 3.0))
            _act(what, workers, victim, cluster, path, outside, stack, chance)
            done["ended"] += sum(_revived(each) for each in workers)
        outside.play_until(lambda: _all_work(workers), patience_s=180.0)
        outside.finish(180.0)
        assert [each.stop() for each in workers] == [0] * len(workers)
        found = require_promises(outside)
        print(done, outside.did, found, sum(each.rebalances() for each in workers))
        require_all_was_met(outside.did, found)


def _act(
    what: str,
    workers: list[Worker],
    victim: int,
    cluster: Cluster,
    path: Path,
    outside: Outside,
    stack: ExitStack,
    chance: random.Random,
) -> None:
    one = workers[victim]
    if what == "kill":
        one.kill()
        one.start()
    elif what == "freeze":
        freeze(one, outside, chance.uniform(0.5, 15.0))  # beyond the session, beyond the transaction, or neither
    elif what == "replace" and one.name[0].isupper() and any(one.assignments()):
        one.freeze()
        twin = stack.enter_context(worker(path, f"{one.name}-{os.urandom(4).hex()}", *_instance(one.name)))
        outside.play(chance.uniform(2.0, 8.0))
        one.thaw()  # whoever of the two joins last goes on: on a slow machine that may be the older one
        outside.play_until(lambda: one.process.poll() is not None or twin.process.poll() is not None)
        workers[victim] = twin if one.process.poll() is not None else one
    elif what == "node":
        restart(cluster, outside, chance.randrange(len(cluster.nodes)), chance.uniform(0.0, 8.0))
        outside.play_until(lambda: _are_in_sync(cluster))
    elif what == "clock":  # for less than `limits.clock_settle_s`: nobody believes it
        one.set_clock(chance.choice((-3_600.0, 3_600.0, 366 * 86_400.0)))
        outside.play(chance.uniform(0.5, 5.0))
        one.set_clock(0.0)
    elif what == "join" and len(workers) < 6:
        client = chance.choice(((), OTHER_CLIENT))
        workers.append(stack.enter_context(worker(path, f"more-{os.urandom(4).hex()}", *client)))
    elif what == "leave" and len(workers) > 3:
        gone = workers.pop()
        assert gone.stop() in {0, -15} or "8 s after the signal" in gone.log(), gone.log()  # amid an outage


def _all_work(workers: Sequence[Worker]) -> bool:
    """Whether nobody had to be started again, and all have partitions."""
    revived = sum(_revived(each) for each in workers)
    return not revived and all(each.works() for each in workers)


def _revived(each: Worker) -> bool:
    """Start a worker again that has ended by itself, as a supervisor would: fenced, or after too many attempts."""
    code = each.process.poll()
    if code is None:
        return False
    assert code == 1, each.log()
    print(each.name, each.log().splitlines()[-1], flush=True)
    each.start()
    return True


def _are_in_sync(cluster: Cluster) -> bool:
    """Whether every partition has all of its copies: before that, one broker less may be one too many."""
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        found = [partition for topic in admin.describe_topics() for partition in topic["partitions"]]
    except errors.KafkaError:
        return False
    finally:
        admin.close()
    return all(len(each["isr_nodes"]) == len(each["replica_nodes"]) for each in found)
