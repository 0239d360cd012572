"""Makes up styles of pictures that differ as families of captchas, plates and displays do."""

from collections.abc import Sequence

from training.synthetic.clutter import Clutter
from training.synthetic.displays import SEGMENT_SYMBOLS
from training.synthetic.fonts import Font
from training.synthetic.manner import Range
from training.synthetic.papers import PAPERS, Colour, shifted
from training.synthetic.pictures import Style
from training.synthetic.sampling import Random, one_of, weighted
from training.synthetic.warps import WARPS

_LETTERINGS = {
    "solid": 100, "thick": 14, "thin": 5, "outlined": 9, "hollow": 9, "doubled": 5, "shadowed": 8,
    "dotted": 4, "striped": 3, "eroded": 7, "shaded": 6, "seven segments": 9,
    "fourteen segments": 3, "dot matrix": 8,
}  # fmt: skip
_PAPERS = {
    "plain": 34, "gradient": 14, "clouds": 10, "grain": 9, "photo": 8, "stripes": 5, "tiles": 5,
    "blots": 6, "panel": 5,
}  # fmt: skip
_CLUTTERS = {
    "lines": 22, "curves": 14, "arcs": 10, "waves": 8, "dots": 22, "circles": 8, "grid": 6,
    "strike": 8, "dashes": 8, "triangles": 3, "crosses": 3,
}  # fmt: skip
_SMALL = {"dots": 45.0, "dashes": 25.0, "crosses": 12.0, "circles": 9.0, "triangles": 6.0}
"""Greatest number of shapes of each small kind of clutter."""

_ENOUGH_LUMA = 70.0
"""Least difference in luma, 0 to 255, between ink and papers."""
_ENOUGH_COLOUR = 110.0
"""Least difference in a channel, 0 to 255, between ink and papers of the same luma."""
_TURNED = (0.0, 4.0, 10.0, 20.0, 32.0)
"""Rotations of characters to choose from, in degrees."""


def random_style(
    fonts: Sequence[Font],
    rng: Random,
    symbols: frozenset[str] | None = None,
    hardest: float = 1.0,
) -> Style:
    """Makes up a style.

    Args:
        fonts: fonts to choose from.
        symbols: symbols that the style must be able to draw; without them, any style will do.
        hardest: greatest difficulty, 0 to 1: how far characters turn, how much clutter there is.

    Raises:
        ValueError: no font has all the symbols.
    """
    if symbols:
        fonts = [font for font in fonts if symbols <= font.symbols]
        if not fonts:
            raise ValueError("no font has all the symbols")
    hard = hardest * float(rng.random()) ** 1.3
    lettering = _lettering(symbols, rng)
    chosen = tuple(one_of(fonts, rng) for _ in range(one_of((1, 1, 1, 2, 4, 8), rng)))
    papers, inks, edge = _colours(rng)
    turn = one_of(_TURNED, rng) * (0.5 + hard) * 0.9
    display = lettering in SEGMENT_SYMBOLS or lettering == "dot matrix"
    if display:
        turn *= 0.15
    photographed = display and rng.random() < 0.5
    size = 0.3 + 0.42 * rng.random() if rng.random() < 0.85 else 0.72 + 0.14 * rng.random()
    strongly = 1.0 if rng.random() < 0.5 else 0.4
    level = 0.55 + 0.45 * rng.random() if hard > 0.4 and rng.random() < 0.3 else 1.0
    return Style(
        fonts=chosen,
        canvas=_canvas(rng),
        font_each=len(chosen) > 1 and rng.random() < 0.6,
        lettering=lettering,
        pitch=one_of(("ink", "ink", "advance", "cells"), rng),
        papers=papers,
        inks=inks,
        ink_each=len(inks) > 1 and rng.random() < 0.7,
        edge=edge,
        paper=weighted(_PAPERS, rng),
        contrast=rng.uniform(0.03, 0.1 + 0.25 * hard),
        vary=one_of((0.0, 4.0, 10.0, 25.0), rng),
        size=_around(size, 0.06 * hard),
        stretch=_around(0.75 + 0.55 * rng.random(), 0.08 * rng.random()),
        spacing=_around(_spacing(hard, rng), 0.03),
        left=one_of(((0.4, 0.6), (0.0, 1.0), (0.0, 0.15), (0.5, 0.5)), rng),
        middle=one_of(((0.4, 0.6), (0.1, 0.9), (0.5, 0.5)), rng),
        turn=_around(0.0, turn),
        shear=_around((rng.random() - 0.5) * 0.5, 0.1 * hard)
        if rng.random() < 0.35
        else (0.0, 0.0),
        shift=_around(0.0, one_of((0.02, 0.02, 0.22 * hard, 0.22 * hard, 0.5 * hard), rng)),
        scale=_around(1.0, 0.0 if rng.random() < 0.5 else 0.14 * hard),
        slope=_around((rng.random() - 0.5) * 8, 2.0) if rng.random() < 0.2 else (0.0, 0.0),
        opacity=(level, min(1.0, level + 0.1)),
        warp=_warp(hard, photographed, rng),
        warp_strength=(0.1, 0.2 + 0.7 * hard),
        clutter=_clutter(hard, strongly, rng),
        noise=_around(rng.uniform(0.0, 26.0) * strongly, 3.0) if rng.random() < 0.4 else (0.0, 0.0),
        speckles=(0.0, 0.05 * hard) if rng.random() < 0.25 * hard else (0.0, 0.0),
        blur=_around(0.1 + 0.9 * rng.random() * strongly, 0.15)
        if photographed or rng.random() < 0.3
        else (0.0, 0.3),
        jpeg=int(rng.uniform(25, 92)) if photographed or rng.random() < 0.3 else 0,
        levels=_around(0.45 + 0.4 * rng.random(), 0.1) if rng.random() < 0.12 else (1.0, 1.0),
        glare=0.8 if rng.random() < (0.4 if photographed else 0.05) else 0.0,
        thickness=0.09 + 0.09 * rng.random(),
        ghost=int(rng.uniform(8, 38)) if rng.random() < 0.35 else 0,
        cell=one_of((0.2, 0.6, 1.2, 8.0), rng),
        dot_rows=one_of((7, 7, 8, 9, 11), rng),
        dot_size=0.65 + 0.35 * rng.random(),
        round_dots=bool(rng.random() < 0.6),
    )


def _warp(hard: float, photographed: bool, rng: Random) -> str:
    if photographed:
        return "perspective"
    return str(one_of(tuple(WARPS), rng)) if rng.random() < 0.15 + 0.3 * hard else ""


def _lettering(symbols: frozenset[str] | None, rng: Random) -> str:
    while True:
        kind = weighted(_LETTERINGS, rng)
        if not symbols or kind not in SEGMENT_SYMBOLS or symbols <= SEGMENT_SYMBOLS[kind]:
            return kind


def _around(value: float, by: float) -> Range:
    return float(value - by), float(value + by)


def _canvas(rng: Random) -> tuple[int, int]:
    """Width and height, 60×20 to about 200×70 pixels; larger sizes look the same once reduced."""
    height = round(20 + 48 * rng.random() ** 0.8)
    shape = 2.0 * 2.4 ** float(rng.random()) if rng.random() < 0.85 else 1.5 + 5 * rng.random()
    return max(50, min(260, round(height * shape))), height


def _spacing(hard: float, rng: Random) -> float:
    """Space between characters as a share of a capital's height: apart, touching or overlapping."""
    kind = rng.random()
    if kind < 0.5:
        return 0.06 + 0.3 * rng.random()
    if kind < 0.85:
        return -0.03 + 0.12 * rng.random()
    return -0.04 - 0.12 * hard


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _far(a: Colour, b: Colour) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _colour(rng: Random) -> Colour:
    if rng.random() < 0.35:
        level = int(256 * rng.random())
        return level, level, level
    r, g, b = (rng.random(3) * 256).astype(int).tolist()
    if rng.random() < 0.4:  # more saturated
        low, high = min(r, g, b), max(r, g, b, 1)
        r, g, b = (round((v - low) / (high - low + 1) * 255) for v in (r, g, b))
    return r, g, b


def _ink_for(papers: Sequence[Colour], same_luma: bool, rng: Random) -> Colour:
    """A colour that a person can distinguish from the papers."""
    best, most = (0, 0, 0), -1.0
    for _ in range(24):
        ink = _colour(rng)
        luma = min(abs(_luma(ink) - _luma(paper)) for paper in papers)
        far = min(_far(ink, paper) for paper in papers)
        if same_luma:
            if luma < 40 and far > _ENOUGH_COLOUR:
                return ink
            worth = far - luma
        else:
            if luma > _ENOUGH_LUMA:
                return ink
            worth = luma
        if worth > most:
            best, most = ink, worth
    return best


def _colours(rng: Random) -> tuple[tuple[Colour, ...], tuple[Colour, ...], Colour]:
    """The colours of papers, inks and edges."""
    kind = rng.random()
    if kind < 0.5:  # light
        level = 255 - int(50 * rng.random())
        paper = (255, 255, 255) if rng.random() < 0.35 else shifted((level,) * 3, 30, rng)
    elif kind < 0.68:  # dark
        paper = (0, 0, 0) if rng.random() < 0.3 else shifted((40, 40, 40), 45, rng)
    else:
        paper = _colour(rng)
    papers = (paper,)
    same_luma = rng.random() < 0.1
    if not same_luma and rng.random() < 0.35:
        dark = _luma(paper) > 128
        level = int(60 * rng.random())
        ink = (level,) * 3 if dark else (255 - level,) * 3
        inks: tuple[Colour, ...] = (ink,)
    else:
        count = 1 if rng.random() < 0.5 else 6
        inks = tuple(_ink_for(papers, same_luma, rng) for _ in range(count))
    if rng.random() < 0.5:
        return papers, inks, _ink_for((*papers, inks[0]), False, rng)
    r, g, b = ((p + i) // 2 for p, i in zip(paper, inks[0], strict=True))
    return papers, inks, shifted((r, g, b), 20, rng)


def _clutter(hard: float, strongly: float, rng: Random) -> tuple[Clutter, ...]:
    if rng.random() < 0.5 - 0.3 * hard:
        return ()
    found = []
    for _ in range(1 + int(rng.random() * (1 + 2 * hard))):
        kind = weighted(_CLUTTERS, rng)
        over = bool(rng.random() < 0.6)
        most = _SMALL.get(kind, 3.0 if over else 7.0) * (0.4 + 0.6 * hard)
        most = 1.0 if kind in ("grid", "strike") else max(1.0, most)
        colour = weighted({"ink": 40, "any": 25, "paper": 8 if over else 0, "faint": 27}, rng)
        thick = 0.015 + 0.05 * hard * rng.random() * strongly
        if kind == "grid" and over:
            colour, thick = ("faint" if colour == "any" else colour), 0.01
        if kind == "dots":
            thick *= 2
        found.append(
            Clutter(kind, (max(1.0, most / 3), most), (thick * 0.7, thick * 1.3), colour, over,
                    bool(rng.random() < 0.5))
        )  # fmt: skip
    return tuple(found)


assert set(_PAPERS) == set(PAPERS)
