"""Pictures of both pages in both themes: ``python -m tests.screenshots`` runs the demo and photographs them."""

from __future__ import annotations

import argparse
import csv
import gzip
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from playwright.sync_api import Page

from streamal.bootstrap import transports
from streamal.config import load_config
from streamal.core.codec.events import encode
from streamal.core.records import Lane, OutputRecord, Request
from tests.browser import browser
from tests.label_world import ROOT, LabelProcess, ended, environment
from tests.making import make_request

IMAGES = ROOT / "docs" / "images"
GUIDE = """\
# Ham or spam?

**Spam** is what nobody asked for: offers, prizes, pills. Everything else is **ham**, also newsletters that somebody
subscribed to. If the text is cut off before you can tell, say *cannot tell*.
"""
_OPEN = 24
_FIRST = 100_000  # beyond the demo's events


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="what an earlier `streamal demo` left, to save its two minutes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        demo = given.demo or Path(temporary) / "demo"
        if given.demo is None:
            command = [sys.executable, "-m", "streamal", "demo", "--directory", str(demo)]
            subprocess.run(command, check=True, env=environment())
        guide = Path(temporary) / "guidelines.md"
        guide.write_text(GUIDE)
        _ask(demo)
        settings = (
            _database(demo),
            "label_page.port=0",
            f'label_page.guidelines="{guide}"',
            'label_page.template={text=["text"]}',
        )
        page = LabelProcess(demo / "config.toml", settings, {})
        try:
            _photograph(page)
        finally:
            ended(page.process)


def _ask(demo: Path) -> None:
    """Open some requests about the demo's mails, unless an earlier call did: in the end all of its own are answered."""
    with gzip.open(demo / "mails.csv.gz", "rt", newline="") as stream:
        mails = [row["text"] for row, _ in zip(csv.DictReader(stream), range(2_400), strict=False)][::100]
    log = transports.open_log(load_config(demo / "config.toml", [_database(demo)]))
    try:
        outputs = [_request(number, text) for number, text in enumerate(mails[:_OPEN])]
        log.append_all([OutputRecord("streamal.requests", 0, one.request.encode(), encode(one)) for one in outputs])
    finally:
        log.close()


def _database(demo: Path) -> str:
    """Return the setting that finds the database from anywhere: the demo's own is relative."""
    return f'transport.path="{(demo / "streamal.db").absolute()}"'


def _request(number: int, text: str) -> Request:
    asked = make_request(_FIRST + number, asked_at=time.time() - 60.0 * number, ttl_s=604_800.0)
    return msgspec.structs.replace(
        asked,
        features={"text": text},
        label="ham",
        probabilities={"ham": 0.6, "spam": 0.4},
        lane=Lane.STRATEGY,
        uncertainty=0.5 / (1 + number),
    )


def _photograph(page: LabelProcess) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for scheme in ("light", "dark"):
            context = chromium.new_context(color_scheme=scheme, viewport={"width": 1000, "height": 760})
            shown = context.new_page()
            shown.goto(f"{page.url}login")
            shown.fill("#token", "ann")
            shown.press("#token", "Enter")
            shown.wait_for_selector("#question:not([hidden])")
            shown.keyboard.press("g")
            _save(shown, f"label-{scheme}.png")
            shown.goto(f"{page.url}status")
            shown.wait_for_selector("body[data-shown]")
            _save(shown, f"status-{scheme}.png")
            context.close()


def _save(shown: Page, name: str) -> None:
    shown.wait_for_timeout(300)
    shown.screenshot(path=IMAGES / name, full_page=True, animations="disabled")
    sys.stdout.write(f"{IMAGES / name}: {(IMAGES / name).stat().st_size // 1024} kB\n")


if __name__ == "__main__":
    main()
