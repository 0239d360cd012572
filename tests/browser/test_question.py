"""The form for constraints on the text and for alternatives."""

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, Request, expect

from service.ocr.formats import MEDIA_TYPES
from tests.browser.actions import choose, example, expect_results, texts

SUMMARY = "What do you know about the text?"


def asked(request: Request) -> dict[str, list[str]]:
    """The query parameters of a request."""
    return parse_qs(urlsplit(request.url).query)


def summary(page: Page) -> Locator:
    return page.locator("summary", has_text=SUMMARY)


def test_no_constraints_are_sent_by_default(page: Page) -> None:
    """The form is folded. The page requests only the alternatives and the matrix that it shows."""
    expect(page.get_by_label("Length")).to_be_hidden()
    with page.expect_request("**/predict?*") as request:
        choose(page, example("bndyp"))
    assert asked(request.value) == {"alternatives": ["3"], "matrix": ["true"]}


def test_the_file_dialog_offers_the_supported_formats(page: Page) -> None:
    """It offers each media type, and no other."""
    expect(page.locator("#files")).to_have_attribute("accept", ",".join(MEDIA_TYPES))


def test_constraints_apply_to_the_next_pictures(page: Page) -> None:
    """Texts satisfy the constraints, and the page shows as many alternatives as requested. The
    folded form lists the constraints.
    """
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
    expect_results(page, "Invalid parameter")
    expect(page.locator(".detail")).to_contain_text("the alphabet")
    summary(page).click()
    page.get_by_label("Only these characters").fill("bdy")
    page.get_by_role("button", name="Read again").click()
    expect_results(page, "bdy")
    expect(page.locator(".others li")).to_have_count(5)


def test_pictures_are_read_again_by_keyboard(page: Page) -> None:
    """Enter in a field sends all pictures again, and the focus stays in the field."""
    expect(page.get_by_role("button", name="Read again")).to_be_hidden()
    choose(page, example("bndyp"), example("fnex2"))
    expect_results(page, "bndyp", "fnex2")
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
