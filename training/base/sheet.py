"""A contact sheet of pictures that the base trains on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.base.pool import HEIGHT, WIDTH, random_drawing
from training.synthetic.fonts import Font

_COLUMNS, _ROWS, _TEXT, _GAP = 5, 12, 13, 6


def write_sheet(path: Path, fonts: Sequence[Font], seed: int = 0) -> None:
    """Draws pictures with their texts below and writes them as one PNG."""
    rng = np.random.default_rng(seed)
    across, down = WIDTH + _GAP, HEIGHT + _TEXT + _GAP
    sheet = Image.new("RGB", (_COLUMNS * across - _GAP, _ROWS * down - _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number in range(_COLUMNS * _ROWS):
        drawing = random_drawing(fonts, rng)
        x, y = number % _COLUMNS * across, number // _COLUMNS * down
        sheet.paste(drawing.image, (x, y))
        pen.text((x, y + HEIGHT + 1), drawing.text, fill=(80, 80, 80))
    sheet.quantize(128).save(path, optimize=True)
