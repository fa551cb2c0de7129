"""A real, headless browser for tests; what needs it is skipped where there is none."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = os.environ.get("BORNGAP_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


class Tab:
    """An open page, and everything it said or asked for."""

    def __init__(self, page):
        self.page, self.said, self.asked = page, [], []
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path):
        """Load a file and wait until its charts are drawn."""
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)
        return self

    def settled(self):
        """Wait until the browser has drawn what was asked for."""
        self.page.wait_for_timeout(150)
        return self


@contextmanager
def chromium():
    """Start the browser; yield a function that opens a file in a window of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def tab(path, width=1280, height=900, scheme="light"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            return Tab(context.new_page()).open(path)

        yield tab
        browser.close()
