import csv
import io
import json
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.actions import EXAMPLES, choose, example, expect_results, payload


@pytest.fixture
def filled(page: Page) -> Page:
    """The page with two readings and a refusal. One file name begins like a formula."""
    formula = payload('=1+1,"x".png', (EXAMPLES / "fnex2.png").read_bytes())
    choose(page, example("bndyp"), formula, payload("notes.txt", b"no picture"))
    expect_results(page, "bndyp", "fnex2", "Not a supported picture")
    return page


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes().decode()


def test_json_has_all_answers(filled: Page) -> None:
    """Each result has its file name and the service's answer without the matrix."""
    answers = json.loads(saved(filled, "Download JSON"))
    results = {answer["file"]: answer for answer in answers}
    assert list(results) == ["bndyp.png", '=1+1,"x".png', "notes.txt"]
    assert [c["character"] for c in results["bndyp.png"]["characters"]] == list("bndyp")
    assert "matrix" not in results["bndyp.png"]
    assert results["notes.txt"]["problem"]["status"] == 415


def test_csv_has_a_row_for_every_picture(filled: Page) -> None:
    """A file name that begins like a formula is escaped for spreadsheets."""
    text = saved(filled, "Download CSV")
    assert text.endswith("\r\n")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert rows["bndyp.png"]["text"] == "bndyp"
    assert float(rows["bndyp.png"]["confidence"]) > 0.9
    assert len(rows["bndyp.png"]["characters"].split()) == 5
    assert rows['\'=1+1,"x".png']["text"] == "fnex2"
    assert "PNG, JPEG" in rows["notes.txt"]["problem"]


def test_texts_and_json_can_be_copied(context: BrowserContext, filled: Page) -> None:
    """One text, all texts, or JSON is copied to the clipboard, and the page confirms it."""
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


def test_labels_can_be_downloaded(filled: Page) -> None:
    """The file has the labels that a person has entered or confirmed, and nothing else."""
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
    # Labels are kept when pictures are read again.
    filled.locator("summary").click()
    filled.get_by_role("button", name="Read again").click()
    expect_results(filled, "bndyp", "fnex2", "Not a supported picture")
    rows = list(csv.reader(io.StringIO(saved(filled, "Download 2 labels"), newline="")))
    assert rows[1:] == [["bndyp.png", 'b"d,p'], ['=1+1,"x".png', "fnex2"]]
