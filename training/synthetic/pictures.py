"""Pictures of short texts in very many styles, in colour, for any size.

`random_style` makes up a style, which a whole family of pictures shares. `draw` draws one text in a
style, each time a little different. The text is drawn on a small canvas of the family's own size,
and the canvas is then scaled to the requested size, as the service scales pictures.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from training.synthetic import displays
from training.synthetic.clutter import Clutter, add_clutter
from training.synthetic.fonts import Font
from training.synthetic.generate import Drawing
from training.synthetic.glyphs import Box
from training.synthetic.manner import Range
from training.synthetic.papers import PAPERS, Colour, grain, shifted
from training.synthetic.sampling import Random, one_of
from training.synthetic.warps import WARPS, Field, Points, mesh_of, warped

LETTERINGS = (
    "solid", "thick", "thin", "outlined", "hollow", "doubled", "shadowed", "dotted", "striped",
    "eroded", "shaded", "seven segments", "fourteen segments", "dot matrix",
)  # fmt: skip
PITCHES = ("ink", "advance", "cells")
_INKED = 40
"""Least level, 0 to 255, of a pixel that counts as ink."""
_MARGIN = 0.02
"""Margin around the text, as a share of the canvas."""
_ROOM = 1 - 2 * _MARGIN
_NARROWEST = 0.6
"""Least factor by which a text is narrowed to fit; after that, its size is reduced."""
_SMALLEST = 7.5
"""Least legible height of a capital, in pixels."""
_EDGE = 2
"""Empty pixels around a drawn character."""


@dataclass(frozen=True, slots=True)
class Style:
    """The look that a family's pictures share; each picture draws its own value from a range.

    Args:
        fonts: the fonts of the texts; letterings of segments do not use them.
        canvas: the family's own width and height in pixels.
        font_each: whether the font is chosen for each character instead of each text.
        lettering: one of `LETTERINGS`.
        pitch: one of `PITCHES`: characters are spaced by their ink or by their advance, or each
            stands in the middle of a cell.
        papers, inks: colours to choose from.
        ink_each: whether the ink is chosen for each character instead of each text.
        edge: the colour of outlines and shadows.
        paper: one of `PAPERS`.
        contrast: greatest distance of the paper from its colour, 0 to 1.
        vary: greatest change of a colour from picture to picture, 0 to 255.
        size: height of a capital, as a share of the height of the picture.
        stretch: factor of the characters' widths.
        spacing: space between characters, as a share of a capital's height; below 0 they overlap.
        left, middle: position of the text within the free space, 0 to 1.
        turn: rotation of each character, in degrees.
        shear: shear of each character, as a share of its height.
        shift: vertical shift of each character, as a share of a capital's height.
        scale: factor of the size of each character.
        slope: slope of the whole text, in degrees.
        opacity: opacity of the ink, 0 to 1.
        warp: one of `WARPS`, or an empty text for no warp.
        warp_strength: strength of the warp, 0 to 1.
        clutter: clutter under and over the text.
        noise: standard deviation of the grain, 0 to 255.
        speckles: share of the pixels that are replaced.
        blur: standard deviation of the blur, in pixels of the canvas.
        jpeg: JPEG quality, or 0 for no compression.
        levels: factor of the contrast; below 1, the picture is faded.
        glare: chance of a bright spot.
    """

    fonts: tuple[Font, ...]
    canvas: tuple[int, int] = (200, 50)
    font_each: bool = False
    lettering: str = "solid"
    pitch: str = "ink"
    papers: tuple[Colour, ...] = ((240, 240, 240),)
    inks: tuple[Colour, ...] = ((20, 20, 20),)
    ink_each: bool = False
    edge: Colour = (120, 120, 120)
    paper: str = "plain"
    contrast: float = 0.1
    vary: float = 10.0
    size: Range = (0.5, 0.6)
    stretch: Range = (0.95, 1.05)
    spacing: Range = (0.05, 0.15)
    left: Range = (0.3, 0.7)
    middle: Range = (0.4, 0.6)
    turn: Range = (-3.0, 3.0)
    shear: Range = (0.0, 0.0)
    shift: Range = (-0.03, 0.03)
    scale: Range = (0.97, 1.03)
    slope: Range = (0.0, 0.0)
    opacity: Range = (1.0, 1.0)
    warp: str = ""
    warp_strength: Range = (0.3, 1.0)
    clutter: tuple[Clutter, ...] = ()
    noise: Range = (0.0, 0.0)
    speckles: Range = (0.0, 0.0)
    blur: Range = (0.0, 0.0)
    jpeg: int = 0
    levels: Range = (1.0, 1.0)
    glare: float = 0.0
    thickness: float = 0.12
    """Thickness of segments, as a share of their height; outlines have a third of it."""
    ghost: int = 0
    """Level of unlit segments of a display, 0 to 255."""
    cell: float = 1.0
    """Greatest free space in a cell, as a share of the width of the widest character."""
    dot_rows: int = 7
    dot_size: float = 0.8
    round_dots: bool = True

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols that the style can draw: all its fonts, or its segments, have them."""
        if self.lettering in displays.SEGMENT_SYMBOLS:
            return displays.SEGMENT_SYMBOLS[self.lettering]
        return frozenset.intersection(*(font.symbols for font in self.fonts))


@dataclass(slots=True)
class _Mark:
    """A character's ink, and its place.

    Args:
        fill: the ink.
        ring: an outline or shadow, as large as the ink.
        left, top: the corner of both, relative to the character's place on the baseline.
        advance: distance to the place of the next character.
        capital: height of a capital of this size.
        box: the box of the visible ink within `fill` and `ring`.
        x, y: the place on the baseline.
    """

    fill: Image.Image
    ring: Image.Image | None
    left: float
    top: float
    advance: float
    capital: float
    box: Box = (0, 0, 0, 0)
    x: float = 0.0
    y: float = 0.0

    @property
    def inked(self) -> int:
        """Width of the visible ink."""
        return self.box[2] - self.box[0]

    def box_at(self, left: float, top: float) -> tuple[float, float, float, float]:
        """The box of the visible ink, if the corner is at this place."""
        x0, y0, x1, y1 = self.box
        return left + x0, top + y0, left + x1, top + y1


def draw(text: str, style: Style, width: int, height: int, rng: Random) -> Drawing:
    """Draws one text: an RGB picture of `width`×`height` pixels, and each character's box.

    Args:
        text: a text of the style's symbols; an empty text gives a picture of paper and clutter.

    Raises:
        ValueError: the style lacks a symbol of the text.
    """
    if missing := set(text) - style.symbols:
        raise ValueError(f"the fonts of this style lack {''.join(sorted(missing))!r}")
    across, down = style.canvas
    paper = shifted(one_of(style.papers, rng), style.vary, rng)
    inks = tuple(shifted(ink, style.vary, rng) for ink in style.inks)
    picture = PAPERS[style.paper](across, down, paper, style.contrast, rng)
    for clutter in style.clutter:
        if not clutter.over:
            add_clutter(picture, clutter, inks, paper, rng)
    boxes: list[tuple[float, float, float, float]] = []
    if text:
        boxes = _write(picture, text, style, inks, rng)
    for clutter in style.clutter:
        if clutter.over:
            add_clutter(picture, clutter, inks, paper, rng)
    picture = _degrade(picture, style, rng)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    sx, sy = width / across, height / down
    return Drawing(
        picture,
        text,
        tuple(
            (
                max(0, math.floor(x0 * sx)), max(0, math.floor(y0 * sy)),
                min(width, math.ceil(x1 * sx)), min(height, math.ceil(y1 * sy)),
            )
            for x0, y0, x1, y1 in boxes
        ),
    )  # fmt: skip


def _write(
    picture: Image.Image, text: str, style: Style, inks: Sequence[Colour], rng: Random
) -> list[tuple[float, float, float, float]]:
    """Writes the text on the picture; returns the boxes of its characters."""
    across, down = picture.size
    marks = _marks(text, style, across, down, rng)
    _place(marks, style, across, down, rng)
    ink = one_of(inks, rng)
    own = [ink] * len(marks)
    if style.ink_each:
        order = rng.permutation(len(inks)).tolist()
        own = [inks[order[number % len(inks)]] for number in range(len(marks))]
    shaded = style.lettering == "shaded"
    cover = Image.new("L", picture.size)
    colours = Image.new("RGB", picture.size, ink)
    if shaded and not style.ink_each:
        colours = PAPERS["gradient"](across, down, ink, 0.4, rng)
    boxes = []
    for mark, colour in zip(marks, own, strict=True):
        place = (round(mark.x + mark.left), round(mark.y + mark.top))
        boxes.append(mark.box_at(*place))
        _stamp(cover, mark.fill, place)
        if mark.ring is not None:
            _stamp(cover, mark.ring, place)
            colours.paste(style.edge, place, mark.ring.point(_HARD))
            colours.paste(colour, place, mark.fill)
        elif style.ink_each and not shaded:
            colours.paste(colour, place, mark.fill.point(_HARD))
    if style.warp:
        field_ = WARPS[style.warp](across, down, rng.uniform(*style.warp_strength), rng)
        mesh = mesh_of(across, down, field_)
        cover = warped(cover, mesh)
        colours = warped(colours, mesh)
        boxes = _moved(boxes, field_)
    opacity = rng.uniform(*style.opacity)
    if opacity < 1:
        cover = cover.point([round(level * opacity) for level in range(256)])
    picture.paste(colours, (0, 0), cover)
    return boxes


_HARD = [255 if level > 8 else 0 for level in range(256)]


def _stamp(cover: Image.Image, mask: Image.Image, place: tuple[int, int]) -> None:
    """Adds ink to a cover; where both have ink, the greater level stays."""
    x, y = place
    box = (x, y, x + mask.width, y + mask.height)
    cover.paste(ImageChops.lighter(cover.crop(box), mask), box)


def _moved(
    boxes: list[tuple[float, float, float, float]], field_: Field
) -> list[tuple[float, float, float, float]]:
    """The boxes after a warp, by where it moves the middles of their edges."""
    x0, y0, x1, y1 = np.array(boxes, float).T
    x, y = (x0 + x1) / 2, (y0 + y1) / 2

    def to(points: Points) -> NDArray[np.float64]:
        # The pixel at q comes from q + field(q): two rounds find q for a given point.
        found = points - field_(points)
        return points - field_(found)

    left = to(np.column_stack((x0, y)))[:, 0]
    right = to(np.column_stack((x1, y)))[:, 0]
    top = to(np.column_stack((x, y0)))[:, 1]
    bottom = to(np.column_stack((x, y1)))[:, 1]
    return list(zip(left.tolist(), top.tolist(), right.tolist(), bottom.tolist(), strict=True))


def _marks(text: str, style: Style, across: int, down: int, rng: Random) -> list[_Mark]:
    """The ink of each character, in a random size, narrowed and reduced to fit the width."""
    capital = max(_SMALLEST, rng.uniform(*style.size) * down)
    stretch = rng.uniform(*style.stretch)
    font = one_of(style.fonts, rng)
    fonts = [one_of(style.fonts, rng) if style.font_each else font for _ in text]
    widths = [_width(symbol, f, style) for symbol, f in zip(text, fonts, strict=True)]
    spacing = max(0.0, sum(style.spacing) / 2) * (len(text) - 1)
    room = across * _ROOM
    wide = (sum(widths) * stretch + spacing) * capital
    if wide > room:
        narrower = max(_NARROWEST, room / wide)
        stretch *= narrower
        capital = max(0.75 * _SMALLEST, capital * min(1.0, room / (wide * narrower)))
    slope = rng.uniform(*style.slope)
    return [
        _mark(symbol, f, style, capital, stretch, slope, rng)
        for symbol, f in zip(text, fonts, strict=True)
    ]


def _width(symbol: str, font: Font, style: Style) -> float:
    """Width of a character, as a share of a capital's height."""
    if style.lettering in displays.SEGMENT_SYMBOLS:
        return 0.2 if symbol in ".:" else 0.55
    return font.width(symbol) / font.capital


def _mark(
    symbol: str, font: Font, style: Style, capital: float, stretch: float, slope: float, rng: Random
) -> _Mark:
    """One character, turned, sheared and scaled."""
    capital *= rng.uniform(*style.scale)
    if style.lettering in displays.SEGMENT_SYMBOLS:
        mark = _segment_mark(symbol, style, capital)
    elif style.lettering == "dot matrix":
        mark = _dot_mark(symbol, font, style, capital)
    else:
        mark = _printed_mark(symbol, font, style, capital, rng)
    ratio = capital / mark.capital
    turn, shear = math.radians(rng.uniform(*style.turn) + slope), rng.uniform(*style.shear)
    if turn or shear or abs(ratio - 1) > 0.03 or abs(ratio * stretch - 1) > 0.03:
        _transform(mark, ratio, stretch, turn, shear)
    mark.advance = mark.advance * ratio * stretch
    whole = mark.fill if mark.ring is None else ImageChops.lighter(mark.fill, mark.ring)
    mark.box = whole.point(_SEEN).getbbox() or (0, 0, *whole.size)
    return mark


_SEEN = [255 if level >= _INKED else 0 for level in range(256)]


def _transform(mark: _Mark, ratio: float, stretch: float, turn: float, shear: float) -> None:
    """Scales, stretches, shears and turns (in radians) a character about its middle."""
    width, height = mark.fill.size
    sine, cosine = math.sin(turn), math.cos(turn)
    lean = -shear * ratio
    # The matrix ((a, b), (c, d)) takes the old ink to the new ink, both from their middles.
    a, b = ratio * stretch * cosine, lean * cosine - ratio * sine
    c, d = ratio * stretch * sine, lean * sine + ratio * cosine
    wide = math.ceil(abs(a) * width + abs(b) * height) + 2
    tall = math.ceil(abs(c) * width + abs(d) * height) + 2
    # Pillow needs the inverse, from the corners.
    area = a * d - b * c
    ia, ib, ic, id_ = d / area, -b / area, -c / area, a / area
    x, y = (width - ia * wide - ib * tall) / 2, (height - ic * wide - id_ * tall) / 2

    def transformed(image: Image.Image) -> Image.Image:
        return image.transform(
            (wide, tall), Image.Transform.AFFINE, (ia, ib, x, ic, id_, y),
            Image.Resampling.BILINEAR,
        )  # fmt: skip

    mark.fill = transformed(mark.fill)
    mark.ring = mark.ring and transformed(mark.ring)
    mark.left = (mark.left + width / 2) * ratio * stretch - wide / 2
    mark.top = (mark.top + height / 2) * ratio - tall / 2


def _segment_mark(symbol: str, style: Style, capital: float) -> _Mark:
    """An upright character of segments."""
    tall = max(6, round(capital))
    wide = max(4, round(0.55 * tall))
    fourteen = style.lettering == "fourteen segments"
    image = displays.segments(symbol, tall, wide, style.thickness, fourteen)
    if style.ghost and symbol not in ".:":
        unlit = displays.segments("*" if fourteen else "8", tall, wide, style.thickness, fourteen)
        faint = unlit.point([level * style.ghost // 255 for level in range(256)])
        image = ImageChops.lighter(image, faint)
    return _Mark(image, None, 0.0, -float(tall), image.width + 0.15 * tall, float(tall))


def _dot_mark(symbol: str, font: Font, style: Style, capital: float) -> _Mark:
    """An upright character of dots."""
    rows = style.dot_rows
    pitch = max(2, round(capital / rows))
    image = displays.dots(symbol, font, rows, pitch, style.dot_size, style.round_dots)
    top = -float((rows + 2) * pitch)
    return _Mark(image, None, 0.0, top, float(image.width + pitch), float(rows * pitch))


def _printed_mark(symbol: str, font: Font, style: Style, capital: float, rng: Random) -> _Mark:
    """An upright character of a font."""
    kind = style.lettering
    em = max(6, round(capital / font.capital))
    # Drawn at the final size, so that characters are scaled as little as possible.
    drawn = font.sized(em)
    heavy = 0
    if kind in ("thick", "outlined", "hollow"):
        heavy = max(1, round(style.thickness * capital / 3))
    x0, y0, x1, y1 = (round(v) for v in drawn.getbbox(symbol, anchor="ls", stroke_width=heavy))
    size = (max(1, x1 - x0) + 2 * _EDGE, max(1, y1 - y0) + 2 * _EDGE)
    origin = (_EDGE - x0, _EDGE - y0)

    def ink(stroke: int) -> Image.Image:
        image = Image.new("L", size)
        ImageDraw.Draw(image).text(
            origin, symbol, fill=255, font=drawn, anchor="ls", stroke_width=stroke
        )
        return image

    fill, ring = ink(heavy if kind == "thick" else 0), None
    match kind:
        case "outlined":
            ring = ink(heavy)
        case "hollow":
            fill = ImageChops.subtract(ink(heavy), fill)
        case "thin":
            if capital >= 22:
                fill = fill.filter(ImageFilter.MinFilter(3))
        case "doubled":
            by = max(1, round(0.06 * capital))
            fill = ImageChops.lighter(
                fill, ImageChops.offset(fill, by if size[0] > 2 * by else 0, 0)
            )
        case "shadowed":
            by = max(1, round(style.thickness * capital / 2))
            grown = Image.new("L", (size[0] + by, size[1] + by))
            grown.paste(fill, (0, 0))
            ring = Image.new("L", grown.size)
            ring.paste(fill, (by, by))
            fill = grown
        case "dotted" | "striped":
            fill = ImageChops.multiply(fill, _lattice(*size, kind, max(3, round(capital / 8)), rng))
        case "eroded":
            holes = grain(size[0], size[1], True, rng)[:, :, 0] < 50
            fill = ImageChops.multiply(fill, Image.fromarray(holes.astype(np.uint8) * 255))
    left, top, advance = float(x0 - _EDGE), float(y0 - _EDGE), drawn.getlength(symbol)
    return _Mark(fill, ring, left, top, advance, em * font.capital)


def _lattice(width: int, height: int, kind: str, step: int, rng: Random) -> Image.Image:
    rows, columns = np.indices((height, width))
    if kind == "dotted":
        on = (rows % step < step - 1) & (columns % step < step - 1)
    else:
        on = (rows + int(step * rng.random())) % step < max(1, step - 1 - step // 4)
    return Image.fromarray(on.astype(np.uint8) * 255)


def _place(marks: Sequence[_Mark], style: Style, across: int, down: int, rng: Random) -> None:
    """Sets the places of the characters, so that the whole text is on the canvas."""
    capital = max(mark.box[3] - mark.box[1] for mark in marks)
    spacing = rng.uniform(*style.spacing) * capital
    if style.pitch == "cells" and len(marks) > 1:
        _place_in_cells(marks, style, across, rng)
    else:
        _place_in_line(marks, style, spacing, across, rng)
    slope = math.tan(math.radians(sum(style.slope) / 2))
    for mark in marks:
        mark.y = rng.uniform(*style.shift) * capital + (mark.x - across / 2) * slope
    boxes = [mark.box_at(mark.x + mark.left, mark.y + mark.top) for mark in marks]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    free = down * _ROOM - (max(bottoms) - min(tops))
    down_by = down * _MARGIN - min(tops) + free * (rng.uniform(*style.middle) if free > 0 else 0.5)
    aside = max(0.0, across * _MARGIN / 2 - min(lefts))
    aside -= max(0.0, max(rights) - across * (1 - _MARGIN / 2))
    for mark in marks:
        mark.x += aside
        mark.y += down_by


def _place_in_cells(marks: Sequence[_Mark], style: Style, across: int, rng: Random) -> None:
    """Puts each character near the middle of a cell; all cells are equally wide."""
    room = across * _ROOM
    widest = max(mark.inked for mark in marks)
    cell = max(min(room / len(marks), widest * (1 + style.cell)), widest * 0.85)
    total = cell * len(marks)
    squeeze = min(1.0, room / total)
    x = across * _MARGIN + max(0.0, room - total * squeeze) * rng.uniform(*style.left)
    for mark in marks:
        jitter = max(0.0, cell - mark.inked) * (rng.random() - 0.5) * 0.3
        mark.x = x + (cell * squeeze - mark.inked) / 2 - mark.box[0] - mark.left + jitter
        x += cell * squeeze


def _place_in_line(
    marks: Sequence[_Mark], style: Style, spacing: float, across: int, rng: Random
) -> None:
    """Puts the characters one after the other, by their ink or by their advance."""
    advancing = style.pitch == "advance"
    steps = [mark.advance if advancing else mark.inked for mark in marks]
    room, last = across * _ROOM, steps[-1]
    total = sum(steps) + spacing * (len(marks) - 1)
    squeeze = 1.0
    if total > room and len(marks) > 1:
        # Turned characters may still be too wide; then they overlap.
        squeeze = max(0.3, (room - last) / max(1.0, total - last))
    wide = (total - last) * squeeze + last
    x = across * _MARGIN + max(0.0, room - wide) * rng.uniform(*style.left)
    for mark, step in zip(marks, steps, strict=True):
        mark.x = x
        if not advancing:
            mark.x = x - (mark.left + mark.box[0]) + spacing * 0.3 * (rng.random() - 0.5)
        x += (step + spacing) * squeeze


def _degrade(picture: Image.Image, style: Style, rng: Random) -> Image.Image:
    """Adds the blur, glare, faded contrast, noise, speckles and JPEG of the style."""
    blur, noise = rng.uniform(*style.blur), rng.uniform(*style.noise)
    speckles, levels = rng.uniform(*style.speckles), rng.uniform(*style.levels)
    if blur > 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    if style.glare and rng.random() < style.glare:
        spot = Image.new("L", (6, 3))
        spot.putpixel(
            (1 + int(4 * rng.random()), int(3 * rng.random())), 90 + int(130 * rng.random())
        )
        picture.paste((255, 255, 255), (0, 0), spot.resize(picture.size, Image.Resampling.BICUBIC))
    if levels < 0.98:
        middle = 60 + 140 * rng.random()
        picture = picture.point([round(middle + (v - middle) * levels) for v in range(256)] * 3)
    if noise > 1 or speckles > 0.001:
        pixels = np.asarray(picture).copy()
        if noise > 1:
            added = grain(*picture.size, rng.random() < 0.5, rng) * np.float32(noise / 64)
            pixels = (pixels + added).clip(0, 255).astype(np.uint8)
        count = int(speckles * pixels.shape[0] * pixels.shape[1])
        if count:
            flat = pixels.reshape(-1, 3)
            places = (rng.random(count) * len(flat)).astype(int)
            if rng.random() < 0.5:
                flat[places] = rng.integers(0, 256, (count, 3), np.uint8)
            else:
                flat[places] = (rng.random((count, 1)) < 0.5) * 255
        picture = Image.fromarray(pixels)
    if style.jpeg:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=style.jpeg)
        picture = Image.open(file)
        picture.load()
    return picture
