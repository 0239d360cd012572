"""Characters of displays, made of seven or fourteen segments or of dots."""

import functools

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from training.synthetic.fonts import Font

_SEVEN = {
    "0": "abcdef", "1": "bc", "2": "abdeg", "3": "abcdg", "4": "bcfg", "5": "acdfg", "6": "acdefg",
    "7": "abc", "8": "abcdefg", "9": "abcdfg", "-": "g",
}  # fmt: skip
"""The lit segments of each character: a to f clockwise from the top, g in the middle."""

# Segments in addition to a to f: g and h are the halves of the middle bar; j, k, l the upper
# diagonal, vertical and diagonal; m, n, o the lower vertical and the two lower diagonals.
_FOURTEEN = {
    "0": "abcdefln", "1": "bcl", "2": "abdegh", "3": "abcdh", "4": "bcfgh", "5": "acdfgh",
    "6": "acdefgh", "7": "aln", "8": "abcdefgh", "9": "abcdfgh", "A": "abcefgh", "B": "abcdhkm",
    "C": "adef", "D": "abcdkm", "E": "adefg", "F": "aefg", "G": "acdefh", "H": "bcefgh",
    "I": "adkm", "J": "bcde", "K": "efglo", "L": "def", "M": "bcefjl", "N": "bcefjo",
    "O": "abcdef", "P": "abefgh", "Q": "abcdefo", "R": "abefgho", "S": "acdfgh", "T": "akm",
    "U": "bcdef", "V": "efln", "W": "bcefno", "X": "jlno", "Y": "jlm", "Z": "adln", "-": "gh",
    "+": "ghkm", "*": "ghjklmno", "/": "ln",
}  # fmt: skip

SEGMENT_SYMBOLS = {
    "seven segments": frozenset(_SEVEN) | {".", ":"},
    "fourteen segments": frozenset(_FOURTEEN) | {".", ":"},
}
"""The symbols of each lettering of segments."""

_GAP = 0.3
"""Gap between two segments, as a share of their thickness."""


@functools.lru_cache(maxsize=4096)
def segments(symbol: str, height: int, width: int, thickness: float, fourteen: bool) -> Image.Image:
    """A character of lit segments, mode L, `width`×`height` pixels; `.` and `:` are narrower.

    Args:
        thickness: thickness of a segment, as a share of the height.
        fourteen: whether there are fourteen segments instead of seven.
    """
    scale = 4
    tall, wide = scale * height, scale * width
    thick = max(scale, thickness * tall)
    if symbol in ".:":
        size = round(1.3 * thick)
        image = Image.new("L", (size, tall))
        pen = ImageDraw.Draw(image)
        for y in (tall - size,) if symbol == "." else (tall * 0.28, tall * 0.64):
            pen.rectangle((0, y, size, y + size), fill=255)
        return image.resize((max(2, round(size / scale)), height), Image.Resampling.BOX)
    image = Image.new("L", (wide, tall))
    pen = ImageDraw.Draw(image)
    half, space = thick / 2, _GAP * thick / 2
    left, right, top, bottom = half, wide - half, half, tall - half
    middle, centre = tall / 2, wide / 2
    ends = {
        "a": (left, top, right, top), "b": (right, top, right, middle),
        "c": (right, middle, right, bottom), "d": (left, bottom, right, bottom),
        "e": (left, middle, left, bottom), "f": (left, top, left, middle),
    }  # fmt: skip
    if fourteen:
        ends |= {
            "g": (left, middle, centre, middle), "h": (centre, middle, right, middle),
            "j": (left, top, centre, middle), "k": (centre, top, centre, middle),
            "l": (right, top, centre, middle), "m": (centre, middle, centre, bottom),
            "n": (left, bottom, centre, middle), "o": (right, bottom, centre, middle),
        }  # fmt: skip
    else:
        ends["g"] = (left, middle, right, middle)
    for segment in (_FOURTEEN if fourteen else _SEVEN)[symbol]:
        x0, y0, x1, y1 = ends[segment]
        if y0 == y1:
            a, b, inset = x0 + space, x1 - space, min(half, (x1 - x0) / 3)
            pen.polygon(((a, y0), (a + inset, y0 - half), (b - inset, y0 - half), (b, y0),
                         (b - inset, y0 + half), (a + inset, y0 + half)), fill=255)  # fmt: skip
        elif x0 == x1:
            a, b, inset = y0 + space, y1 - space, min(half, (y1 - y0) / 3)
            pen.polygon(((x0, a), (x0 - half, a + inset), (x0 - half, b - inset), (x0, b),
                         (x0 + half, b - inset), (x0 + half, a + inset)), fill=255)  # fmt: skip
        else:
            dx, dy = (x1 - x0) * 0.18, (y1 - y0) * 0.18
            line = (x0 + dx, y0 + dy, x1 - dx / 2, y1 - dy / 2)
            pen.line(line, fill=255, width=round(thick * 0.8))
    return image.resize((width, height), Image.Resampling.BOX)


@functools.lru_cache(maxsize=4096)
def dots(symbol: str, font: Font, rows: int, pitch: int, size: float, round_: bool) -> Image.Image:
    """A character of dots, mode L; the baseline is at the same height in all characters of a font.

    Args:
        rows: number of dots from the baseline to the top of a capital.
        pitch: pixels from dot to dot.
        size: diameter of a dot, as a share of the pitch.
        round_: whether dots are round instead of square.
    """
    drawn = font.sized(max(5, round(rows / font.capital)))
    x0, _, x1, _ = drawn.getbbox(symbol, mode="1", anchor="ls")
    above, below = rows + 2, rows // 3 + 1
    cells = Image.new("L", (max(1, int(x1 - x0)), above + below))
    pen = ImageDraw.Draw(cells)
    pen.fontmode = "1"
    pen.text((-x0, above), symbol, fill=255, font=drawn, anchor="ls")
    large = cells.resize((cells.width * pitch, cells.height * pitch), Image.Resampling.NEAREST)
    dot = _dot(pitch, size, round_)
    tiled = Image.fromarray(np.tile(dot, (cells.height, cells.width)))
    return ImageChops.multiply(large, tiled)


@functools.lru_cache(maxsize=256)
def _dot(pitch: int, size: float, round_: bool) -> np.ndarray:
    image = Image.new("L", (8 * pitch, 8 * pitch))
    edge = 4 * pitch * (1 - size)
    box = (edge, edge, 8 * pitch - edge, 8 * pitch - edge)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if round_ else pen.rectangle)(box, fill=255)
    return np.asarray(image.resize((pitch, pitch), Image.Resampling.BOX))
