import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.exceptions import DataError
from training.synthetic.clutter import CLUTTERS, COLOURS, Clutter
from training.synthetic.fonts import Font, read_fonts, shipped_fonts
from training.synthetic.glyphs import Box
from training.synthetic.papers import PAPERS
from training.synthetic.pictures import LETTERINGS, PITCHES, Style, draw
from training.synthetic.random_styles import random_style
from training.synthetic.texts import random_text
from training.synthetic.warps import WARPS

ALPHABET = "0123456789ABCDEFabcdef-.:+="
BLACK_ON_WHITE = Style(
    shipped_fonts(), papers=((255, 255, 255),), inks=((0, 0, 0),), vary=0.0, contrast=0.0
)


def pixels(
    text: str, style: Style, width: int = 200, height: int = 50, seed: int = 0
) -> tuple[NDArray[Any], tuple[Box, ...]]:
    drawing = draw(text, style, width, height, np.random.default_rng(seed))
    return np.asarray(drawing.image).astype(int), drawing.boxes


def test_the_same_seed_draws_the_same_pictures() -> None:
    def drawn(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        styles = [random_style(shipped_fonts(), rng) for _ in range(10)]
        texts = [random_text(style.symbols, ALPHABET, rng) for style in styles]
        return [
            draw(text, style, 200, 50, rng).image.tobytes()
            for text, style in zip(texts, styles, strict=True)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_boxes_are_within_the_picture_in_any_style() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        style = random_style(shipped_fonts(), rng)
        text = random_text(style.symbols, ALPHABET, rng)
        drawing = draw(text, style, 120, 40, rng)
        assert drawing.image.size == (120, 40)
        assert drawing.image.mode == "RGB"
        assert len(drawing.boxes) == len(text)
        for x0, y0, x1, y1 in drawing.boxes:
            assert 0 <= x0 < x1 <= 120
            assert 0 <= y0 < y1 <= 40


@pytest.mark.parametrize("warp", ["", *WARPS])
def test_boxes_contain_the_ink(warp: str) -> None:
    """No box is empty, also after a warp."""
    style = replace(BLACK_ON_WHITE, warp=warp, warp_strength=(0.6, 0.6), turn=(-20, 20))
    image, boxes = pixels("A7KE2", style)
    ink = 255 - image[:, :, 0]
    inside = np.zeros_like(ink)
    for x0, y0, x1, y1 in boxes:
        assert ink[y0:y1, x0:x1].max() > 150
        inside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = 1
    assert (ink * inside).sum() > 0.97 * ink.sum()


@pytest.mark.parametrize("lettering", LETTERINGS)
@pytest.mark.parametrize("pitch", PITCHES)
def test_every_lettering_draws_each_character(lettering: str, pitch: str) -> None:
    style = replace(BLACK_ON_WHITE, lettering=lettering, pitch=pitch, ghost=20)
    image, boxes = pixels("8-0.5", style)
    for x0, y0, x1, y1 in boxes:
        assert image[y0:y1, x0:x1].min() < 150


@pytest.mark.parametrize("size", [(60, 20), (200, 50), (320, 80)])
def test_a_long_text_of_wide_characters_fits(size: tuple[int, int]) -> None:
    style = replace(BLACK_ON_WHITE, canvas=(60, 20), size=(0.8, 0.8), turn=(-30, 30))
    _, boxes = pixels("WMWMWMWMWMWM", style, *size)
    middles = [(x0 + x1) / 2 for x0, _, x1, _ in boxes]
    assert all(0 <= x0 < x1 <= size[0] for x0, _, x1, _ in boxes)
    assert min(b - a for a, b in itertools.pairwise(middles)) > size[0] / 40


def test_papers_and_clutter_are_visible() -> None:
    bare, _ = pixels("", BLACK_ON_WHITE)
    assert bare.min() == 255
    for paper in set(PAPERS) - {"plain"}:
        style = replace(BLACK_ON_WHITE, papers=((128, 128, 128),), paper=paper, contrast=0.5)
        image, _ = pixels("", style)
        assert image.min() < image.max(), paper
    for kind in CLUTTERS:
        for smooth in (False, True):
            clutter = Clutter(kind, count=(4, 4), over=smooth, smooth=smooth)
            image, _ = pixels("", replace(BLACK_ON_WHITE, clutter=(clutter,)))
            assert image.min() < 255, kind
    for colour in COLOURS:
        pixels("", replace(BLACK_ON_WHITE, clutter=(Clutter("lines", colour=colour),)))


def test_text_may_be_white_on_black_or_have_an_ink_for_each_character() -> None:
    image, boxes = pixels("HHH", replace(BLACK_ON_WHITE, papers=((0,) * 3,), inks=((255,) * 3,)))
    assert image.max() == 255
    assert np.median(image) == 0
    inks = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    image, boxes = pixels("HHH", replace(BLACK_ON_WHITE, inks=inks, ink_each=True))
    darkest = {
        tuple((image[y0:y1, x0:x1].min(axis=(0, 1)) < 100).tolist()) for x0, y0, x1, y1 in boxes
    }
    assert len(darkest) == 3


def test_a_symbol_that_the_fonts_lack_is_refused() -> None:
    assert "字" not in BLACK_ON_WHITE.symbols
    assert " " not in BLACK_ON_WHITE.symbols
    with pytest.raises(ValueError, match="字"):
        draw("A字", BLACK_ON_WHITE, 200, 50, np.random.default_rng(0))


def test_a_random_style_has_the_required_symbols() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        assert frozenset("ä7") <= random_style(shipped_fonts(), rng, frozenset("ä7")).symbols
    with pytest.raises(ValueError, match="no font"):
        random_style(shipped_fonts(), rng, frozenset("字"))


def test_fonts_are_read_from_folders_and_files(tmp_path: Path) -> None:
    first, second = (Path(font.path) for font in shipped_fonts()[:2])
    (tmp_path / "b.ttf").write_bytes(first.read_bytes())
    (tmp_path / "a.ttf").write_bytes(second.read_bytes())
    assert [Path(f.path).name for f in read_fonts([tmp_path, first])] == [
        "a.ttf", "b.ttf", first.name,
    ]  # fmt: skip
    (tmp_path / "c.ttf").write_bytes(b"no font")
    with pytest.raises(DataError, match=r"c\.ttf is no font"):
        Font.read(tmp_path / "c.ttf")
    with pytest.raises(DataError, match="there is no font"):
        read_fonts([])


def test_random_texts_have_all_allowed_symbols_and_lengths() -> None:
    rng = np.random.default_rng(0)
    texts = [random_text(frozenset("0123456789ab"), ALPHABET, rng) for _ in range(300)]
    assert {len(text) for text in texts} == set(range(1, 13))
    assert set("".join(texts)) == set("0123456789ab")


def test_numbers_and_sums_have_the_symbols_that_they_may() -> None:
    """A font may have a full stop and signs, but no comma and no colon."""
    symbols = frozenset("0123456789.-+=")
    rng = np.random.default_rng(0)
    texts = [random_text(symbols, ALPHABET, rng) for _ in range(300)]
    assert symbols.issuperset("".join(texts))
