"""Contact sheets: many small pictures in one, each with a caption below it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

_FONT = "DejaVuSans"  # comes with Matplotlib
_TEXT_PIXELS = 12
_LINE_PIXELS = 16
_GAP = 8
_PAPER = (255, 255, 255)
_FRAME = (205, 205, 205)
INK = (30, 30, 30)
WRONG = (187, 0, 0)
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture, and the caption below it."""

    image: Image.Image
    caption: str = ""
    colour: tuple[int, int, int] = INK


def draw_sheet(
    cells: Sequence[Cell], columns: int, width: int, height: int, title: str = ""
) -> Image.Image:
    """Lays the cells out row by row, on white.

    Args:
        columns: cells in a row, at least 1.
        width, height: the space of each picture in pixels. A larger picture is shrunk to fit; a
            smaller one is centred, and enlarged by a whole factor if that fits.
    """
    columns = max(1, min(columns, len(cells)))
    rows = -(-len(cells) // columns)
    top = _GAP + (_LINE_PIXELS + _GAP if title else 0)
    across, down = width + _GAP, height + _LINE_PIXELS + _GAP
    title_width = round(font().getlength(title)) + 2 * _GAP
    size = (max(_GAP + columns * across, title_width), top + rows * down)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), title, font=font(), fill=INK)
    for number, cell in enumerate(cells):
        left, upper = _GAP + number % columns * across, top + number // columns * down
        picture = _fitted(cell.image, width, height)
        place = (left + (width - picture.width) // 2, upper + (height - picture.height) // 2)
        sheet.paste(picture, place)
        corner = (place[0] + picture.width, place[1] + picture.height)
        pen.rectangle((place[0] - 1, place[1] - 1, *corner), outline=_FRAME)
        pen.text(
            (left, upper + height + 1),
            shortened(printable(cell.caption), width),
            font=font(),
            fill=cell.colour,
        )
    return sheet


def printable(text: str) -> str:
    """The text, with characters that the charts' font lacks written as, for example, `U+4E2D`."""
    known = _characters()
    return "".join(
        symbol if ord(symbol) in known and symbol.isprintable() else f"U+{ord(symbol):04X}"
        for symbol in text
    )


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(str(_font_file())).get_charmap())


@functools.cache
def font(size: int = _TEXT_PIXELS) -> ImageFont.FreeTypeFont:
    """The charts' font; `size` is in pixels."""
    return ImageFont.truetype(_font_file(), size)


def _font_file() -> Path:
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{_FONT}.ttf")


def shortened(text: str, width: int) -> str:
    """The text, cut off with an ellipsis if it is wider than `width` pixels."""
    # A character is at least a pixel wide: the rest need not be measured.
    text = text if len(text) <= width else text[:width] + _ELLIPSIS
    measure = font().getlength
    if measure(text) <= width:
        return text
    while text and measure(text + _ELLIPSIS) > width:
        text = text[:-1]
    return text + _ELLIPSIS


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    image = image.convert("RGB")
    scale = min(width / image.width, height / image.height)
    if scale >= 2:
        return image.resize(
            (image.width * int(scale), image.height * int(scale)), Image.Resampling.NEAREST
        )
    if scale >= 1:
        return image
    # A picture that is thin as a line stays visible.
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
