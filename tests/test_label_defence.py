"""The label page under attack and behind a proxy: deadlines, shares, sessions that end, whose tokens were wrong."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request

from streamal.config import LabelPageConfig
from streamal.labeling.web import connections, streams
from streamal.labeling.web.proxies import ForwardedHeaders, client_network
from streamal.labeling.web.sessions import SESSION_S, Sessions
from streamal.labeling.web.streams import EventStreams
from tests.label_world import LabelPage, LabelWorld, until

ANN, BOB = "a" * 20, "b" * 20
TOKENS = {"ann": ANN, "bob": BOB}
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def connect(page: LabelPage, data: bytes = b"") -> socket.socket:
    """Return a connection to *page* on which *data* was sent."""
    split = urlsplit(page.url)
    connection = socket.create_connection((split.hostname or "", split.port or 0), timeout=20)
    connection.sendall(data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has hung up; waits for it."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def post_half(path: str, token: str = ANN) -> bytes:
    """Return a request that says that its body is longer than it is."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 50\r\n\r\nhalf"
    ).encode()


@contextmanager
def files_allowed(count: int) -> Iterator[None]:
    """Raise the soft limit of open files, if it is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("count", "data"), [(510, b""), (1_000, HALF_A_HEAD)])
def test_sockets_that_ask_nothing_shut_nobody_out(tmp_path: Path, count: int, data: bytes) -> None:
    """Whether they are silent or stop in the middle of a head, others are answered, and no connection is refused."""
    with LabelWorld(tmp_path).page_process(tokens=TOKENS) as page, files_allowed(count + 200), ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(connect(page, data))
        for _ in range(50):
            assert page.call("/healthz").status == 200
            assert page.call("/api/requests", headers=bearer(ANN)).status == 200


def test_a_connection_that_is_answered_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of an idle one is taken instead, be it younger; when all are answered the newest is dropped."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    world = LabelWorld(tmp_path)
    with world.page(tokens=TOKENS) as page, ExitStack() as opened:
        live = f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ANN}\r\n\r\n".encode()
        answered = [opened.enter_context(connect(page, live)) for _ in range(2)]
        for connection in answered:
            assert b"200 OK" in connection.recv(65_536)
        idle = opened.enter_context(connect(page))
        assert page.call("/healthz").status == 200
        assert is_closed(idle)
        answered.append(opened.enter_context(connect(page, live)))
        assert b"200 OK" in answered[-1].recv(65_536)
        assert is_closed(opened.enter_context(connect(page, HALF_A_HEAD)))
        for connection in answered:
            connection.settimeout(0.05)
            assert not is_closed(connection)


@pytest.mark.parametrize(
    "data", [b"", HALF_A_HEAD, post_half("/api/labels"), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nG"]
)
def test_a_slow_request_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Its head and its body have a deadline each, which more bytes do not move."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    monkeypatch.setattr(connections, "BODY_S", 0.5)
    with LabelWorld(tmp_path).page(tokens=TOKENS) as page, connect(page, data) as connection:
        connection.settimeout(0.05)
        deadline = time.monotonic() + 20.0
        while not is_closed(connection):
            assert time.monotonic() < deadline
            try:
                connection.sendall(b"x")
            except OSError:
                break


def test_a_client_that_reads_nothing_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be sent to it does not wait for ever, and its place is free again."""
    dropped: list[connections.GuardedProtocol] = []
    drop = connections.GuardedProtocol.drop

    def drop_and_note(connection: connections.GuardedProtocol) -> None:
        drop(connection)
        dropped.append(connection)

    monkeypatch.setattr(connections.GuardedProtocol, "drop", drop_and_note)
    monkeypatch.setattr(connections, "RESPONSE_S", 0.3)
    world = LabelWorld(tmp_path)
    world.ask([{"x": "y" * 100_000} for _ in range(100)])
    with world.page(tokens=TOKENS) as page, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        split = urlsplit(page.url)
        connection.connect((split.hostname, split.port))
        connection.settimeout(20)
        ask = f"GET /api/requests HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ANN}\r\n\r\n"
        connection.sendall(ask.encode())
        until(lambda: bool(dropped))
        received = 0
        try:
            while part := connection.recv(65_536):
                received += len(part)
        except ConnectionResetError:
            pass
        assert received < 4_000_000


@pytest.mark.parametrize("path", ["/api/labels", "/api/next", "/api/skip", "/login"])
def test_a_client_that_leaves_in_its_body_leaves_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Nor does one whose body is no HTTP after it was refused: the log stays readable, whoever comes and goes."""
    with caplog.at_level(logging.WARNING), LabelWorld(tmp_path).page(tokens=TOKENS) as page:
        for _ in range(5):
            connect(page, post_half(path)).close()
        chunked = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with connect(page, chunked.encode()) as connection:
            time.sleep(0.2)
            connection.sendall(b"no chunk\r\n")
            assert is_closed(connection)
        assert page.call("/healthz").status == 200
    assert not [record for record in caplog.records if record.exc_info], caplog.text


def test_nobody_takes_all_event_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than a person's share ends that person's oldest; when all are taken, who has most gives one up."""
    monkeypatch.setattr(streams, "STREAMS_PER_PERSON_MAX", 3)
    monkeypatch.setattr(streams, "STREAMS_MAX", 3)
    with LabelWorld(tmp_path).page(tokens=TOKENS) as page, ExitStack() as opened:

        def open_stream(token: str) -> socket.socket:
            head = f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
            stream = opened.enter_context(connect(page, head.encode()))
            received = b""
            while b"data: " not in received:
                part = stream.recv(65_536)
                assert part, received
                received += part
            return stream

        mine = [open_stream(ANN) for _ in range(4)]
        assert b"0\r\n\r\n" in mine[0].recv(65_536)  # the response's last chunk
        open_stream(BOB)
        assert b"0\r\n\r\n" in mine[1].recv(65_536)
        for stream in mine[2:]:
            stream.settimeout(0.05)
            assert not is_closed(stream)


async def first(changes: AsyncIterator[None]) -> AsyncIterator[None]:
    """Return *changes* after its first value, None if it ended before."""
    await anext(changes)
    return changes


def test_a_stream_for_each_person_before_a_second_for_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one stream each, nobody gives up theirs for a newcomer, who is refused."""
    monkeypatch.setattr(streams, "STREAMS_MAX", 3)

    async def play() -> None:
        all_streams = EventStreams()
        kept = [await first(all_streams.changes(name, 1.0)) for name in "abc"]
        assert not all_streams.has_room("d")
        with pytest.raises(StopAsyncIteration):
            await first(all_streams.changes("d", 1.0))
        all_streams.end()
        for changes in kept:
            with pytest.raises(StopAsyncIteration):
                await anext(changes)
        assert all_streams.has_room("d")

    asyncio.run(play())


def test_a_logout_ends_the_session_on_the_server(tmp_path: Path) -> None:
    """Whoever has copied the cookie is a stranger from then on; other sessions of the same person go on."""
    with LabelWorld(tmp_path).page(tokens=TOKENS) as page:
        one, other = page.login(ANN), page.login(ANN)
        assert one["Cookie"] != other["Cookie"]
        assert page.call("/logout", "", {"Cookie": one["Cookie"]}).status == 303
        assert page.call("/api/next", {}, one).status == 401
        assert page.call("/", headers={"Cookie": one["Cookie"]}).headers["location"] == "/login"
        assert page.call("/api/next", {}, other).status == 200


def test_ended_sessions_are_forgotten_when_they_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a session of ours can be ended, and the memory of it is bounded."""
    monkeypatch.setattr("streamal.labeling.web.sessions._ENDED_MAX", 2)
    sessions = Sessions(TOKENS, ())
    sessions.end("9.x.616e6e.forged", 0.0)
    cookies = [sessions.new_cookie("ann", 0.0) for _ in range(3)]
    for cookie in cookies:
        sessions.end(cookie, 1.0)
        assert sessions.person_of_cookie(cookie, 1.0) is None
    later = sessions.new_cookie("ann", SESSION_S + 5.0)
    sessions.end(later, SESSION_S + 6.0)
    assert len(sessions._ended) == 1


def test_wrong_tokens_slow_who_tries_and_nobody_else_behind_the_proxy(tmp_path: Path) -> None:
    """The proxy tells the addresses apart; whoever is no proxy of ours cannot pretend to be somebody else."""
    with LabelWorld(tmp_path).page('label_page.trusted_proxies=["127.0.0.0/8"]', tokens=TOKENS) as page:
        for number in range(6):
            forged = {"X-Forwarded-For": f"203.0.113.{number}, 198.51.100.7"}
            status = page.call("/login", "token=wrong", forged).status
            assert status == (401 if number < 5 else 429)
        assert page.call("/login", f"token={ANN}", {"X-Forwarded-For": "198.51.100.8"}).status == 303
        assert page.call("/login", f"token={ANN}", {"X-Forwarded-For": "198.51.100.7"}).status == 429
    with LabelWorld(tmp_path).page(tokens=TOKENS) as page:
        for number in range(6):
            status = page.call("/login", "token=wrong", {"X-Forwarded-For": f"198.51.100.{number}"}).status
        assert status == 429


@pytest.mark.parametrize(
    ("peer", "forwarded", "network"),
    [
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.1.1.1, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["1.1.1.1", "1.2.3.4:4711"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:80"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("1.2.3.4", ["9.9.9.9"], "1.2.3.4"),
    ],
)
def test_the_address_is_the_last_that_a_trusted_proxy_has_seen(peer: str, forwarded: list[str], network: str) -> None:
    """What stands before it in the header anybody can write."""
    seen: list[str] = []

    async def application(scope: object, receive: object, send: object) -> None:
        del receive, send
        seen.append(client_network(Request(scope)))  # type: ignore[arg-type]

    async def play() -> None:
        headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
        scope = {"type": "http", "client": (peer, 1), "headers": headers, "path": "/", "root_path": ""}
        await ForwardedHeaders(application, ["10.0.0.0/8"], "")(scope, None, None)  # type: ignore[arg-type]

    asyncio.run(play())
    assert seen == [network]


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_the_page_works_under_a_path(tmp_path: Path, stripped: bool, header: bool) -> None:
    """By configuration or by the header of a trusted proxy, whether or not the proxy takes the prefix off the path."""
    settings = ['label_page.trusted_proxies=["127.0.0.1"]', *(() if header else ['label_page.root_path="/team/label"'])]
    more = {"X-Forwarded-Prefix": "/team/label"} if header else {}
    before = "" if stripped else "/team/label"
    world = LabelWorld(tmp_path)
    world.ask([{"x": 1.0}])
    with world.page(*settings, tokens=TOKENS) as page:
        assert page.call(f"{before}/", headers=more).headers["location"] == "/team/label/login"
        login = page.call(f"{before}/login", f"token={ANN}", more)
        assert login.headers["location"] == "/team/label/"
        assert "Path=/team/label/" in login.headers["set-cookie"]
        shown = page.call(f"{before}/", headers={**more, "Cookie": login.headers["set-cookie"].partition(";")[0]}).body
        for address in ("/static/label.js", "/static/style.css", "/logout"):
            assert f'"/team/label{address}"' in shown
        assert '<meta name="root" content="/team/label">' in shown
        assert page.call(f"{before}/static/label.js", headers=more).status == 200
        assert page.call(f"{before}/api/next", {}, more | bearer(ANN)).json["item"] is not None
        assert page.call(f"{before}/api/nowhere", headers=more).status == 404


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/a/../b", "/api", "https://evil.example", "/a b", '/"><script>', "/x" * 200]
)
def test_a_prefix_that_is_no_path_is_ignored(tmp_path: Path, prefix: str) -> None:
    """As is one from who is no trusted proxy: a redirect never leads to another host."""
    world = LabelWorld(tmp_path)
    for settings, sent in ((['label_page.trusted_proxies=["127.0.0.1"]'], prefix), ([], "/label")):
        with world.page(*settings, tokens=TOKENS) as page:
            assert page.call("/", headers={"X-Forwarded-Prefix": sent}).headers["location"] == "/login"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"trusted_proxies": ["proxy.example"]}, "no address and no network"),
        ({"root_path": "label"}, "root_path"),
        ({"root_path": "/label/"}, "root_path"),
        ({"root_path": "/status/label"}, "begins like a path of the page"),
    ],
)
def test_settings_of_a_proxy_are_checked(settings: dict[str, object], complaint: str) -> None:
    """Before anything listens."""
    with pytest.raises(ValueError, match=complaint):
        LabelPageConfig.model_validate(settings)
