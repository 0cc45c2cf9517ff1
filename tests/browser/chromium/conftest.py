"""Chromium, and a shop whose browser it looks at."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, expect, sync_playwright
from sqlalchemy import create_engine

from tests.browser.shop import sell
from tests.browser.story import tell
from tests.browser.visiting import browser_of
from tests.databases import DatabasePool
from tests.orders import Base
from tests.waiting import wait_until

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 900}
PATIENCE = 120_000
"""Milliseconds that Chromium has for each step; its own default of 5,000 is too short where much else runs."""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium. For as long as it runs, this thread has an event loop: it ends before other tests begin."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        assert "CI" not in os.environ, "install chromium: apt-get install chromium"
        pytest.skip("there is no chromium; apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def shop(postgres_url: str) -> Iterator[str]:
    """The address of a browser over a shop's events."""
    with closing(DatabasePool(postgres_url)) as databases, databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        sell(engine)
        tell(engine)
        with served(browser_of(Base, engine, title="Shop")) as address:
            yield address
        engine.dispose()


class served:
    """Serves an application on a free port, for a block."""

    def __init__(self, app: Any) -> None:
        """Take the application."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> str:
        """Start it, and give its address."""
        self._thread.start()
        wait_until(lambda: self._server.started)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._listener.close()


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A page on a desk. What the page's policy refuses, and errors of its scripts, fail the test."""
    context = chromium.new_context(viewport=DESK)  # type: ignore[arg-type]
    yield from _watched(context)


@pytest.fixture
def phone(chromium: Chromium) -> Iterator[Page]:
    """A page on a phone."""
    context = chromium.new_context(viewport=PHONE, has_touch=True, is_mobile=True)  # type: ignore[arg-type]
    yield from _watched(context)


@pytest.fixture
def without_scripts(chromium: Chromium) -> Iterator[Page]:
    """A page in a web browser that runs no scripts."""
    yield from _watched(chromium.new_context(viewport=DESK, java_script_enabled=False))  # type: ignore[arg-type]


def _watched(context: BrowserContext) -> Iterator[Page]:
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def dialog(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", dialog)
    yield page
    folder = os.environ.get("SA_EVENTSOURCE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].split(' ')[0]}.png")
    context.close()
    assert complaints == []
