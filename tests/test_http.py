"""The admin port under honest and hostile clients, on real sockets of the loopback interface (F48, I15)."""

from __future__ import annotations

import gc
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from streamal.edge.http import AdminServer, Headers, Page
from streamal.errors import ConfigError

BIG = bytes(30_000_000)


def ok(text: str, status: int = 200) -> Callable[[Headers], Page]:
    return lambda _: Page(status, "text/plain; charset=utf-8", text.encode())


def broken(_: Headers) -> Page:
    raise RuntimeError("password=hunter2")


PAGES = {
    "/metrics": ok("streamal_events_total 1\n"),
    "/livez": ok("alive\n"),
    "/readyz": ok("no partition assigned\n", 503),
    "/broken": broken,
    "/big": lambda _: Page(200, "application/octet-stream", BIG),
}


@pytest.fixture
def server() -> Iterator[Callable[..., int]]:
    """Return a function that starts a server and returns its port; all are stopped at the end."""
    with ExitStack() as stack:

        def start(timeout_s: float = 5.0) -> int:
            admin = AdminServer("127.0.0.1", 0, PAGES, timeout_s=timeout_s)
            port = admin.start()
            stack.callback(admin.stop)
            return port

        yield start


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the server hangs up, in whichever way."""
    parts = []
    with suppress(ConnectionResetError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send *request* and return status, headers and body; the server must end the connection, and not by a reset."""
    with connect(port) as client, client.makefile("rb") as answer:
        client.sendall(request)
        head, _, body = answer.read().partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


def get(port: int, path: str) -> tuple[int, bytes]:
    status, _, body = ask(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return status, body


def cut_off_after(client: socket.socket, data: bytes) -> float:
    """Send *data* again and again and return after how many seconds the server would have no more; 60 at most."""
    began = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - began < 60.0:
            client.sendall(data)
            time.sleep(0.01)
    return time.monotonic() - began


def test_the_pages_are_served(server: Callable[..., int]) -> None:
    """Each page answers with its own status and body; /healthz is /livez; a query is ignored."""
    port = server()
    assert get(port, "/metrics") == (200, b"streamal_events_total 1\n")
    assert get(port, "/livez") == get(port, "/healthz") == (200, b"alive\n")
    assert get(port, "/readyz?verbose=1") == (503, b"no partition assigned\n")
    status, headers, _ = ask(port, b"GET /livez HTTP/1.0\r\n\r\n")
    assert (status, headers["Connection"], headers["Content-Length"]) == (200, "close", "6")


def test_head_has_no_body(server: Callable[..., int]) -> None:
    """HEAD answers with the length that GET would have."""
    status, headers, body = ask(server(), b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, headers["Content-Length"], body) == (200, "6", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/../../etc/passwd",
        "/metrics/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "//metrics",
        "*",
        "/livez/",
    ],
)
def test_there_is_nothing_else(server: Callable[..., int], path: str) -> None:
    """Any other path is 404: there are no files behind the port."""
    assert get(server(), path) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_only_get_and_head(server: Callable[..., int], method: str) -> None:
    """Other methods get 405 even if a body follows that nobody reads."""
    request = f"{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode() + bytes(
        100_000
    )
    status, headers, _ = ask(server(), request)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "line", [b"", b"GET", b"GET /livez", b"GET /livez HTTP/2.0", b"GET  /livez HTTP/1.1", b"\xff\0"]
)
def test_what_is_no_request_is_refused(server: Callable[..., int], line: bytes) -> None:
    """A malformed request line is 400."""
    assert ask(server(), line + b"\r\nHost: localhost\r\n\r\n")[0] == 400


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: localhost\r\nHost: y\r\n",
        b"Host: localhost\r\nX\r\n",
        b"Host: localhost\r\nX : y\r\n",
        b"Host: localhost\r\nX: \0\r\n",
    ],
)
def test_headers_that_two_readers_may_understand_in_two_ways_are_refused(
    server: Callable[..., int], lines: bytes
) -> None:
    """No Host or two of them, a line without a colon, a blank before it, a control character: 400 (RFC 9112)."""
    assert ask(server(), b"GET /livez HTTP/1.1\r\n" + lines + b"\r\n")[0] == 400


def test_a_head_too_large_is_refused(server: Callable[..., int]) -> None:
    """8 kB of headers are read, one byte more is answered with 431, a megabyte likewise; the port lives on."""
    port = server()
    start = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
    assert ask(port, start + b"x" * (8_192 - len(start)) + b"\r\n\r\n")[0] == 200
    assert ask(port, start + b"x" * (8_200 - len(start)))[0] == 431
    assert ask(port, start + b"x" * 1_000_000)[0] == 431
    assert get(port, "/livez")[0] == 200


def test_a_request_may_come_in_pieces(server: Callable[..., int]) -> None:
    """The end of the head is found wherever the network cuts it."""
    port, request = server(), b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for cut in range(1, len(request)):
        with connect(port) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(request[:cut])
            time.sleep(0.002)
            client.sendall(request[cut:])
            assert read_all(client).endswith(b"alive\n")


def test_a_failing_page_tells_nothing(server: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a fixed text, the log gets the reason, and the port lives on."""
    port = server()
    assert get(port, "/broken") == (500, b"500 Internal Server Error\n")
    assert "the page /broken failed" in caplog.text
    assert get(port, "/livez")[0] == 200


def test_half_open_connections_do_not_block_the_probe(server: Callable[..., int]) -> None:
    """400 clients that never finish asking: no thread more, few sockets held, /livez waits for none of them (F48)."""
    port = server(timeout_s=600.0)  # who waits for one of them waits in vain
    threads = threading.active_count()
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(400)]
        for client in slow:
            with suppress(ConnectionError):  # dropped already
                client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(20):
            assert get(port, "/livez") == (200, b"alive\n")
            assert threading.active_count() == threads
        poller = select.poll()
        for client in slow:
            poller.register(client, select.POLLIN)
        assert 400 - 64 <= len(poller.poll(0)) < 400


def test_a_client_that_drips_is_cut_off(server: Callable[..., int]) -> None:
    """The deadline is for the whole request, not for the next byte."""
    with connect(server(timeout_s=0.3)) as client:
        assert 0.25 < cut_off_after(client, b"G") < 60


def test_a_client_that_does_not_read_is_cut_off(server: Callable[..., int]) -> None:
    """An answer that is not taken in time is thrown away; one that is taken is whole."""
    port = server(timeout_s=0.5)
    with connect(port) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.0)
        assert len(read_all(client)) < len(BIG)
    assert len(get(server(timeout_s=60.0), "/big")[1]) == len(BIG)


def test_an_answer_that_is_being_taken_is_never_dropped(server: Callable[..., int]) -> None:
    """The oldest connection has its answer under way when 200 more come: they drop each other, it gets all of it."""
    port = server(timeout_s=60.0)
    with ExitStack() as stack:
        reader = stack.enter_context(connect(port))
        reader.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = reader.recv(1)  # the rest of 30 MB waits in the server, since nobody reads
        for _ in range(200):
            stack.enter_context(connect(port))
        assert get(port, "/livez") == (200, b"alive\n")  # by now the server has met all of them
        answer += read_all(reader)
    assert answer.endswith(BIG[-1_000:])
    assert len(answer.partition(b"\r\n\r\n")[2]) == len(BIG)


def test_the_interpreter_is_as_before_after_stop() -> None:
    """While the port is open threads take turns more often; a stopped port leaves Python's setting as it was."""
    before = sys.getswitchinterval()
    admin = AdminServer("127.0.0.1", 0, PAGES)
    admin.start()
    assert sys.getswitchinterval() < before
    admin.stop()
    assert sys.getswitchinterval() == before


def test_a_client_that_never_hangs_up_is_cut_off(server: Callable[..., int]) -> None:
    """After the answer the connection ends, even if the client goes on talking."""
    with connect(server(timeout_s=0.3)) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert cut_off_after(client, b"more" * 1_000) < 60


def test_stopping_leaves_nothing_behind() -> None:
    """Start and stop, with connections half-open, answered and just made: no thread, no socket, no warning."""
    threads = threading.active_count()
    for _ in range(20):
        admin = AdminServer("127.0.0.1", 0, PAGES)
        port = admin.start()
        with connect(port) as half, connect(port) as unread:
            half.sendall(b"GET")
            unread.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert get(port, "/livez")[0] == 200
            with connect(port):
                admin.stop()
            admin.stop()
            assert read_all(half) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(port).close()
    assert threading.active_count() == threads
    gc.collect()


def test_the_port_is_free_again_after_stop() -> None:
    """A restart gets the same port at once, and a server may be started again."""
    admin = AdminServer("127.0.0.1", 0, PAGES)
    admin.stop()
    port = admin.start()
    assert get(port, "/livez")[0] == 200
    admin.stop()
    again = AdminServer("127.0.0.1", port, PAGES)
    assert again.start() == port
    again.stop()


def test_a_taken_port_is_a_configuration_error() -> None:
    """The one line names the key and says what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"server\.port = {port}: .*[Aa]ddress already in use.*another port"):
            AdminServer("127.0.0.1", port, PAGES).start()


@pytest.mark.parametrize("host", ["", "no.such.host.invalid", "a..b"])
def test_a_host_that_is_none_is_a_configuration_error(host: str) -> None:
    """An empty host does not silently mean all interfaces."""
    with pytest.raises(ConfigError, match=r"server\.host"):
        AdminServer(host, 0, PAGES).start()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:9464", 200),
        ("127.0.0.2", 200),
        ("[::1]:9464", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("10.0.0.1", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_a_page_elsewhere_cannot_read_the_port_in_a_browser(server: Callable[..., int], host: str, status: int) -> None:
    """By a name of its own that leads to this machine (DNS rebinding): its Host header is refused, but for probes."""
    port = server()
    for path, expected in (("/metrics", status), ("/nowhere", 404 if status == 200 else 421), ("/livez", 200)):
        assert ask(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == expected
