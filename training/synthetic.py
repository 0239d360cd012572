"""Generated pictures in the manner of the real ones, for any alphabet, length and size.

Dark characters on a gray gradient, some of them frayed, pushed together, with a stroke that
thins out to the right. The fonts are those that Matplotlib ships (DejaVu, under the Bitstream
Vera licence).
"""

import argparse
import csv
import functools
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from service.ocr.preprocessing import FloatArray, preprocess

FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif-Bold")
Box = tuple[int, int, int, int]

_FULL = np.float32(255)
_WIDEST = 0.9
_SMALLEST = 6


@dataclass(frozen=True, slots=True)
class Drawing:
    """A generated picture, its text, and where each character's ink is: (x0, y0, x1, y1)."""

    image: Image.Image
    text: str
    boxes: tuple[Box, ...]

    def png(self) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


def generate(
    count: int,
    alphabet: str,
    lengths: Sequence[int],
    width: int,
    height: int,
    seed: int,
    font_name: str | None = None,
) -> Iterator[Drawing]:
    """Draws pictures with random texts, the same ones for the same arguments.

    Args:
        lengths: the lengths to draw from; one that occurs twice is twice as likely.
        width, height: of the pictures, in pixels.
        font_name: one of `FONTS`; without it, each picture has one of them.
    """
    generator = np.random.default_rng(seed)
    for _ in range(count):
        length = int(generator.choice(lengths))
        text = "".join(generator.choice(list(alphabet), length))
        yield draw(text, width, height, generator, font_name)


def generated_tensors(
    count: int, alphabet: str, lengths: Sequence[int], width: int, height: int, seed: int
) -> tuple[FloatArray, list[str]]:
    """What `generate` draws, as tensors `(count, width, height, 1)`, 0 to 1, and texts."""
    drawings = list(generate(count, alphabet, lengths, width, height, seed))
    tensors = np.stack([preprocess(drawing.png(), width, height) for drawing in drawings])
    return tensors, [drawing.text for drawing in drawings]


def draw(
    text: str,
    width: int,
    height: int,
    generator: np.random.Generator,
    font_name: str | None = None,
) -> Drawing:
    """Draws one text on a picture of `width`×`height` pixels, mode L."""
    any_font = FONTS[generator.choice(len(FONTS), p=(0.7, 0.1, 0.1, 0.1))]
    glyphs = _fitting_glyphs(text, width, height, font_name or any_font, generator)
    ink = np.zeros((height, width), np.float32)
    inked = sum(glyph.shape[1] for glyph in glyphs)
    # Where even the smallest glyphs are too wide, they are pushed into each other.
    squeeze = min(1.0, _WIDEST * width / inked)
    x = 0.01 * width + (0.98 * width - squeeze * inked) * generator.uniform(0.15, 0.6)
    boxes = []
    for glyph in glyphs:
        top = round((height - glyph.shape[0]) / 2 + generator.normal(0, height * 0.02))
        boxes.append(_stamp(ink, glyph, round(x), top))
        x += squeeze * glyph.shape[1] - generator.uniform(-0.02, 0.04) * height
    ink = np.maximum(ink, stroke(width, height, generator))
    background = np.linspace(generator.uniform(0.65, 0.85), generator.uniform(0.93, 1.0), width)
    shade = background * (1 - ink * generator.uniform(0.9, 1.0))
    image = Image.fromarray((shade * 255).round().astype(np.uint8))
    return Drawing(
        image.filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 0.5))), text, tuple(boxes)
    )


def _fitting_glyphs(
    text: str, width: int, height: int, name: str, generator: np.random.Generator
) -> list[FloatArray]:
    """One ink mask a character, in the largest size up to a random one that fits the width."""
    size = height * generator.uniform(0.58, 0.72)
    while True:
        glyphs = [_glyph(symbol, name, round(size), generator) for symbol in text]
        if sum(glyph.shape[1] for glyph in glyphs) <= _WIDEST * width or size < _SMALLEST:
            return glyphs
        size *= 0.92


def _glyph(symbol: str, name: str, size: int, generator: np.random.Generator) -> FloatArray:
    """A character's ink, 0 to 1, cropped to its columns, turned a little and maybe frayed."""
    canvas = Image.new("L", (3 * size, 2 * size))
    # One baseline for all, so that g and p hang below it as they do in a line of text.
    ImageDraw.Draw(canvas).text(
        (1.5 * size, 1.35 * size), symbol, font=font(name, size), fill=255, anchor="ms"
    )
    canvas = canvas.rotate(generator.uniform(-4, 4), Image.Resampling.BICUBIC)
    ink = np.asarray(canvas, np.float32) / _FULL
    if generator.random() < 0.5:
        ink = _frayed(ink, generator.uniform(0.02, 0.045) * size, generator)
    columns = np.flatnonzero(ink.max(axis=0) > 0.3)
    if columns.size == 0:  # a space
        return np.zeros((2 * size, max(1, size // 3)), np.float32)
    return ink[:, columns[0] : columns[-1] + 1]


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of Matplotlib's fonts, in pixels."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)


def _frayed(ink: FloatArray, spread: float, generator: np.random.Generator) -> FloatArray:
    """Every pixel takes its ink from a random neighbour, `spread` pixels away on average."""
    offsets = generator.normal(0, spread, (2, *ink.shape)).round().astype(int)
    rows, columns = np.indices(ink.shape) + offsets
    frayed: FloatArray = ink[rows.clip(0, ink.shape[0] - 1), columns.clip(0, ink.shape[1] - 1)]
    return frayed


def _stamp(ink: FloatArray, glyph: FloatArray, left: int, top: int) -> Box:
    """Adds a glyph to the ink, cut at the picture's edges; gives the box of its ink."""
    height, width = ink.shape
    rows = slice(max(0, top), min(height, top + glyph.shape[0]))
    columns = slice(max(0, left), min(width, left + glyph.shape[1]))
    visible = glyph[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    ink[rows, columns] = np.maximum(ink[rows, columns], visible)
    inked = np.flatnonzero(visible.max(axis=1, initial=0) > 0.3)
    if inked.size == 0:
        return columns.start, rows.start, columns.stop, rows.stop
    return columns.start, rows.start + int(inked[0]), columns.stop, rows.start + int(inked[-1]) + 1


def stroke(width: int, height: int, generator: np.random.Generator) -> FloatArray:
    """The ink, 0 to 1, of a broken line across the picture, thick at its left end."""
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    x = np.array([0.08, 0.09, 0.25, 0.45, 0.92]) + generator.normal(0, 0.03, 5)
    y = generator.uniform((0.0, 0.2, 0.35, 0.4, 0.1), (0.4, 0.6, 0.7, 0.8, 0.8))
    points = [(float(a * width), float(b * height)) for a, b in zip(x, y, strict=True)]
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        thickness = max(1, round(height * (0.06, 0.06, 0.04, 0.02)[number]))
        pen.line((*start, *end), fill=255, width=thickness)
    return np.asarray(canvas, np.float32) / _FULL


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.synthetic", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for pictures and labels.csv")
    parser.add_argument("--count", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--alphabet", default="2345678bcdefgmnpwxy", help="default: %(default)s")
    parser.add_argument("--length", default="5", help="of the texts: 5, or 4-7; default: 5")
    parser.add_argument("--width", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--height", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--font", choices=FONTS, help="of all pictures; default: any for each")
    parser.add_argument(
        "--name-by-label",
        action="store_true",
        help="call the files <label>.png instead of writing labels.csv; a label that comes up "
        "twice is written once",
    )
    arguments = parser.parse_args()
    low, _, high = arguments.length.partition("-")
    try:
        lengths = range(int(low), int(high or low) + 1)
    except ValueError:
        parser.error(f"--length is {arguments.length!r}; it must be like 5 or 4-7")
    if not lengths or lengths[0] < 1:
        parser.error(f"--length is {arguments.length!r}; it must go upwards from at least 1")
    arguments.out.mkdir(parents=True, exist_ok=True)
    drawings = generate(
        arguments.count, arguments.alphabet, lengths, arguments.width, arguments.height,
        arguments.seed, arguments.font,
    )  # fmt: skip
    if arguments.name_by_label:
        for drawing in drawings:
            (arguments.out / f"{drawing.text}.png").write_bytes(drawing.png())
        return
    with (arguments.out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        manifest = csv.writer(file)
        manifest.writerow(("path", "label"))
        for number, drawing in enumerate(drawings):
            # A text may come up twice, and not every symbol can stand in a file's name.
            name = f"{number:06}.png"
            (arguments.out / name).write_bytes(drawing.png())
            manifest.writerow((name, drawing.text))
    print(f"{arguments.count} pictures; make data DATA={arguments.out / 'labels.csv'}")


if __name__ == "__main__":
    main()
