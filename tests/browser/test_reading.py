import re

import pytest
from playwright.sync_api import Locator, Page, expect

from service.ocr.recognizer import Recognizer
from tests.browser.actions import EXAMPLES, choose, example, expect_results, paste_or_drop, payload
from tests.browser.conftest import Log

TEXT = "bndyp"


def box(locator: Locator) -> tuple[float, float]:
    """The left and the right edge of an element, in pixels of the window."""
    found = locator.bounding_box()
    assert found is not None
    return found["x"], found["x"] + found["width"]


def test_a_chosen_picture_is_read(page: Page, log: Log, recognizer: Recognizer) -> None:
    """Text and confidences are those of the model; no request fails."""
    choose(page, example(TEXT))
    expect_results(page, TEXT)
    result = page.locator(".result")
    reading = recognizer.read((EXAMPLES / f"{TEXT}.png").read_bytes())
    sure = "> 99.9 %" if reading.confidence > 0.9995 else f"{100 * reading.confidence:.1f} %"
    expect(result.locator(".sure")).to_have_text(f"{sure} sure")
    expect(result.locator(".characters span")).to_have_text(list(TEXT))
    shares = result.locator(".characters i").evaluate_all(
        "bars => bars.map((bar) => Number(bar.style.getPropertyValue('--share')))"
    )
    assert shares == pytest.approx([c.confidence for c in reading.characters], abs=1e-3)
    expect(result.locator(".others li")).to_have_count(3)
    expect(result.locator(".facts")).to_contain_text(re.compile(r"200 × 50, answered in \d+ ms"))
    expect(result.locator(".facts")).to_contain_text(recognizer.metadata.version)
    expect(page.get_by_role("status")).to_have_text(f"{TEXT}.png: {TEXT}, {sure} sure.")
    assert log.failed == []


def test_spans_characters_and_time_steps_are_aligned_with_the_picture(
    page: Page, recognizer: Recognizer
) -> None:
    """Spans, characters and time steps are below the columns of the picture that they describe."""
    choose(page, example(TEXT))
    expect_results(page, TEXT)
    left, right = box(page.locator(".picture img"))
    assert box(page.locator(".heat canvas")) == pytest.approx((left, right), abs=1)
    reading = recognizer.read((EXAMPLES / f"{TEXT}.png").read_bytes())
    for number, character in enumerate(reading.characters):
        expected = [left + (right - left) * end / 200 for end in character.span]
        for row in (".spans i", ".characters li"):
            assert box(page.locator(row).nth(number)) == pytest.approx(expected, abs=1), row


def test_the_heat_map_shows_the_probabilities(page: Page) -> None:
    """Each relevant symbol has a row, with its peak where the model saw the symbol."""
    choose(page, example(TEXT))
    expect_results(page, TEXT)
    rows = page.locator(".symbols span").all_text_contents()
    assert [row for row in rows if row in TEXT] == list(TEXT)
    assert rows[-1] == "∅"
    drawn = page.locator(".heat canvas").evaluate(
        """(canvas) => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return Array.from({ length: height }, (_, y) =>
                Array.from({ length: width }, (_, x) => data[4 * (y * width + x) + 3]));
        }"""
    )
    assert {len(row) for row in drawn} == {50}
    peaks = [row.index(max(row)) for row, symbol in zip(drawn, rows, strict=True) if symbol in TEXT]
    assert peaks == sorted(peaks)
    assert all(max(column) > 150 for column in zip(*drawn, strict=True))
    page.locator(".heat").hover()
    expect(page.locator(".readout")).to_contain_text(re.compile(r"Step 2[56] of 50: blank"))


def test_an_example_is_a_golden_picture(page: Page, recognizer: Recognizer) -> None:
    """The examples are the golden pictures of the served model."""
    page.get_by_role("button", name="Example 2").click()
    expect_results(page, recognizer.metadata.golden[1].text)


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_pasted_and_dropped_pictures_are_read(page: Page, event: str) -> None:
    """Several at once, anywhere on the page. The newest come first, in their order."""
    paste_or_drop(page, event, example("fnex2"))
    expect_results(page, "fnex2")
    paste_or_drop(page, event, example(TEXT), example("44pdf"))
    expect_results(page, TEXT, "44pdf", "fnex2")


def test_many_pictures_are_read_two_at_a_time(page: Page, log: Log) -> None:
    """Results keep the order of the pictures, and no object URL of a picture is kept."""
    order = ["bndyp", "fnex2", "44pdf", "n42xn"] * 20
    choose(page, *(example(text) for text in order))
    expect_results(page, *order)
    expect(page.locator("#progress")).to_have_text("80 pictures")
    expect(page.get_by_role("status")).to_have_text("80 read, 0 not read.")
    assert log.most_at_once == 2
    assert page.evaluate("objectUrlsHeld") == 0


def test_more_than_ten_results_are_a_compact_list(page: Page) -> None:
    """Each result can be opened separately."""
    choose(page, *[example(TEXT)] * 10)
    expect_results(page, *[TEXT] * 10)
    expect(page.locator(".heat").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Details"))).to_have_count(0)
    choose(page, example("fnex2"))
    expect_results(page, "fnex2", *[TEXT] * 10)
    expect(page.locator(".heat:visible")).to_have_count(0)
    details = page.get_by_role("button", name="Details of fnex2.png")
    details.click()
    expect(details).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".heat:visible")).to_have_count(1)
    height = page.locator(".result").last.bounding_box()
    assert height is not None
    assert height["height"] < 110
    page.get_by_role("button", name="Clear").click()
    choose(page, example(TEXT))
    expect(page.locator(".heat")).to_be_visible()


def test_shown_confidences_sum_to_at_most_100_percent(page: Page) -> None:
    """Each confidence is calibrated separately, so their sum may exceed 100 %. The page scales the
    alternatives down.
    """
    others = [{"text": "a", "confidence": 0.5}, {"text": "b", "confidence": 0.3}]
    page.route(
        "**/predict?*",
        lambda route: route.fulfill(
            json={**route.fetch().json(), "confidence": 0.6, "alternatives": others}
        ),
    )
    choose(page, example(TEXT))
    expect(page.locator(".others li span:last-child")).to_have_text(["25.0 %", "15.0 %"])


def test_the_model_dialog_describes_the_model(page: Page, recognizer: Recognizer) -> None:
    """The dialog shows the metadata in words, and links to them as JSON for programs."""
    page.get_by_role("link", name="Model").click()
    card = page.get_by_role("dialog", name="The model")
    metadata = recognizer.metadata
    figures = metadata.figures
    expect(card).to_contain_text(metadata.alphabet)
    expect(card).to_contain_text(metadata.version)
    expect(card).to_contain_text("200 × 50 pixels, gray")
    expect(card).to_contain_text(f"{figures['exact']} of {figures['pictures']}")
    expect(card).not_to_contain_text("[object")
    expect(card.get_by_role("link", name="As JSON")).to_have_attribute("href", "model")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_a_picture_without_text_is_shown_as_such(page: Page) -> None:
    """An answer without text is no error: the page says “No text”."""
    blank = EXAMPLES / "bndyp.png"
    page.route(
        "**/predict?*",
        lambda route: route.fulfill(
            json={
                **route.fetch().json(),
                "text": "", "confidence": 0.4, "characters": [], "accepted": False,
            }
        ),
    )  # fmt: skip
    choose(page, payload("blank.png", blank.read_bytes()))
    expect_results(page, "No text")
    expect(page.locator(".sure")).to_have_text("40.0 % sure: less than this service accepts")


def test_a_file_name_is_not_interpreted_as_html(page: Page) -> None:
    """The page shows a file's name unchanged."""
    name = "<img src=x onerror=alert(1)>.png"
    choose(page, payload(name, (EXAMPLES / f"{TEXT}.png").read_bytes()))
    expect(page.locator(".file")).to_have_text(name)


def test_clear_removes_results_and_waiting_pictures(page: Page) -> None:
    """The next picture is read like the first."""
    choose(page, *[example(TEXT)] * 50)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".result")).to_have_count(0)
    choose(page, example("fnex2"))
    expect_results(page, "fnex2")
    expect(page.locator("#progress")).to_have_text("1 picture")
