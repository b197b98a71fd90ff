"""The pages in a real browser: by keyboard, by two people at once, with poison in every field, on a phone, offline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from streamal.bootstrap import transports
from streamal.core.codec.dead_letters import dead_letter
from streamal.core.records import Reason, Refusal
from streamal.labeling.keys import keys_of
from tests.browser import browser as opened
from tests.label_world import LabelPage, LabelWorld, until

POISON = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>{{7*7}}\'"&'
expect.set_options(timeout=20_000)  # in milliseconds; waits end when they are over
LOOPBACK = {"127.0.0.1", "localhost"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened() as chromium:
        yield chromium


@pytest.fixture
def world(tmp_path: Path) -> LabelWorld:
    return LabelWorld(tmp_path)


class Visitor:
    """One person's browser window; it notes every address that is asked for and every error of a script."""

    def __init__(self, browser: Browser, page: LabelPage, name: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.goto(f"{page.url}login")
        self.page.fill("#token", name)
        self.page.press("#token", "Enter")
        self.page.wait_for_url(page.url)

    def ready(self, request: str | None = None) -> None:
        """Wait for a question, or for that one."""
        expect(self.page.locator("#question")).to_be_visible()
        if request is not None:
            expect(self.page.locator("#facts")).to_contain_text(f"event {request}")

    def question(self) -> str:
        return self.page.locator("#facts").inner_text().split(" · ")[0].removeprefix("event ")


def serious(page: Page) -> list[str]:
    """Return the serious findings of axe-core."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")]


def test_twenty_requests_are_answered_by_keyboard(browser: Browser, world: LabelWorld) -> None:
    """Most valuable first, each once, with name and seconds; skipped, abstained and undone ones too, all offline."""
    requests = world.ask([{"text": f"mail {number}"} for number in range(20)])
    with world.page("label_page.undo_s=5") as page:
        ann = Visitor(browser, page, "ann")
        for number, request in enumerate(requests):
            ann.ready(request)
            ann.page.keyboard.press("x" if number == 3 else "1" if number % 2 else "2")
        expect(ann.page.locator("#nothing")).to_be_visible()
        ann.page.keyboard.press("u")  # the last one was spam's neighbour
        ann.ready(requests[-1])
        ann.page.keyboard.press("2")
        until(lambda: len(world.replies()) == 20)
        replies = world.replies()
        assert [reply["request"] for reply in replies] == requests
        assert replies[3]["abstain"] is True
        assert [reply.get("label") for reply in replies[:3]] == ["spam", "ham", "spam"]
        assert replies[-1]["label"] == "spam"
        assert {reply["annotator"] for reply in replies} == {"ann"}
        assert all(0 <= reply["seconds"] < 60 for reply in replies)
        assert {urlsplit(url).hostname for url in ann.asked} <= LOOPBACK
        assert not ann.errors
        ann.context.close()


def test_two_annotators_at_once_never_answer_the_same_request(browser: Browser, world: LabelWorld) -> None:
    """Each request has exactly one reply, both have worked, and a new question reaches a waiting page by itself."""
    requests = world.ask([{"n": float(number)} for number in range(12)])
    with world.page("label_page.undo_s=0") as page:
        people = [Visitor(browser, page, name) for name in ("ann", "bob")]
        for person in people:
            person.ready()
        assert people[0].question() != people[1].question()
        for _ in range(6):
            for person in people:
                if person.page.locator("#question").is_visible():
                    before = person.question()
                    person.page.keyboard.press("1")
                    expect(person.page.locator("#facts")).not_to_have_text(before)

        def answered() -> bool:
            for person in people:  # a page that is between two questions shows none
                if person.page.locator("#question").is_visible():
                    person.page.keyboard.press("1")
                person.page.wait_for_timeout(20)
            return len(world.replies()) == len(requests)

        until(answered)
        replies = world.replies()
        assert sorted(reply["request"] for reply in replies) == sorted(requests)
        assert {reply["annotator"] for reply in replies} == {"ann", "bob"}
        late = world.ask([{"n": 99.0}], first=50)
        until(lambda: any(person.page.locator("#question").is_visible() for person in people))
        assert [each.question() for each in people if each.page.locator("#question").is_visible()] == late
        for person in people:
            assert not person.errors
            person.context.close()


def test_poison_is_shown_as_the_text_that_it_is(browser: Browser, tmp_path: Path) -> None:
    """In names, values, texts, links, images, ids, names, guidelines and refusals: no tag, no script, no request."""
    (tmp_path / "guide.md").write_text(f"# Guide\n\n{POISON}\n\n![](https://evil.example/x.png) [y](javascript:1)")
    template = 'template = { text = ["body"], image = ["photo", "other"], link = ["url", "bad"] }'
    world = LabelWorld(
        tmp_path,
        f'{template}\nimage_hosts = ["pictures.example"]\nguidelines = {json.dumps(str(tmp_path / "guide.md"))}\n',
    )
    world.ask(
        [
            {
                "body": POISON,
                POISON: POISON,
                "photo": 'https://pictures.example/"><script>document.title=1</script>.png',
                "other": "https://evil.example/spy.png",
                "url": "https://example.com/?<b>",
                "bad": "javascript:document.title='owned'",
                "n": 1.0,
            }
        ]
    )
    log = transports.open_log(world.config)
    refusal = Refusal(Reason.FEATURE_NAME, POISON)
    log.append("streamal.dead-letters", 0, None, dead_letter(POISON, 0, 5, b"x", refusal, time.time()))
    log.close()
    with world.page() as page:
        eve = Visitor(browser, page, POISON[:50].replace("\n", ""))
        eve.context.route("https://pictures.example/**", lambda route: route.fulfill(status=204))
        eve.ready()
        shown = eve.page.locator("#question").inner_text()
        assert shown.count(POISON) == 3
        assert "https://evil.example/spy.png" in shown
        assert eve.page.locator("#question script, #question img:not([alt=photo])").count() == 0
        assert eve.page.locator("#question a").count() == 1
        eve.page.keyboard.press("g")
        assert POISON[:20] in eve.page.locator("#guidelines").inner_text()
        assert eve.page.locator("#guidelines img, #guidelines script, #guidelines a[href^=javascript]").count() == 0
        assert POISON[:50] in eve.page.locator(".who").inner_text()
        assert eve.page.title() == "Label · streamal"
        eve.page.goto(f"{page.url}status")
        refusals = eve.page.locator("#refusals")
        refusals.get_by_text("feature_name").wait_for()
        assert refusals.inner_text().count(POISON) == 2
        assert refusals.locator("img, script").count() == 0
        assert eve.page.title() == "Status · streamal"
        assert {urlsplit(url).hostname for url in eve.asked} <= LOOPBACK | {"pictures.example"}
        eve.context.close()


def test_a_phone_and_a_screen_reader_can_use_the_pages(browser: Browser, tmp_path: Path) -> None:
    """No horizontal scrolling at 360 pixels, and nothing serious that axe-core would find, in both themes."""
    (tmp_path / "guide.md").write_text("# Guide\n\nSpam is what nobody asked for.\n\n    a long line " + "x" * 300)
    world = LabelWorld(tmp_path, f"guidelines = {json.dumps(str(tmp_path / 'guide.md'))}\n")
    world.ask([{"text": "word " * 400, "a_very_long_name_of_a_feature_" * 3: "x" * 70, "n": 1.0}, {"n": 2.0}])
    with world.page() as page:
        ann = Visitor(browser, page, "ann", viewport={"width": 360, "height": 640})
        for path, shown in (("", "#question"), ("status", "body[data-shown]"), ("login", "#token")):
            ann.page.goto(page.url + path)
            expect(ann.page.locator(shown)).to_be_visible()
            ann.page.keyboard.press("g")
            wide = ann.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"/{path} is {wide} pixels too wide"
            for scheme in ("light", "dark"):
                ann.page.emulate_media(color_scheme=scheme)
                assert serious(ann.page) == [], f"/{path}, {scheme}"
        assert not ann.errors
        ann.context.close()


CUT = """() => [...document.querySelectorAll("button")].filter((each) => each.checkVisibility()).filter((button) => {
  const outer = button.getBoundingClientRect();
  const sticksOut = (r) => r.top < outer.top || r.bottom > outer.bottom || r.left < outer.left || r.right > outer.right;
  const inner = [...button.children].map((child) => child.getBoundingClientRect());
  return inner.some(sticksOut) || button.scrollWidth > button.clientWidth || button.scrollHeight > button.clientHeight;
}).map((button) => button.textContent)"""
"""The texts of all buttons whose content is wider or taller than the button."""


@pytest.mark.parametrize(
    ("classes", "size"),
    [
        ([f"undelivered parcel{number:02}" for number in range(36)], (1280, 800)),
        ([f"unwanted offers{number:02}" for number in range(12)], (390, 844)),
        (["x" * 150, "a b " * 30, "[/b]", "名" * 60], (360, 640)),
    ],
)
def test_no_button_cuts_its_text(
    browser: Browser, world: LabelWorld, classes: list[str], size: tuple[int, int]
) -> None:
    """With many classes, long names and a small screen; and nothing serious that axe-core would find."""
    world.ask([{"text": "word " * 40, "n": 1.0}])
    with world.page(f"labels.classes={json.dumps(classes)}") as page:
        ann = Visitor(browser, page, "ann", viewport={"width": size[0], "height": size[1]})
        ann.ready()
        expect(ann.page.locator("#classes button")).to_have_count(len(classes))
        assert ann.page.evaluate(CUT) == []
        assert ann.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert serious(ann.page) == []
        ann.context.close()


def test_each_class_can_be_chosen_by_keyboard(browser: Browser, world: LabelWorld) -> None:
    """The tenth by 0, as in the terminal; one beyond the keys by a part of its name; Escape shows all classes again."""
    requests = world.ask([{"n": float(number)} for number in range(3)])
    classes = [f"kind {number:02}" for number in range(40)]
    with world.page("label_page.undo_s=0", f"labels.classes={json.dumps(classes)}") as page:
        ann = Visitor(browser, page, "ann")
        ann.ready(requests[0])
        for number, (key, name) in enumerate(keys_of(classes).items()):
            assert ann.page.locator("#classes button").nth(number).inner_text().split("\n") == [name, key.upper()]
        ann.page.keyboard.press("0")
        ann.ready(requests[1])
        ann.page.keyboard.type("/3")
        expect(ann.page.locator("#classes button:visible")).to_have_count(13)
        ann.page.keyboard.press("Escape")
        expect(ann.page.locator("#classes button:visible")).to_have_count(40)
        ann.page.keyboard.type("/38")
        ann.page.keyboard.press("Enter")
        ann.ready(requests[2])
        ann.page.keyboard.press("z")
        until(lambda: len(world.replies()) == 3)
        assert [reply["label"] for reply in world.replies()] == ["kind 09", "kind 38", "kind 30"]
        assert not ann.errors
        ann.context.close()


@pytest.mark.slow
def test_answers_survive_the_death_of_the_page(browser: Browser, world: LabelWorld) -> None:
    """Killed while somebody answers, the server comes back, and the browser goes on by itself: each answer once."""
    requests = world.ask([{"n": float(number)} for number in range(6)])
    token = "a-token-of-anns-own"
    with world.page_process("label_page.undo_s=0", tokens={"ann": token}) as page:
        ann = Visitor(browser, page, token)
        ann.ready(requests[0])
        ann.page.keyboard.press("1")
        ann.ready(requests[1])
        until(lambda: len(world.replies()) == 1)
        page.kill()
        ann.page.keyboard.press("2")
        expect(ann.page.locator("#trouble")).to_contain_text("Not connected")
        page.start_again()
        until(lambda: len(world.replies()) == 2)
        ann.ready(requests[2])
        assert [(reply["request"], reply["annotator"]) for reply in world.replies()] == [
            (request, "ann") for request in requests[:2]
        ]
        ann.context.close()


def test_the_pages_work_under_a_path(browser: Browser, world: LabelWorld) -> None:
    """Every script, style, request and stream stays under it, from the login to the logout."""
    world.ask([{"text": "one"}, {"text": "two"}])
    with world.page("label_page.undo_s=0", 'label_page.root_path="/team/label"') as page:
        below = LabelPage(f"{page.url}team/label/")
        ann = Visitor(browser, below, "ann")
        ann.ready("0-0")
        ann.page.keyboard.press("1")
        ann.ready("0-1")
        until(lambda: len(world.replies()) == 1)
        ann.page.click("text=Status")
        ann.page.wait_for_selector("body[data-shown]")
        ann.page.click("text=Log out")
        ann.page.wait_for_url(f"{below.url}login")
        assert ann.errors == []
        assert all(urlsplit(url).path.startswith("/team/label/") for url in ann.asked)
