"""The manner in which a family of pictures is drawn."""

from dataclasses import dataclass

Range = tuple[float, float]
"""Drawn from uniformly, for each picture anew."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What generated pictures look like; the defaults are any light paper with dark ink.

    Gray levels are 0 black to 1 white.
    """

    paper_left: Range = (0.65, 0.85)
    """Gray level of the paper at the picture's left edge."""
    paper_right: Range = (0.93, 1.0)
    """Likewise at its right edge."""
    ink: Range = (0.0, 0.08)
    """Gray level of the ink."""
    noise: Range = (0.0, 0.01)
    """Standard deviation of the paper's grain."""
    left: Range = (0.04, 0.3)
    """Where the text begins, in shares of the width."""
    middle: Range = (0.46, 0.54)
    """Where the middle of the characters is, in shares of the height."""
    size: Range = (0.58, 0.74)
    """Of the font, in shares of the height."""
    stretch: Range = (0.8, 1.05)
    """Factor of the characters' widths."""
    spacing: Range = (-0.04, 0.03)
    """Between two characters, in shares of the height; below 0 they overlap."""
    wave: Range = (0.0, 0.05)
    """Height of the sine along which the text goes up and down, in shares of the height."""
    blur: Range = (0.0, 0.6)
    """Standard deviation in pixels."""
    frayed: float = 0.45
    """Share of the characters with frayed edges."""
    curves: tuple[tuple[float, ...], ...] = ((0.1, 0.1, 0.25, 0.25), (0.1, 0.25, 0.5, 0.9))
    """Curves over the text, each by the places of its control points in shares of the width."""
