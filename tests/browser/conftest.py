"""Opens the page of a real service, which has the bundled model, in a real browser."""

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
TIMEOUT_MS = 90_000
COUNT_OBJECT_URLS = """
    globalThis.objectUrlsHeld = 0;
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (file) => (objectUrlsHeld++, createObjectURL.call(URL, file));
    URL.revokeObjectURL = (address) => (objectUrlsHeld--, revokeObjectURL.call(URL, address));
"""


@dataclass
class Log:
    """Records console errors and requests of a page."""

    address: str
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    reading: int = 0
    most_at_once: int = 0

    def console(self, kind: str, text: str) -> None:
        """Records errors. Chromium logs answers of status 400 and above as failed loads."""
        if kind in ("error", "warning"):
            (self.failed if text.startswith("Failed to load") else self.errors).append(text)

    def begun(self, request: Request) -> None:
        """Records requests to other hosts, and counts the pictures in progress."""
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.outside.append(request.url)
        if "/predict" in request.url:
            self.reading += 1
            self.most_at_once = max(self.most_at_once, self.reading)

    def ended(self, request: Request) -> None:
        """Counts a finished or failed request for a picture."""
        self.reading -= "/predict" in request.url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if CHROMIUM is None:
        reason = "no chromium is on the path; .ci/browser installs it"
        if os.environ.get("CI_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def address(browser: Browser) -> Iterator[str]:
    """The address of the service, which only starts if there is a browser."""
    with serving() as address:
        yield address


@pytest.fixture
def context_options() -> dict[str, object]:
    """The options of the browser context; tests override them."""
    return {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"}


@pytest.fixture
def context(browser: Browser, context_options: dict[str, object]) -> Iterator[BrowserContext]:
    """A fresh browser profile without animations."""
    context = browser.new_context(reduced_motion="reduce", **context_options)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def log(address: str) -> Log:
    """The log of this test's page."""
    return Log(address)


@pytest.fixture
def page(context: BrowserContext, address: str, log: Log) -> Iterator[Page]:
    """The opened page. It must log no error, and send no request to another host."""
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script(COUNT_OBJECT_URLS)
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
    """The bundled model, without the service."""
    return Recognizer.load(ROOT / "models" / "captcha.onnx")
