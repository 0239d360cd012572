"""The look of a family of generated pictures."""

from dataclasses import dataclass

Range = tuple[float, float]
"""The limits of a uniform distribution; each picture draws its own value."""


@dataclass(frozen=True, slots=True)
class Manner:
    """The look of generated pictures; the defaults give dark ink on light paper.

    Gray levels are 0 black to 1 white.
    """

    paper_left: Range = (0.65, 0.85)
    """Gray level of the paper at the picture's left edge."""
    paper_right: Range = (0.93, 1.0)
    """Gray level of the paper at the picture's right edge."""
    ink: Range = (0.0, 0.08)
    """Gray level of the ink."""
    noise: Range = (0.0, 0.01)
    """Standard deviation of the paper's grain."""
    left: Range = (0.04, 0.3)
    """Left edge of the text, as a share of the width."""
    middle: Range = (0.46, 0.54)
    """Vertical middle of the characters, as a share of the height."""
    size: Range = (0.58, 0.74)
    """Size of the font, as a share of the height."""
    stretch: Range = (0.8, 1.05)
    """Factor of the characters' widths."""
    spacing: Range = (-0.04, 0.03)
    """Space between two characters, as a share of the height; below 0 they overlap."""
    wave: Range = (0.0, 0.05)
    """Amplitude of the sine that the text follows, as a share of the height."""
    blur: Range = (0.0, 0.6)
    """Standard deviation of the blur, in pixels."""
    frayed: float = 0.45
    """Share of the characters with frayed edges."""
    curves: tuple[tuple[float, ...], ...] = ((0.1, 0.1, 0.25, 0.25), (0.1, 0.25, 0.5, 0.9))
    """Curves over the text: for each, the places of its control points as shares of the width."""
