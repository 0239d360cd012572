"""Fonts, and which symbols they have.

If no other fonts are given, pictures are drawn with the fonts that Matplotlib ships (DejaVu).
"""

import functools
import io
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.exceptions import DataError

_TRIAL_SIZE = 100
_TWO_SHAPES = "abdeghnqrt"
"""Letters whose two cases differ in print."""
_ALIKE = 0.72
"""Least overlap at which two shapes, scaled to one size, count as the same."""
_SHIPPED = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold",
            "DejaVuSerif", "DejaVuSerif-Bold")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Font:
    """A font file, its symbols, and the height of its capitals as a share of its size.

    `symbols` has only symbols that leave ink. It leaves out symbols that are drawn as the box for a
    missing symbol, and small letters that are drawn as capitals.
    """

    path: str
    symbols: frozenset[str]
    capital: float

    @classmethod
    def read(cls, path: Path) -> "Font":
        """Reads the symbols of a TrueType or OpenType file.

        Raises:
            DataError: the file is not a usable font.
        """
        try:
            # From memory: fontTools leaves a file open that is no font.
            with TTFont(io.BytesIO(path.read_bytes()), lazy=True) as file:
                mapped = frozenset(map(chr, file.getBestCmap() or ()))
            trial = _sized(str(path), _TRIAL_SIZE)
        except (OSError, TTLibError) as error:
            raise DataError(f"{path} is no font that can be drawn with: {error}") from error
        printable = [symbol for symbol in mapped if not symbol.isspace()]
        inked = {symbol for symbol in printable if trial.getmask(symbol).getbbox() is not None}
        if _is_unicase(trial, inked):
            inked -= set(string.ascii_lowercase)
        tall = next((s for s in "H0E" + string.ascii_uppercase if s in inked), None)
        top = trial.getbbox(tall, anchor="ls")[1] if tall else -0.7 * _TRIAL_SIZE
        return cls(str(path), frozenset(inked), max(0.2, -top / _TRIAL_SIZE))

    def sized(self, pixels: int) -> ImageFont.FreeTypeFont:
        """The font with an em of this many pixels."""
        return _sized(self.path, pixels)

    def width(self, symbol: str) -> float:
        """Width of a symbol's ink, as a share of the em."""
        return _width(self.path, symbol)


@functools.lru_cache(maxsize=1024)
def _sized(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


def _is_unicase(font: ImageFont.FreeTypeFont, symbols: set[str]) -> bool:
    """Whether most letters have the same shape in both cases, perhaps in two sizes."""
    pairs = [(s, s.upper()) for s in _TWO_SHAPES if s in symbols and s.upper() in symbols]
    alike = [_overlap(_shape(font, lower), _shape(font, upper)) > _ALIKE for lower, upper in pairs]
    return len(pairs) > 3 and sum(alike) > len(pairs) / 2


def _shape(font: ImageFont.FreeTypeFont, symbol: str) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = (round(v) for v in font.getbbox(symbol, anchor="ls"))
    image = Image.new("L", (max(1, x1 - x0), max(1, y1 - y0)))
    ImageDraw.Draw(image).text((-x0, -y0), symbol, fill=255, font=font, anchor="ls")
    cropped = image.crop(image.getbbox()).resize((24, 24), Image.Resampling.BOX)
    return np.asarray(cropped) > 127


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@functools.lru_cache(maxsize=1 << 17)
def _width(path: str, symbol: str) -> float:
    x0, _, x1, _ = _sized(path, _TRIAL_SIZE).getbbox(symbol)
    return float(x1 - x0) / _TRIAL_SIZE


def read_fonts(paths: Iterable[Path]) -> tuple[Font, ...]:
    """Reads font files and folders of `.ttf` and `.otf` files; a folder in the order of its names.

    Raises:
        DataError: a file is no font, or there is no file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in {".ttf", ".otf"})
        else:
            files.append(path)
    if not files:
        raise DataError("there is no font; name a .ttf or .otf file, or a folder of them.")
    return tuple(Font.read(file) for file in files)


@functools.cache
def shipped_fonts() -> tuple[Font, ...]:
    """The fonts of Matplotlib that resemble print."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return tuple(Font.read(folder / f"{name}.ttf") for name in _SHIPPED)
