import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from service.ocr.preprocessing import decode_gray
from training.data.contact_sheet import font
from training.data.legibility import colour_carries_text, lines_of_text, open_rgb

Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def drawn(
    lines: list[str], paper: Colour = WHITE, inks: Callable[[int], Colour] = lambda _: BLACK,
    noise: float = 0, format: str = "PNG", size: tuple[int, int] = (160, 50),
) -> bytes:  # fmt: skip
    """Lines of text, with an ink for each character and coloured noise."""
    image = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(image)
    high = size[1] / len(lines)
    letters: ImageFont.FreeTypeFont = font(round(0.65 * high))
    for row, line in enumerate(lines):
        for place, symbol in enumerate(line):
            left = 8 + place * (size[0] - 10) / len(line)
            pen.text((left, row * high + 1), symbol, inks(place), font=letters)
    pixels = np.asarray(image, float)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format)
    return file.getvalue()


TEXTS = ["K7AD2", "9MNPX", "44RTE"]
DARK: list[Colour] = [(120, 0, 0), (0, 90, 0), (0, 0, 160), (90, 60, 0), (80, 0, 120)]

GRAY_IS_ENOUGH: dict[str, dict[str, Any]] = {
    "black on white": {},
    "white on black": {"paper": BLACK, "inks": lambda _: WHITE},
    "much noise": {"paper": (200, 200, 200), "inks": lambda _: (60, 60, 60), "noise": 40},
    "blue on white": {"inks": lambda _: (0, 0, 200)},
    "dark inks": {"paper": (235, 245, 250), "inks": lambda place: DARK[place]},
    "dark inks as JPEG": {"inks": lambda place: DARK[place], "noise": 15, "format": "JPEG"},
}
COLOUR_IS_NEEDED: dict[str, dict[str, Any]] = {
    "red on green": {"paper": (0, 104, 0), "inks": lambda _: (204, 0, 0)},
    "red on blue": {"paper": (0, 0, 255), "inks": lambda _: (255, 0, 0)},
    "yellow on white": {"inks": lambda _: (255, 240, 0)},
    "with noise": {"paper": (0, 104, 0), "inks": lambda _: (204, 0, 0), "noise": 20},
    "one character of five": {
        "paper": (200, 200, 200),
        "inks": lambda place: (255, 190, 100) if place == 2 else (40, 40, 40),
    },
}


@pytest.mark.parametrize("kind", [*GRAY_IS_ENOUGH, *COLOUR_IS_NEEDED])
def test_colour_is_needed_where_gray_loses_the_text(kind: str) -> None:
    """Contrast in gray is compared with contrast along the best direction of colour."""
    style = {**GRAY_IS_ENOUGH, **COLOUR_IS_NEEDED}[kind]
    pictures = [drawn([text], **style) for text in TEXTS]
    assert colour_carries_text(pictures) is (kind in COLOUR_IS_NEEDED)


def test_no_pictures_and_empty_pictures_need_no_colour() -> None:
    assert not colour_carries_text([])
    assert not colour_carries_text([drawn([" "], paper=(0, 104, 0))])


def test_16_bit_gray_is_scaled_to_8_bits() -> None:
    """Gray is not clipped, so the sheet of the first pictures shows the picture."""
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16)).save(file, "PNG")
    assert np.asarray(open_rgb(file.getvalue()))[0].tolist() == [[0] * 3, [127] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("lines", "count"),
    [([" "], 0), (["iÄ8:="], 1), (["K7AD2"], 1), (["K7AD", "9MNP"], 2), (["Ki", "9Ä", ";X"], 3)],
)
@pytest.mark.parametrize(("paper", "ink"), [(WHITE, BLACK), (BLACK, WHITE)])
def test_lines_of_text_are_counted(
    lines: list[str], count: int, paper: Colour, ink: Colour
) -> None:
    """Dots and accents do not count as lines."""
    picture = drawn(lines, paper, lambda _: ink, size=(160, 30 * len(lines)))
    assert lines_of_text(decode_gray(picture)) == count
