import csv
import io
import json
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.hand import EXAMPLES, choose, example, payload, sees


@pytest.fixture
def filled(page: Page) -> Page:
    """The page with two readings and a refusal; one name begins as a formula does."""
    formula = payload('=1+1,"x".png', (EXAMPLES / "fnex2.png").read_bytes())
    choose(page, example("bndyp"), formula, payload("notes.txt", b"no picture"))
    sees(page, "bndyp", "fnex2", "Not a supported picture")
    return page


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes().decode()


def test_json(filled: Page) -> None:
    """Every result with its file, as the service answered; the matrix is left out."""
    answers = json.loads(saved(filled, "Download JSON"))
    results = {answer["file"]: answer for answer in answers}
    assert list(results) == ["bndyp.png", '=1+1,"x".png', "notes.txt"]
    assert [c["character"] for c in results["bndyp.png"]["characters"]] == list("bndyp")
    assert "matrix" not in results["bndyp.png"]
    assert results["notes.txt"]["problem"]["status"] == 415


def test_csv(filled: Page) -> None:
    """A row for every picture, which no spreadsheet takes for a formula."""
    text = saved(filled, "Download CSV")
    assert text.endswith("\r\n")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert rows["bndyp.png"]["text"] == "bndyp"
    assert float(rows["bndyp.png"]["confidence"]) > 0.9
    assert len(rows["bndyp.png"]["characters"].split()) == 5
    assert rows['\'=1+1,"x".png']["text"] == "fnex2"
    assert "PNG, JPEG" in rows["notes.txt"]["problem"]


def test_copying(context: BrowserContext, filled: Page) -> None:
    """One text, all texts and JSON come onto the clipboard, and the button says so."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    one = filled.get_by_role("button", name="Copy text of bndyp.png")
    one.click()
    expect(one).to_have_text("Copied")
    assert filled.evaluate("navigator.clipboard.readText()") == "bndyp"
    filled.get_by_role("button", name="Copy texts").click()
    expect(filled.get_by_role("status")).to_have_text("Copied.")
    copied = filled.evaluate("navigator.clipboard.readText()").split("\n")
    assert copied == ["bndyp", "fnex2", ""]
    filled.get_by_role("button", name="Copy JSON", exact=True).click()
    assert len(json.loads(filled.evaluate("navigator.clipboard.readText()"))) == 3


def test_labels(filled: Page) -> None:
    """What a person says that a picture shows, also where it confirms the text; and only that."""
    expect(filled.get_by_role("button", name="label")).to_have_count(0)
    filled.get_by_role("button", name="Correct of bndyp.png").click()
    field = filled.get_by_label("What it says").and_(filled.locator(":visible"))
    expect(field).to_be_focused()
    field.fill('b"d,p')
    filled.keyboard.press("Enter")
    expect(filled.locator(".label:visible")).to_have_text('Label: b"d,p')
    filled.get_by_role("button", name='Correct of =1+1,"x".png').click()
    filled.keyboard.press("Escape")
    rows = list(csv.reader(io.StringIO(saved(filled, "Download 1 label"), newline="")))
    assert rows == [["path", "label"], ["bndyp.png", 'b"d,p']]
    filled.get_by_role("button", name='Correct of =1+1,"x".png').click()
    filled.keyboard.press("Enter")
    # They outlive another reading.
    filled.locator("summary").click()
    filled.get_by_role("button", name="Read again").click()
    sees(filled, "bndyp", "fnex2", "Not a supported picture")
    rows = list(csv.reader(io.StringIO(saved(filled, "Download 2 labels"), newline="")))
    assert rows[1:] == [["bndyp.png", 'b"d,p'], ['=1+1,"x".png', "fnex2"]]
