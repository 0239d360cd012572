"""Large pictures, and pictures with the text in a small part."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.actions import EXAMPLES, choose, expect_results, payload
from tests.browser.test_question import asked

TEXT = "bndyp"


def picture() -> Image.Image:
    return Image.open(EXAMPLES / f"{TEXT}.png").convert("L")


def photo(name: str, size: tuple[int, int], grain: float, orientation: int = 1) -> FilePayload:
    """The example as a JPEG from a camera. Noise makes the file large."""
    pixels = np.asarray(picture().resize(size, Image.Resampling.BICUBIC), np.float32)
    pixels += np.random.default_rng(1).normal(0, grain, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if orientation == 6:  # viewers turn the picture by 90 degrees clockwise
        image = image.transpose(Image.Transpose.ROTATE_90)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95, exif=exif)
    return {"name": name, "mimeType": "image/jpeg", "buffer": data.getvalue()}


def spans(page: Page) -> list[list[float]]:
    """The spans in the downloaded JSON."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    (record,) = json.loads(Path(download.value.path()).read_text())
    return [character["span"] for character in record["characters"]]


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_page_shrinks_a_large_photo(page: Page, orientation: int) -> None:
    """The service would refuse the original. Spans are in pixels of the upright original."""
    large = photo("photo.jpg", (4000, 1000), 12, orientation)
    assert len(large["buffer"]) > 1 << 20
    choose(page, large)
    expect_results(page, TEXT)
    expect(page.locator(".facts")).to_contain_text("4000 × 1000, sent as 2000 × 500, answered")
    found = spans(page)
    page.get_by_role("button", name="Clear").click()
    choose(page, payload("small.png", (EXAMPLES / f"{TEXT}.png").read_bytes()))
    expect_results(page, TEXT)
    for span, own in zip(found, spans(page), strict=True):
        assert span == pytest.approx([20 * end for end in own], abs=100)


def test_the_page_shrinks_a_picture_with_too_many_pixels(page: Page) -> None:
    """Also if the file is small: the page shrinks the picture when the service refuses it."""
    data = io.BytesIO()
    picture().resize((4000, 1000), Image.Resampling.NEAREST).convert("P").save(data, "PNG")
    assert len(data.getvalue()) < 1 << 20
    choose(page, payload("wide.png", data.getvalue()))
    expect_results(page, TEXT)
    page.get_by_role("button", name="Clear").click()
    image = picture().resize((8000, 2000), Image.Resampling.NEAREST)
    data = io.BytesIO()
    image.save(data, "PNG")
    choose(page, payload("wider.png", data.getvalue()))
    expect_results(page, TEXT)
    expect(page.locator(".facts")).to_contain_text("8000 × 2000, sent as 1414 × 354")


@pytest.mark.parametrize("context_options", [{}, {"viewport": {"width": 390, "height": 800}}])
def test_a_small_part_of_a_picture_can_be_cropped_and_read(page: Page) -> None:
    """The page finds no text and suggests cropping. A drag selects the part that is then read."""
    sheet = Image.new("L", (1600, 1200), 255)
    sheet.paste(picture(), (900, 700))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    choose(page, payload("sheet.png", data.getvalue()))
    expect_results(page, "No text")
    expect(page.locator(".hint")).to_contain_text("Crop")
    page.get_by_role("button", name="Crop of sheet.png").click()
    picture_to_crop = page.locator("#crop .area img")
    expect(picture_to_crop).to_be_visible()
    box = picture_to_crop.bounding_box()
    assert box is not None
    scale = box["width"] / 1600
    page.mouse.move(box["x"] + 900 * scale, box["y"] + 700 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 1000 * scale, box["y"] + 720 * scale)
    page.mouse.move(box["x"] + 1100 * scale, box["y"] + 750 * scale)
    page.mouse.up()
    field = page.get_by_label("x, y, width, height")
    region = [int(number) for number in field.input_value().split(",")]
    assert region == pytest.approx([900, 700, 200, 50], abs=4)
    mark = page.locator("#crop .area i").bounding_box()
    assert mark is not None
    assert [mark["x"] - box["x"], mark["width"]] == pytest.approx([900 * scale, 200 * scale], abs=3)
    field.fill("1500,700,200,50")
    page.get_by_role("button", name="Read this part").click()
    expect(page.locator("#crop")).to_be_visible()  # the part is outside the picture
    field.fill("900,700,200,50")
    with page.expect_request("**/predict?*") as request:
        page.keyboard.press("Enter")
    assert asked(request.value)["region"] == ["900,700,200,50"]
    expect_results(page, TEXT)
    assert all(900 <= left < right <= 1100 for left, right in spans(page))
    expect(page.locator(".facts")).to_contain_text("200 × 50")
    page.get_by_role("button", name="Crop of sheet.png").click()
    page.get_by_role("button", name="Whole picture").click()
    expect_results(page, "No text")


def test_a_large_photo_is_cropped_before_it_is_shrunk(page: Page) -> None:
    """The cropped part keeps its resolution."""
    sheet = np.full((3000, 4000), 255, np.float32)
    sheet[2000:2200, 1000:1800] = np.asarray(picture().resize((800, 200)))
    sheet += np.random.default_rng(1).normal(0, 12, sheet.shape)
    data = io.BytesIO()
    Image.fromarray(sheet.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
    choose(page, {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": data.getvalue()})
    expect(page.locator(".facts")).to_contain_text("4000 × 3000, sent as")
    page.get_by_role("button", name="Crop of photo.jpg").click()
    page.get_by_label("x, y, width, height").fill("1000,2000,800,200")
    with page.expect_request("**/predict?*") as request:
        page.keyboard.press("Enter")
    assert "region" not in asked(request.value)
    expect_results(page, TEXT)
    assert all(1000 <= left < right <= 1800 for left, right in spans(page))
    expect(page.locator(".facts")).to_contain_text("800 × 200, sent as 800 × 200")
