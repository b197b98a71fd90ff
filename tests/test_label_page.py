"""The label page over HTTP: who gets in, what is sent along, what the REST interface does, whatever is thrown at it."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest

from streamal.bootstrap import edges, transports
from streamal.cli.label import daemon_status
from streamal.cli.run import admin_server, meter
from streamal.config import LabelPageConfig, load_config
from streamal.core.codec.events import encode
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Record, Reply
from streamal.edge.memory import Broker
from streamal.errors import ConfigError, Fatal, StreamalError, Uncommitted
from streamal.labeling.web.api import decode_body
from streamal.labeling.web.bodies import Answer
from streamal.labeling.web.openapi import document
from streamal.labeling.web.rendering import Template, render, render_guidelines
from streamal.labeling.web.sessions import SESSION_S, Sessions, Throttle
from streamal.labeling.web.topics_thread import TopicsThread
from tests.conftest import Cli
from tests.label_world import LabelPage, LabelWorld, until
from tests.making import make_request

ANN, BOB, ROOT = "a" * 20, "b" * 20, "r" * 20
TOKENS = {"ann": ANN, "bob": BOB, "root": ROOT}


class Trouble(Broker):
    """A log that fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.error: StreamalError | None = None
        for topic in load_config(None).topics.model_dump().values():
            self.create(topic, 1)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        if self.error is not None:
            raise self.error
        return super().read(topic, partition, offset, records_max)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> LabelWorld:
    return LabelWorld(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(world: LabelWorld) -> Iterator[LabelPage]:
    """With a login: ann and bob label, root is admin."""
    world.ask([{"x": float(number)} for number in range(30)])
    with world.page('label_page.image_hosts=["pictures.example"]', tokens=TOKENS, admins=["root"]) as serving:
        yield serving


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelPage]:
    """Without any tokens, on loopback."""
    world = LabelWorld(tmp_path_factory.mktemp("open"))
    world.ask([{"x": 1.0}])
    with world.page() as serving:
        yield serving


def first(page: LabelPage) -> str:
    """Return the most valuable open request that nobody has in hand."""
    listed = page.call("/api/requests", headers=bearer(ROOT)).json["requests"]
    return next(str(each["request"]) for each in listed if each["held_by"] is None)


def test_strangers_are_let_nowhere(page: LabelPage) -> None:
    """Pages lead to the login, the interface answers 401; only health, styles and the description are for all."""
    for path in ("/", "/status"):
        assert page.call(path).headers["location"] == "/login"
    for path in ("/api/requests", "/api/status", "/api/events/0-1", "/api/live"):
        assert page.call(path).status == 401, path
    for path in ("/api/labels", "/api/next", "/api/skip"):
        assert page.call(path, {}).status == 401, path
    assert page.call("/healthz").status == page.call("/api/openapi.json").status == 200


def test_a_login_is_a_cookie_that_no_script_reads(page: LabelPage) -> None:
    """HttpOnly, SameSite=Strict; without the second signature it changes nothing; logging out takes it back."""
    told = page.call("/login", f"token={ANN}")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(told.headers["set-cookie"].split("; "))
    assert ANN not in told.headers["set-cookie"]
    headers = page.login(ANN)
    assert page.call("/api/next", {}, {"Cookie": headers["Cookie"]}).status == 403
    assert page.call("/api/next", {}, headers | {"X-CSRF-Token": "0" * 64}).status == 403
    assert page.call("/api/next", {}, headers).status == 200
    assert page.call("/status", headers={"Cookie": headers["Cookie"]}).status == 403
    assert "Max-Age=0" in page.call("/logout", "").headers["set-cookie"]


def test_pages_of_other_sites_cannot_use_the_browser(page: LabelPage, unlocked: LabelPage) -> None:
    """A foreign Origin, a foreign Sec-Fetch-Site, a foreign name of this machine (DNS rebinding): refused."""
    for served, known in ((page, bearer(ANN)), (unlocked, {})):
        assert served.call("/api/next", {}, known | {"Origin": "https://evil.example"}).status == 403
        assert served.call("/api/next", {}, known | {"Origin": "null"}).status == 403
        assert served.call("/api/next", {}, known | {"Sec-Fetch-Site": "cross-site"}).status == 403
        assert served.call("/api/next", {}, known | {"Origin": served.url.rstrip("/")}).status == 200
    assert unlocked.call("/api/requests", headers={"Host": "evil.example"}).status == 421
    assert unlocked.call("/api/requests").status == 200


def test_every_answer_tells_the_browser_to_be_careful(page: LabelPage) -> None:
    """Nothing is loaded but from here and the configured hosts; nothing is kept, framed or guessed."""
    for path in ("/login", "/static/label.js", "/api/requests", "/nowhere"):
        headers = page.call(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' https://pictures.example"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_who_guesses_tokens_has_to_wait(tmp_path: Path) -> None:
    """Five wrong ones in a minute, at the login or the interface; then even a right one waits."""
    with LabelWorld(tmp_path).page(tokens=TOKENS) as page:
        for number in range(5):
            told = page.call("/login", "token=wrong") if number % 2 else page.call("/api/requests", headers=bearer("x"))
            assert told.status == 401
        assert page.call("/login", f"token={ANN}").status == 429
        assert page.call("/api/requests", headers=bearer(ANN)).status == 429


def test_throttle_forgets() -> None:
    """After the window the address may try again; others never had to wait."""
    throttle = Throttle(failures_max=2, window_s=60.0)
    throttle.add_failure("a", 0.0)
    throttle.add_failure("a", 10.0)
    assert (throttle.wait_s("a", 20.0), throttle.wait_s("b", 20.0), throttle.wait_s("a", 61.0)) == (40.0, 0.0, 0.0)


def test_sessions_are_signed_and_end() -> None:
    """Neither name nor end can be changed; another token ends it."""
    sessions = Sessions(TOKENS, ("root",))
    cookie = sessions.new_cookie("ann", 0.0)
    assert sessions.person_of_cookie(cookie, 10.0) == ("ann", False)
    assert sessions.person_of_cookie(cookie, SESSION_S + 1.0) is None
    assert sessions.person_of_cookie(cookie.replace(b"ann".hex(), b"root".hex()), 10.0) is None
    assert sessions.person_of_cookie("9" + cookie, 10.0) is None
    assert Sessions(TOKENS | {"ann": "c" * 20}, ()).person_of_cookie(cookie, 10.0) is None
    for nonsense in ("", ".", "..", "1.zz.f", "x.616e6e.f", "é.é.é"):
        assert sessions.person_of_cookie(nonsense, 0.0) is None


def test_an_answer_is_written_once(page: LabelPage, world: LabelWorld) -> None:
    """The same again, with its own identity, is told the same; anything else for that request is refused."""
    request, before = first(page), len(world.replies())
    answer = {"request": request, "label": "spam", "seconds": 2.5, "reply": "one"}
    told = page.call("/api/labels", answer, bearer(ANN))
    assert (told.status, told.json) == (200, {"request": request, "guess": "ham", "agrees": False})
    assert page.call("/api/labels", answer, bearer(ANN)).json == told.json
    assert page.call("/api/labels", answer | {"reply": "two"}, bearer(ANN)).status == 409
    assert page.call("/api/labels", answer, bearer(BOB)).status == 409
    assert world.replies()[before:] == [answer | {"annotator": "ann"}]


def test_a_request_in_hand_is_not_answered_by_others(page: LabelPage, world: LabelWorld) -> None:
    """Until it is skipped, or the lease is over."""
    headers = page.login(ANN)
    request = page.call("/api/next", {}, headers).json["item"]["request"]
    before = len(world.replies())
    assert page.call("/api/labels", {"request": request, "label": "ham"}, bearer(BOB)).status == 409
    assert page.call("/api/skip", {"request": request}, headers).status == 200
    assert page.call("/api/labels", {"request": request, "abstain": True}, bearer(BOB)).status == 200
    assert world.replies()[before:] == [{"request": request, "abstain": True, "annotator": "bob"}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 422),
        ("[]", 422),
        ("[" * 50_000, 422),
        ("x" * 70_000, 413),
        ({"label": "ham"}, 422),
        ({"request": "REQUEST"}, 422),
        ({"request": "REQUEST", "label": "ham", "abstain": True}, 422),
        ({"request": "REQUEST", "label": "no class"}, 409),
        ({"request": "REQUEST", "label": ["ham"]}, 422),
        ({"request": "REQUEST", "label": "ham", "seconds": -1}, 422),
        ({"request": "REQUEST", "label": "ham", "more": 1}, 422),
        ({"request": "REQUEST", "label": "ham", "reply": "x" * 300}, 422),
        ({"request": "REQUEST", "label": "ham", "annotator": "bob"}, 403),
        ({"request": "0-99999", "label": "ham"}, 409),
        ({"request": "../../etc", "label": "ham"}, 422),
        ({"request": "REQUEST", "abstain": False, "label": None}, 422),
        ({"request": "REQUEST", "label": "ham", "annotator": "é" * 65}, 422),
        ({"request": "REQUEST", "label": "ham", "reply": ""}, 422),
        ({"request": "REQUEST", "label": 2**63}, 422),
    ],
)
def test_bad_answers_are_refused_and_never_written(
    page: LabelPage, world: LabelWorld, body: str | dict[str, object], status: int
) -> None:
    """With a status and one sentence; the topic sees nothing of them."""
    before = len(world.replies())
    sent = json.dumps(body).replace("REQUEST", first(page)) if isinstance(body, dict) else body
    told = page.call("/api/labels", sent, bearer(ANN))
    assert (told.status, list(told.json)) == (status, ["error"])
    assert len(world.replies()) == before


@pytest.mark.parametrize(
    ("body", "is_described"),
    [
        ({"request": "0-1", "label": "ham"}, True),
        ({"request": "0-1", "label": True, "abstain": False}, True),
        ({"request": "0-1", "abstain": True, "label": None}, True),
        ({"request": "0-1", "abstain": True, "annotator": "é" * 64, "reply": "~" * 256, "seconds": 1e12}, True),
        ({"request": "0-1", "label": -(2**53), "annotator": None}, True),
        ({"request": "0-1", "label": 3.0}, True),
        ({"request": "0-1", "label": 3.5}, False),
        ({"request": "0-1"}, False),
        ({"request": "0-1", "label": None, "abstain": False}, False),
        ({"request": "0-1", "label": "ham", "abstain": True}, False),
        ({"request": "", "label": "ham"}, False),
        ({"request": "0-1", "label": ""}, False),
        ({"request": "0-1", "label": "ham", "reply": "é"}, False),
        ({"request": "0-1", "label": "ham", "seconds": 1e13}, False),
    ],
)
def test_the_description_of_an_answer_is_what_the_daemon_takes(body: dict[str, object], is_described: bool) -> None:
    """What the description allows is a reply to the daemon, and what it forbids the page refuses (F71)."""
    described = jsonschema.Draft202012Validator(document()["components"]["schemas"]["Answer"])
    assert described.is_valid(body) == is_described
    if is_described:
        value = decode_body(json.dumps(body).encode(), Answer).to_reply("ann")
        assert isinstance(decode_reply(value, WireRules(), None), Reply)


def test_roles(page: LabelPage, world: LabelWorld) -> None:
    """The role label answers; the role admin sees the status too and may answer for others (a tool of yours)."""
    assert page.call("/api/status", headers=bearer(ANN)).status == 403
    assert page.call("/api/live?status=1", headers=bearer(ANN)).status == 403
    shown = page.call("/api/status", headers=bearer(ROOT)).json
    assert shown["budget"]["share"] == 0.1
    assert shown["queue"]["waiting"] > 0
    answer = {"request": first(page), "label": "ham", "annotator": "crowd"}
    assert page.call("/api/labels", answer, bearer(ROOT)).status == 200
    assert world.replies()[-1] == answer


def test_requests_and_events_are_listed(page: LabelPage, world: LabelWorld) -> None:
    """The most valuable first, as many as were asked for; what there is not is 404."""
    listed = page.call("/api/requests?limit=3", headers=bearer(ANN)).json
    assert len(listed["requests"]) == 3
    values = [each["priority"] for each in listed["requests"]]
    assert values == sorted(values, reverse=True)
    for limit in ("0", "x", "1001", "9" * 5_000, "-1"):
        assert page.call(f"/api/requests?limit={limit}", headers=bearer(ANN)).status == 422
    for place in ("0-99999", "9-0", "0--1", "x", "0-01", "0-" + "9" * 40, "%2e%2e", "0-1%00"):
        assert page.call(f"/api/events/{place}", headers=bearer(ANN)).status == 404, place


@pytest.mark.parametrize("shown", [False, True])
def test_the_interface_shows_what_the_page_shows(tmp_path: Path, shown: bool) -> None:
    """No hidden feature in any answer, and the model's guess only where `show_prediction` allows it."""
    world = LabelWorld(tmp_path)
    (request,) = world.ask([{"x": 1.0, "customer": "Ada"}])
    log = transports.open_log(world.config)
    log.append("streamal.events", 0, None, b'{"features": {"x": 1.0, "customer": "Ada"}}')
    log.close()
    settings = ['label_page.template.hide=["customer"]', f"label_page.show_prediction={str(shown).lower()}"]
    with world.page(*settings) as page:
        (listed,) = page.call("/api/requests").json["requests"]
        found = page.call(f"/api/events/{request}").json
        item = page.call("/api/next", {}).json["item"]
    assert listed["features"] == found["features"] == found["request"]["features"] == {"x": 1.0}
    for answer in (listed, found["request"], item):
        assert ("guess" in answer, "probabilities" in answer) == (shown, shown)
        assert "Ada" not in json.dumps(answer)


def test_the_description_names_every_path_of_the_interface(page: LabelPage) -> None:
    """What is described is there, and takes the methods that are described."""
    described = page.call("/api/openapi.json").json
    assert set(described["paths"]) == {"/api/requests", "/api/labels", "/api/events/{coordinates}", "/api/status"}
    for path, operations in described["paths"].items():
        for method in operations:
            told = page.call(path.replace("{coordinates}", "0-1"), "{}" if method == "post" else None)
            assert told.status == 401, path
    for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(described)):
        assert name in described["components"]["schemas"]


def test_news_come_by_themselves(page: LabelPage, world: LabelWorld) -> None:
    """A stream tells at once how many wait, and again when there is a new request."""
    split = urlsplit(page.url)
    with socket.create_connection((split.hostname or "", split.port or 0), timeout=10) as stream:
        stream.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: {split.netloc}\r\nAuthorization: Bearer {ANN}\r\n\r\n".encode()
        )
        heard = b""
        while b"data: " not in heard:
            heard += stream.recv(65_536)
        world.ask([{"x": 1.0}], first=500)
        before = len(heard)
        while heard.count(b"data: ") < 2:
            heard += stream.recv(65_536)
        told = [json.loads(line[6:]) for line in heard.decode().splitlines() if line.startswith("data: ")]
    assert before < len(heard)
    assert told[1]["waiting"] == told[0]["waiting"] + 1


def test_from_an_answer_on_the_page_to_the_log_of_the_model(tmp_path: Path, cli: Cli) -> None:
    """With a daemon beside it the reply becomes an example, and the page counts it as `streamal status` does."""
    world = LabelWorld(tmp_path)
    (request, *_) = world.ask([{"x": 1.0}, {"x": 2.0}])
    with world.daemon(), world.page() as page:
        assert page.call("/api/labels", {"request": request, "label": "ham", "annotator": "ann"}).status == 200
        until(lambda: "quality_accuracy" in page.call("/api/status").json["figures"])
        shown = page.call("/api/status").json
        assert shown["annotators"][0]["name"] == "ann"
        assert shown["annotators"][0]["agreement"] == 1.0
        assert shown["figures"]["open_requests"] == 1
        told = json.loads(cli("status", "-c", world.path, "--json").out)
        for name in ("model_version", "model_examples", "quality_accuracy", "spend", "requests_over_budget"):
            assert shown["figures"][name] == told[name], name


def test_the_page_reads_what_the_daemon_says_of_itself(tmp_path: Path) -> None:
    """From ``/status`` of its admin port; whoever else answers there, or nobody, is no daemon."""
    config = load_config(LabelWorld(tmp_path).path)
    measured = meter(config)
    measured.count("events", "accepted", 3.0)
    measured.count("events", "refused", 1.0)
    announced: list[str] = []
    server = admin_server(config, measured, lambda: None, edges.WallClock(), announced.append)
    try:
        port = urlsplit(announced[0]).port
        known = config.model_copy(update={"server": config.server.model_copy(update={"port": port})})
        told = daemon_status(known)
    finally:
        server.stop()
    assert told is not None
    assert told["ready"] is False
    assert told["figures"]["streamal_events_total"] == 4.0
    assert told["figures"]["streamal_budget_share_limit_ratio"] == 0.1
    assert daemon_status(known) is None


def test_trouble_is_shown_and_outlived_but_the_end_is_the_end() -> None:
    """A passing error of the transport is a text on the page; a fatal one ends the thread, and later calls fail."""
    broker = Trouble()
    topics = TopicsThread(load_config(None), lambda: broker)
    ended: list[bool] = []
    topics.on_failure = lambda: ended.append(True)
    topics.start()
    broker.error = Uncommitted("the broker is away")
    until(lambda: topics.trouble == "the broker is away")
    assert topics.call(lambda: 7).result(5) == 7
    broker.error = None
    until(lambda: not topics.trouble)
    broker.error = Fatal("the file is gone")
    until(lambda: bool(ended))
    until(lambda: isinstance(topics.call(lambda: 7).exception(5), StreamalError))
    topics.stop()


def test_however_busy_the_topics_thread_reads_on() -> None:
    """Callers who never leave it idle still see what was asked meanwhile."""
    broker = Trouble()
    topics = TopicsThread(load_config(None), lambda: broker)
    topics.start()
    waiting = [topics.call(lambda: None) for _ in range(200)]
    request = make_request(1, ttl_s=1e12)
    broker.append("streamal.requests", 0, b"0-1", encode(request))
    deadline = time.monotonic() + 10.0
    while topics.call(lambda: len(topics.queue)).result(5) == 0:
        assert time.monotonic() < deadline
        waiting = [*waiting[-200:], *(topics.call(lambda: time.sleep(0.001)) for _ in range(2))]
    topics.stop()


def test_guidelines_are_markdown_and_nothing_else(tmp_path: Path) -> None:
    """No HTML, no image, no script's address comes through; a file that is not there is a ConfigError."""
    path = tmp_path / "guide.md"
    path.write_text("# Title\n\n**bold** <script>x</script> [a](javascript:x) ![i](https://evil.example/i.png)\n")
    html = render_guidelines(path)
    assert "<h1>Title</h1>" in html
    assert "<strong>bold</strong>" in html
    assert not re.search(r"<script|<img|href=.javascript", html)
    with pytest.raises(ConfigError, match="guidelines: cannot read"):
        render_guidelines(tmp_path / "missing.md")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("https://pictures.example/a.png", "image"),
        ("http://pictures.example/a.png", "text"),
        ("https://pictures.example.evil/a.png", "text"),
        ("https://pictures.example@evil.example/a.png", "text"),
        ("https://evil.example\\@pictures.example/a.png", "text"),
        ("https://pictures.example:8443/a.png", "text"),
        ("//pictures.example/a.png", "text"),
        ("data:image/svg+xml,<svg onload=x>", "text"),
        ("https://pictures.example:99999/", "text"),
        ("https://[", "text"),
    ],
)
def test_images_come_from_configured_hosts_only(address: str, kind: str) -> None:
    """Whatever else an address says is shown as it is written."""
    request = make_request(1)
    request.features["photo"] = address
    parts = render(request, Template(image=("photo",), image_hosts=("pictures.example",)))["parts"]
    assert parts == [{"name": "photo", "kind": kind, "text": address}]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"host": "0.0.0.0"}, "there is no login"),
        ({"tokens": {"ann": "short"}}, "shorter than 16"),
        ({"tokens": {"ann": "a" * 20, "bob": "a" * 20}}, "the same token"),
        ({"tokens": {"ann": "a" * 20}, "admins": ["bob"]}, "who has no token"),
        ({"image_hosts": ["https://x"]}, "image_hosts"),
        ({"template": {"text": ["a"], "hide": ["a"]}}, "name it once"),
    ],
)
def test_settings_that_would_be_regretted_are_refused(settings: dict[str, object], complaint: str) -> None:
    """Before anything listens, and without showing a token."""
    with pytest.raises(ValueError, match=complaint) as refused:
        LabelPageConfig.model_validate(settings)
    assert "a" * 20 not in str(refused.value).split("input_value")[0]


def test_tokens_come_from_the_environment_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file lies about, a command line is in the list of processes; errors and dumps show none."""
    with pytest.raises(ConfigError, match="from the environment only"):
        load_config(None, [f'label_page.tokens={{ann="{ANN}"}}'])
    monkeypatch.setenv("STREAMAL_LABEL_PAGE__TOKENS", json.dumps({"ann": ANN}))
    assert ANN not in repr(load_config(None))
    monkeypatch.setenv("STREAMAL_LABEL_PAGE__TOKENS", json.dumps({"ann": [ANN]}))
    with pytest.raises(ConfigError) as refused:
        load_config(None)
    assert ANN not in str(refused.value)


def test_without_topics_the_command_says_what_to_do(cli: Cli) -> None:
    """One line, exit code 2; likewise for a port that is taken."""
    ended = cli("label", "-c", "nowhere.toml")
    assert ended.code == 2
    Path("config.toml").write_text("[label_page]\nport = 0\n")
    ended = cli("label")
    assert ended.code == 2
    assert "there is no database" in ended.line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = cli("label", f"--set=label_page.port={taken.getsockname()[1]}")
        assert ended.code == 2
        assert "label_page.port" in ended.line
