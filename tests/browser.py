"""A real browser for the tests: the system's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

__all__ = ["browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
]


def executable() -> str:
    """Return where Chromium is; without one the test is skipped, or fails under STREAMAL_REQUIRE_BROWSER=1."""
    named = os.environ.get("STREAMAL_TEST_CHROMIUM")
    found = named or next((path for path in map(shutil.which, _NAMES) if path), None)
    if found and Path(found).exists():
        return found
    reason = "no Chromium: apt-get install chromium, or set STREAMAL_TEST_CHROMIUM to one"
    if os.environ.get("STREAMAL_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser; its sandbox is off for root alone, who cannot have one."""
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable(), args=arguments)
        try:
            yield opened
        finally:
            opened.close()
