import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from service.ocr.recognizer import Recognizer
from tests.browser.actions import choose, example, expect_results, payload
from tests.browser.test_trouble import PREDICT, problem

CONTEXT_OPTIONS = [
    {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    for width in (1200, 360)
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize(
    "context_options",
    CONTEXT_OPTIONS,
    ids=lambda options: f"{options['viewport']['width']}-{options['color_scheme']}",
)
def test_the_page_is_accessible(page: Page) -> None:
    """Axe finds no violation, and nothing is wider than the window. The page is checked when empty,
    with the options open, with results and a refusal, with dialogs, as a compact list, and with a
    message.
    """
    page.get_by_role("button", name="Example 1").wait_for()
    assert_accessible(page)
    page.get_by_role("link", name="Model").click()
    expect(page.get_by_role("dialog")).to_contain_text("Version")
    assert_accessible(page)
    page.get_by_role("button", name="Close").click()
    page.locator("summary").click()
    page.get_by_label("Pattern").fill("[a-z0-9]" * 20)
    assert_accessible(page)
    page.locator("summary").click()
    assert_accessible(page)
    page.locator("summary").click()
    page.get_by_label("Pattern").fill("")
    choose(page, example("bndyp"), payload("notes.txt", b"no picture"))
    expect_results(page, "bndyp", "Not a supported picture")
    page.get_by_role("button", name="Correct of bndyp.png").click()
    assert_accessible(page)
    page.get_by_role("button", name="Crop of bndyp.png").click()
    page.get_by_label("x, y, width, height").fill("20,5,150,40")
    assert_accessible(page)
    page.get_by_role("button", name="Cancel").click()
    choose(page, *[example("fnex2")] * 9)
    expect_results(page, *["fnex2"] * 9, "bndyp", "Not a supported picture")
    page.get_by_role("button", name="Details of bndyp.png").click()
    assert_accessible(page)
    page.route(PREDICT, lambda route: problem(route, 401, "No API key was sent."))
    choose(page, example("bndyp"))
    expect(page.get_by_label("API key")).to_be_visible()
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_can_be_used_by_keyboard_alone(page: Page, recognizer: Recognizer) -> None:
    """Tab, Enter and arrows reach an example, its time steps and its buttons."""
    page.get_by_role("button", name="Example 1").wait_for()
    press_until(page, "Tab", "Example 1")
    page.keyboard.press("Enter")
    expect_results(page, recognizer.metadata.golden[0].text)
    press_until(page, "Tab", "Time step")
    steps = page.get_by_role("slider", name="Time step")
    page.keyboard.press("Home")
    expect(steps).to_have_attribute("aria-valuetext", re.compile("^Step 1 of 50: "))
    page.keyboard.press("ArrowRight")
    expect(steps).to_have_attribute("aria-valuenow", "2")
    expect(page.locator(".cursor")).to_be_visible()
    press_until(page, "Tab", "Copy text of example-1.png")


def press_until(page: Page, key: str, name: str) -> None:
    """Presses a key until the element with this name is focused."""
    for _ in range(30):
        page.keyboard.press(key)
        focused = page.evaluate(
            "(document.activeElement.getAttribute('aria-label') || '')"
            " + (document.activeElement.querySelector('img')?.alt || '')"
        )
        if focused == name:
            return
    raise AssertionError(f"{name} cannot be reached")
