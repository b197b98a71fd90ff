"""What is reached from outside: the admin port behind a token and TLS, under attack, and signed snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import trustme
from prometheus_client.openmetrics import parser

from streamal.bootstrap import edges
from streamal.config import Config, load_config
from streamal.edge.http import AdminServer, Page
from streamal.edge.metrics import PrometheusMeter
from streamal.edge.scrape import ask
from streamal.edge.snapshots import DirectorySnapshots
from streamal.edge.tls import tls_context
from streamal.errors import ConfigError
from streamal.replay import read_stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import replay
from tests.conftest import Cli
from tests.prometheus_tools import wait_until

TOKEN = "0123456789abcdef"
PAGES = {
    "/livez": lambda _: Page(200, "text/plain", b"ok\n"),
    "/readyz": lambda _: Page(200, "text/plain", b"ok\n"),
    "/metrics": lambda _: Page(200, "text/plain", b"streamal_spend 1\n"),
}
GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"


class Files:
    """A certificate for 127.0.0.1, and who trusts it."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        issued.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def serving(token: str | None = None, tls: ssl.SSLContext | None = None, timeout_s: float = 5.0) -> Iterator[int]:
    server = AdminServer("127.0.0.1", 0, PAGES, timeout_s=timeout_s, token=token, tls=tls)
    try:
        yield server.start()
    finally:
        server.stop()


def asked(port: int, path: str, *headers: str, client: ssl.SSLContext | None = None) -> str:
    """Return the whole answer, read to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain, ExitStack() as stack:
        line = plain if client is None else stack.enter_context(client.wrap_socket(plain, server_hostname="127.0.0.1"))
        line.sendall(GET.format(path, "".join(f"{header}\r\n" for header in headers)).encode())
        with line.makefile("rb") as answer:
            return answer.read().decode()


def descriptors() -> int:
    """Return how many files and sockets this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kb() -> int:
    """Return the memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_whoever_has_the_configuration_is_let_in(
    files: Files, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    """`top` and the label page ask with the port's token, over its TLS; without either they learn nothing."""
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", TOKEN)
    pair = [f"server.tls_certfile='{files.certificate}'", f"server.tls_keyfile='{files.key}'"] if encrypted else []
    with serving(TOKEN, tls_context(files.certificate, files.key) if encrypted else None) as port:
        known = edges.admin_port(load_config(None, [f"server.port={port}", "server.host=0.0.0.0", *pair]).server)
        assert known is not None
        url = f"{known.url}/metrics"
        assert ask(url, 1_000, 5.0, known.token, known.certificate).endswith(b"streamal_spend 1\n")
        with pytest.raises(HTTPError, match="401") as refused:
            ask(url, 1_000, 5.0, None, known.certificate)
        refused.value.close()
        if encrypted:
            with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
                ask(url, 1_000, 5.0, known.token)
    assert edges.admin_port(load_config(None, ["server.enabled=false"]).server) is None


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_metrics_need_the_token(files: Files, encrypted: bool) -> None:
    """Without it, or with another, 401 and nothing else, for any path but the probes; those are open."""
    tls, client = (tls_context(files.certificate, files.key), files.client) if encrypted else (None, None)
    with serving(TOKEN, tls) as port:
        for header in (
            (),
            (f"Authorization: Bearer {TOKEN}x",),
            (f"Authorization: Basic {TOKEN}",),
            ("Authorization:",),
        ):
            for path in ("/metrics", "/nothing"):
                answer = asked(port, path, *header, client=client)
                assert answer.startswith("HTTP/1.1 401 ")
                assert "WWW-Authenticate: Bearer\r\n" in answer
                assert "spend" not in answer
        assert asked(port, "/metrics", f"authorization: bearer {TOKEN}", client=client).endswith("streamal_spend 1\n")
        assert asked(port, "/nothing", f"Authorization: Bearer {TOKEN}", client=client).startswith("HTTP/1.1 404 ")
        for path in ("/livez", "/readyz", "/healthz"):
            assert asked(port, path, client=client).startswith("HTTP/1.1 200 ")


def test_tls_is_tls_or_nothing(files: Files) -> None:
    """Who speaks plain HTTP to the TLS port learns nothing, and it lives on; nor is an old TLS spoken."""
    with serving(tls=tls_context(files.certificate, files.key)) as port:
        with suppress(ConnectionError):
            assert "200" not in asked(port, "/livez")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            asked(port, "/livez", client=old)
        assert asked(port, "/livez", client=files.client).endswith("ok\n")


def test_half_open_handshakes_are_bounded_too(files: Files) -> None:
    """400 clients that never finish the TLS handshake: 64 places, no thread more, /livez waits for none (F48)."""
    with serving(tls=tls_context(files.certificate, files.key), timeout_s=600.0) as port, ExitStack() as stack:
        threads, files_open = threading.active_count(), descriptors()
        for _ in range(400):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            with suppress(ConnectionError):
                client.sendall(b"\x16\x03\x01")
        assert asked(port, "/livez", client=files.client).endswith("ok\n")
        assert threading.active_count() == threads
        wait_until(lambda: descriptors() - files_open - 400 <= 64, 60)


@pytest.mark.slow
def test_attackers_of_the_admin_port_do_not_slow_the_loop(tmp_path: Path) -> None:
    """400 half-open connections, made anew all the time: throughput as without them, and memory bounded.

    By CPU time of the loop's own thread, several times in turn: the machine is shared with the attackers.
    """
    stream = read_stream("river:Phishing", "target")

    def cpu_s() -> float:
        began = time.thread_time()
        for _ in range(10):
            replay(stream, Config(), AnnotatorsRules(), 100, lambda _: None)
        return time.thread_time() - began

    async def attack(port: int, ending: threading.Event) -> None:
        async def one() -> None:
            while not ending.is_set():
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET /metrics HTTP/1.1\r\nX: ")
                    await asyncio.sleep(2.0)
                    writer.close()

        await asyncio.gather(*(one() for _ in range(400)))

    cpu_s()
    calm, attacked, memory = [], [], resident_kb()
    with serving() as port:
        for _ in range(3):
            calm.append(cpu_s())
            ending = threading.Event()
            attacker = threading.Thread(target=lambda ending=ending: asyncio.run(attack(port, ending)))
            attacker.start()
            time.sleep(1.0)
            attacked.append(cpu_s())
            ending.set()
            attacker.join()
    print(f"CPU of the loop: {min(calm):.3f} s calm, {min(attacked):.3f} s attacked")
    assert min(attacked) < 1.1 * min(calm)
    assert resident_kb() - memory < 50_000


def test_an_exposed_port_needs_a_token(cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that other machines reach, without one: exit 2, and what to set; a token in the file is refused."""
    for host in ("0.0.0.0", "::", "10.0.0.7", "worker-1"):
        with pytest.raises(ConfigError, match="STREAMAL_SERVER__TOKEN"):
            load_config(None, [f"server.host={host}"])
        assert load_config(None, [f"server.host={host}", "server.enabled=false"]).server.exposed
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert not load_config(None, [f"server.host={host}"]).server.exposed
    for key in ("server.token", "snapshots.key"):
        with pytest.raises(ConfigError, match="environment only"):
            load_config(None, [f"{key}={TOKEN}"])
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", "short")
    with pytest.raises(ConfigError, match=r"server\.token.*16"):
        load_config(None)
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", TOKEN)
    config = load_config(None, ["server.host=0.0.0.0"])
    assert TOKEN not in repr(config)
    assert TOKEN not in config.model_dump_json()
    with pytest.raises(ConfigError, match="go together"):
        load_config(None, ["server.tls_certfile=a.pem"])


def test_a_certificate_that_is_none_is_told(cli: Cli, directory: Path, files: Files) -> None:
    """A missing file, a key of another one, no PEM: one line with both names, before anything is opened."""
    (directory / "config.toml").write_text('[server]\nport = 0\ntls_certfile = "no.crt"\ntls_keyfile = "no.key"\n')
    ended = cli("run")
    assert ended.code == 2
    assert "server.tls_certfile no.crt and server.tls_keyfile no.key cannot be used" in ended.line
    with pytest.raises(ConfigError, match="cannot be used"):
        tls_context(files.key, files.certificate)


def test_openmetrics_for_whom_asks_for_it() -> None:
    """By content negotiation; it has the exemplars and parses; anybody else gets the text format without them."""
    meter = PrometheusMeter()
    meter.observe("step_seconds", 0.2, "3-77")
    meter.count("dead_letters", "not_json", 2, "1-5")
    kind, body = meter.render_for("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4")
    assert kind.startswith("application/openmetrics-text")
    parsed: Any = parser.text_string_to_metric_families
    samples = [sample for family in parsed(body.decode()) for sample in family.samples]
    found = {(sample.name, sample.exemplar.labels["coordinates"]) for sample in samples if sample.exemplar}
    assert found == {("streamal_step_seconds_bucket", "3-77"), ("streamal_dead_letters_total", "1-5")}
    assert meter.render_for("text/plain")[0].startswith("text/plain; version=0.0.4")
    assert meter.render_for("*/*")[1] == meter.render()
    assert b"3-77" not in meter.render()


KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_a_signed_snapshot_is_read_with_its_key_alone(tmp_path: Path) -> None:
    """With another key, without one, unsigned where a signature is wanted, changed: left out, and said why."""
    signed = DirectorySnapshots(tmp_path / "signed", key=KEY)
    assert signed.save(b"payload")
    assert signed.load() == [b"payload"]
    for key, why in ((OTHER_KEY, "signature does not match"), (None, "signed, and snapshots.key is not set")):
        reader = DirectorySnapshots(tmp_path / "signed", key=key)
        assert reader.load() == []
        assert why in reader.problems[0]
    path = next((tmp_path / "signed").iterdir())
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert signed.load() == []
    plain = DirectorySnapshots(tmp_path / "plain")
    assert plain.save(b"payload")
    reader = DirectorySnapshots(tmp_path / "plain", key=KEY)
    assert reader.load() == []
    assert "not signed" in reader.problems[0]


def test_a_forged_checksum_is_no_signature(tmp_path: Path) -> None:
    """Who knows the format but not the key can make a file with a right SHA-256, under either version: left out."""
    import hashlib
    import struct

    reader = DirectorySnapshots(tmp_path, key=KEY)
    for version in (1, 2):
        forged = struct.pack(">8sIQ32s", b"streamal", version, 4, hashlib.sha256(b"evil").digest()) + b"evil"
        (tmp_path / "snapshot-000000000001.bin").write_bytes(forged)
        assert reader.load() == []


def test_the_key_reaches_the_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMAL_SNAPSHOTS__KEY is what signs."""
    from streamal.bootstrap import edges

    monkeypatch.setenv("STREAMAL_SNAPSHOTS__KEY", KEY.decode())
    made = edges.open_snapshots(load_config(None, [f"snapshots.directory={tmp_path}"]))
    assert made is not None
    assert made.save(b"payload")
    assert DirectorySnapshots(tmp_path, key=KEY).load() == [b"payload"]
    assert DirectorySnapshots(tmp_path).load() == []
