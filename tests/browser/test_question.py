"""What can be asked of the pictures besides their text."""

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, Request, expect

from service.ocr.formats import MEDIA_TYPES
from tests.browser.hand import choose, example, sees, texts

SUMMARY = "What do you know about the text?"


def asked(request: Request) -> dict[str, list[str]]:
    """The parameters of a request."""
    return parse_qs(urlsplit(request.url).query)


def summary(page: Page) -> Locator:
    return page.locator("summary", has_text=SUMMARY)


def test_nothing_is_asked_by_default(page: Page) -> None:
    """The form is folded; only what the page shows is asked for."""
    expect(page.get_by_label("Length")).to_be_hidden()
    with page.expect_request("**/predict?*") as request:
        choose(page, example("bndyp"))
    assert asked(request.value) == {"alternatives": ["3"], "matrix": ["true"]}


def test_the_dialog_offers_the_formats_that_are_read(page: Page) -> None:
    """Each media type, and no other."""
    expect(page.locator("#files")).to_have_attribute("accept", ",".join(MEDIA_TYPES))


def test_what_is_known_holds_for_the_next_pictures(page: Page) -> None:
    """The text keeps to it, as many others are shown as were asked for; folded, it says so."""
    summary(page).click()
    page.get_by_label("Length").fill("2-3")
    page.get_by_label("Only these characters").fill("bdy+")
    page.get_by_label("Alternatives").fill("5")
    summary(page).click()
    expect(summary(page)).to_have_text(f"{SUMMARY} length 2-3, only these characters bdy+")
    with page.expect_request("**/predict?*") as request:
        choose(page, example("bndyp"))
    assert asked(request.value) == {
        "length": ["2-3"], "alphabet": ["bdy+"], "alternatives": ["5"], "matrix": ["true"],
    }  # fmt: skip
    sees(page, "Invalid parameter")
    expect(page.locator(".detail")).to_contain_text("the alphabet")
    summary(page).click()
    page.get_by_label("Only these characters").fill("bdy")
    page.get_by_role("button", name="Read again").click()
    sees(page, "bdy")
    expect(page.locator(".others li")).to_have_count(5)


def test_pictures_are_read_again_by_keyboard(page: Page) -> None:
    """Enter in a field puts all of them to the service once more, and the focus stays."""
    expect(page.get_by_role("button", name="Read again")).to_be_hidden()
    choose(page, example("bndyp"), example("fnex2"))
    sees(page, "bndyp", "fnex2")
    summary(page).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Length")).to_be_focused()
    page.get_by_label("Pattern").focus()
    page.keyboard.type(".{4}")
    page.keyboard.press("Enter")
    expect(texts(page)).to_have_text([re.compile("^.{4}$")] * 2)
    expect(page.get_by_label("Pattern")).to_be_focused()
    expect(page.locator("#progress")).to_have_text("2 pictures")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("button", name="Read again")).to_be_hidden()
