"""The page in a real browser, at the real service with the bundled model."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from service.ocr.recognizer import Recognizer
from tests.server.process import ROOT, serving

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 90_000
COUNT_ADDRESSES = """
    globalThis.addressesHeld = 0;
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (file) => (addressesHeld++, createObjectURL.call(URL, file));
    URL.revokeObjectURL = (address) => (addressesHeld--, revokeObjectURL.call(URL, address));
"""


@dataclass
class Log:
    """What a page did besides what it showed."""

    address: str
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    reading: int = 0
    most_at_once: int = 0

    def console(self, kind: str, text: str) -> None:
        """Chromium itself notes every answer of 400 and above: that is not the page's doing."""
        if kind in ("error", "warning"):
            (self.failed if text.startswith("Failed to load") else self.errors).append(text)

    def begun(self, request: Request) -> None:
        """Notes where a request goes, and how many pictures are under way."""
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.outside.append(request.url)
        if "/predict" in request.url:
            self.reading += 1
            self.most_at_once = max(self.most_at_once, self.reading)

    def ended(self, request: Request) -> None:
        """Notes that a picture is through."""
        self.reading -= "/predict" in request.url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if CHROMIUM is None:
        reason = "no chromium is on the path; .ci/browser installs it"
        if os.environ.get("CI_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def address(browser: Browser) -> Iterator[str]:
    """Of the service; not started where there is no browser."""
    with serving() as address:
        yield address


@pytest.fixture
def look() -> dict[str, object]:
    """How the browser is set up; tests give other values."""
    return {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"}


@pytest.fixture
def context(browser: Browser, look: dict[str, object]) -> Iterator[BrowserContext]:
    """A fresh profile, in which nothing moves."""
    context = browser.new_context(reduced_motion="reduce", **look)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def log(address: str) -> Log:
    """What the page of this test did."""
    return Log(address)


@pytest.fixture
def page(context: BrowserContext, address: str, log: Log) -> Iterator[Page]:
    """The page, opened; at the end it must have raised nothing and asked nobody else."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(COUNT_ADDRESSES)
    page.on("console", lambda message: log.console(message.type, message.text))
    page.on("pageerror", lambda error: log.errors.append(str(error)))
    page.on("request", log.begun)
    page.on("requestfinished", log.ended)
    page.on("requestfailed", log.ended)
    page.goto(f"{address}/")
    yield page
    assert log.errors == []
    assert log.outside == []


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    """The bundled model, asked without the service."""
    return Recognizer.load(ROOT / "models" / "captcha.onnx")
