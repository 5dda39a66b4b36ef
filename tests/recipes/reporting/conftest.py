# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Debian's Chromium, driven by Playwright; without it the tests that need it are skipped with a reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def chromium() -> str | None:
    """The browser's program: the variable CHROMIUM, or what is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)


# What was clicked or typed comes in as an event before this timer, and is drawn in the frames after it.
SETTLED = """() => new Promise(done => setTimeout(
    () => requestAnimationFrame(() => requestAnimationFrame(done)), 100))"""


class Window:
    """A page in the browser that keeps what its console said and what it asked for."""

    def __init__(self, context):
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, file: Path | str, place: str = "") -> None:
        """A page by its file or its address, at a place such as `#rollouts?at=2.1`, when it is drawn."""
        address = file if isinstance(file, str) else file.resolve().as_uri()
        self.page.goto("about:blank")
        self.page.goto(address + place)
        self.page.wait_for_selector("main .tab h2")

    def turn(self, place: str) -> None:
        """To another place of the page that is open."""
        self.page.evaluate("place => { location.hash = place }", place)
        tab = place.lstrip("#").partition("?")[0]
        self.page.wait_for_selector(f"main .tab.{tab} h2")

    def text(self, selector: str) -> str:
        """What an element says once the page has answered what was done before."""
        self.page.evaluate(SETTLED)
        return self.page.locator(selector).first.inner_text()

    def place(self) -> str:
        """What stands behind # in the address."""
        return self.page.evaluate("location.hash")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Of a module, as Playwright's event loop would be in the way of other tests' own."""
    program = chromium()
    if program is None:
        pytest.skip("needs Chromium, which is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield running
        running.close()


@pytest.fixture
def window(browser) -> Iterator:
    """Opens windows: `window(width=1280, height=900, scheme="light")`. All of them close after the test."""
    contexts = []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light") -> Window:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        # A machine that is busy with other tests may take long for what takes a moment alone.
        contexts[-1].set_default_timeout(120_000)
        return Window(contexts[-1])

    yield opened
    for context in contexts:
        context.close()
