"""Generates pictures that resemble real ones, for any alphabet, length and size.

A picture has characters on a gradient, pushed together along a sine and partly frayed, and curves
that thin out to the right. `training.synthetic.manner` has the ranges of their properties.
"""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from service.ocr.preprocessing import FloatArray, preprocess
from training.synthetic.glyphs import FONTS, Box, curve, glyph, stamp
from training.synthetic.levels import image_of
from training.synthetic.manner import Manner

_WIDEST = 0.9
"""Greatest width of the characters together, as a share of the width of the picture."""
_SMALLEST = 6
"""Size of a font in pixels below which it is not made smaller."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A generated picture, its text, and the box of each character's ink, (x0, y0, x1, y1)."""

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
    manner: Manner | None = None,
) -> Iterator[Drawing]:
    """Draws pictures with random texts; the same arguments give the same pictures.

    Args:
        lengths: the lengths to draw from; a length that occurs twice is twice as likely.
        width, height: size of the pictures in pixels.
        font_name: one of `FONTS`; without it, each picture has a random one of them.
        manner: the look of the pictures.
    """
    generator = np.random.default_rng(seed)
    for _ in range(count):
        length = int(generator.choice(lengths))
        text = "".join(generator.choice(list(alphabet), length))
        yield draw(text, width, height, generator, manner, font_name)


def generated_tensors(
    count: int,
    alphabet: str,
    lengths: Sequence[int],
    width: int,
    height: int,
    seed: int,
    manner: Manner | None = None,
) -> tuple[FloatArray, list[Drawing]]:
    """The drawings of `generate`, and their pictures as `(count, width, height, 1)`, 0 to 1."""
    drawings = list(generate(count, alphabet, lengths, width, height, seed, manner=manner))
    tensors = np.stack([preprocess(drawing.png(), width, height) for drawing in drawings])
    return tensors, drawings


def draw(
    text: str,
    width: int,
    height: int,
    generator: np.random.Generator,
    manner: Manner | None = None,
    font_name: str | None = None,
) -> Drawing:
    """Draws one text on a picture of `width`×`height` pixels, mode L."""
    manner = manner or Manner()
    ink = np.zeros((height, width), np.float32)
    boxes = _place(
        ink, _glyphs(text, width, height, manner, font_name, generator), manner, generator
    )
    for across in manner.curves:
        ink = np.maximum(ink, curve(width, height, across, generator))
    paper = np.linspace(
        generator.uniform(*manner.paper_left), generator.uniform(*manner.paper_right), width
    )
    shade = paper + (generator.uniform(*manner.ink) - paper) * ink
    image = image_of(shade)
    image = image.filter(ImageFilter.GaussianBlur(generator.uniform(*manner.blur)))
    grain = generator.normal(0, 1, (height, width)) * generator.uniform(*manner.noise) * 255
    grainy = (np.asarray(image) + grain).clip(0, 255).round().astype(np.uint8)
    return Drawing(Image.fromarray(grainy), text, tuple(boxes))


def _glyphs(
    text: str,
    width: int,
    height: int,
    manner: Manner,
    font_name: str | None,
    generator: np.random.Generator,
) -> list[FloatArray]:
    """An ink mask for each character, in a random size, reduced until the text fits the width."""
    name = font_name or FONTS[generator.choice(len(FONTS), p=(0.5, 0.4, 0.05, 0.05))]
    size = height * generator.uniform(*manner.size)
    stretch, weight = generator.uniform(*manner.stretch), generator.uniform(0.3, 1)
    while True:
        glyphs = [
            glyph(symbol, name, round(size), stretch, weight, manner.frayed, generator)
            for symbol in text
        ]
        if sum(mask.shape[1] for mask in glyphs) <= _WIDEST * width or size < _SMALLEST:
            return glyphs
        size *= 0.92


def _place(
    ink: FloatArray, glyphs: Sequence[FloatArray], manner: Manner, generator: np.random.Generator
) -> list[Box]:
    """Puts the characters side by side along a sine; returns their boxes."""
    height, width = ink.shape
    inked = sum(mask.shape[1] for mask in glyphs)
    # Even the smallest glyphs may be too wide together; then they overlap.
    squeeze = min(1.0, _WIDEST * width / inked)
    x = min(generator.uniform(*manner.left) * width, 0.99 * width - squeeze * inked)
    middle = generator.uniform(*manner.middle) * height
    rise, phase = generator.uniform(*manner.wave) * height, generator.random()
    period = generator.uniform(1.0, 2.0) * height
    boxes = []
    for mask in glyphs:
        wave = rise * np.sin(2 * np.pi * (x / period + phase)) + generator.normal(0, height * 0.015)
        boxes.append(stamp(ink, mask, round(x), round(middle - mask.shape[0] / 2 + wave)))
        x += squeeze * mask.shape[1] + generator.uniform(*manner.spacing) * height
    return boxes


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training synthetic", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for pictures and labels.csv")
    parser.add_argument("--count", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--alphabet", default="2345678bcdefgmnpwxy", help="default: %(default)s")
    parser.add_argument("--length", default="5", help="length of the texts: 5, or 4-7; default: 5")
    parser.add_argument("--width", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--height", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--font", choices=FONTS, help="font of all pictures; default: random fonts")
    parser.add_argument(
        "--name-by-label",
        action="store_true",
        help="call the files <label>.png instead of writing labels.csv; a label that is drawn "
        "twice gives one file",
    )
    arguments = parser.parse_args(argv)
    low, _, high = arguments.length.partition("-")
    try:
        lengths = range(int(low), int(high or low) + 1)
    except ValueError:
        parser.error(f"--length is {arguments.length!r}; it must be like 5 or 4-7")
    if not lengths or lengths[0] < 1:
        parser.error(f"--length is {arguments.length!r}; it must be a range of numbers from 1 up")
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
            # A text may be drawn twice, and not every symbol is allowed in a file name.
            name = f"{number:06}.png"
            (arguments.out / name).write_bytes(drawing.png())
            manifest.writerow((name, drawing.text))
    print(f"{arguments.count} pictures; make data DATA={arguments.out / 'labels.csv'}")


if __name__ == "__main__":
    main()
