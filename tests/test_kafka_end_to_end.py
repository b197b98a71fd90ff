"""`streamal run --workers` on a real broker: who is started again, and that nobody is left behind."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import Worker, configured, worker
from tests.kafka_broker import Cluster
from tests.outside import outside_of
from tests.recount import require_promises
from tests.test_workers import alive

pytestmark = pytest.mark.kafka


def said(head: Worker, event: str) -> list[dict[str, Any]]:
    lines = [line for line in head.log().splitlines() if line.startswith("{") and line.endswith("}")]
    return [fields for fields in map(json.loads, lines) if fields["event"] == event]


def shares(head: Worker) -> dict[str, list[str]]:
    """Return what each worker was given last."""
    return {str(fields["instance"]): fields["partitions"] for fields in said(head, "assigned")}


def are_shared(head: Worker, places: int) -> bool:
    """Whether all partitions have one owner, and each worker has some."""
    found = shares(head)
    owned = [place for places in found.values() for place in places]
    return len(found) == 2 and all(found.values()) and len(owned) == len(set(owned)) == places


def test_two_workers_under_one_head(kafka: Cluster, tmp_path: Path) -> None:
    """They share the partitions; one that is killed is back in its seat; SIGTERM ends all, and so does kill -9."""
    path = configured(kafka, tmp_path, partitions=2)
    with ExitStack() as stack:
        outside = stack.enter_context(outside_of(path, 1, per_second=100.0))
        head = stack.enter_context(worker(path, "head", "--workers", "2", "--set", "transport.instance=w"))
        outside.play_until(lambda: are_shared(head, 3))
        assert set(shares(head)) == {"w-0", "w-1"}
        outside.play(1.0)
        killed = next(fields["pid"] for fields in said(head, "worker_started") if fields["instance"] == "w-0")
        os.kill(killed, signal.SIGKILL)
        assigned = len(said(head, "assigned"))
        outside.play_until(lambda: len(said(head, "worker_started")) == 3)
        assert said(head, "worker_ended")[0]["instance"] == "w-0"
        outside.play_until(lambda: len(said(head, "assigned")) > assigned and are_shared(head, 3))
        outside.play(1.0)
        outside.finish()
        assert head.stop() == 0
        assert sorted(each.name for each in (head.directory / "snapshots").iterdir()) == ["w-0", "w-1"]
        require_promises(outside)
        head.start()
        outside.play_until(lambda: len(said(head, "worker_started")) == 2)
        pids = [fields["pid"] for fields in said(head, "worker_started")]
        assert all(alive(pid) for pid in pids)
        head.kill()
        outside.play_until(lambda: not any(alive(pid) for pid in pids))
