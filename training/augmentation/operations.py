"""The operations of the augmentation: random distortions, each of a given amount."""

from collections.abc import Callable, Sequence

import numpy as np

from service.ocr.preprocessing import FloatArray
from training.augmentation import distortions
from training.augmentation.distortions import Level
from training.synthetic.glyphs import curve
from training.synthetic.manner import Manner

Operation = Callable[[FloatArray, float, np.random.Generator], FloatArray]
"""Takes a picture, an amount above 0 and a generator, and returns the distorted picture. Pictures
are float32 `(height, width)`, 0 black to 1 white, or `(height, width, 3)` in RGB."""

_CURVES = Manner().curves


def _either(amount: float, generator: np.random.Generator) -> float:
    return amount if generator.random() < 0.5 else -amount


def _either_way(
    picture: FloatArray, distort: Callable[[FloatArray], FloatArray], generator: np.random.Generator
) -> FloatArray:
    """Distorts along the width, or one time in three along the height."""
    if generator.random() < 1 / 3:
        return np.ascontiguousarray(distort(picture.swapaxes(0, 1)).swapaxes(0, 1))
    return distort(picture)


def _fill(picture: FloatArray, generator: np.random.Generator) -> Level:
    """The level around a picture: white, black, any level, or the level of its own border."""
    match generator.choice(4, p=(0.3, 0.3, 0.2, 0.2)):
        case 0:
            return 1.0
        case 1:
            return 0.0
        case 2:
            return _any(picture, generator)
        case _:
            return np.median(np.concatenate([picture[0], picture[-1]]), axis=0)


def _any(picture: FloatArray, generator: np.random.Generator) -> Level:
    """A random gray, or a random colour for a picture in RGB."""
    if picture.ndim == 2:
        return generator.random()
    return generator.random(3, np.float32)


def _rotation(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return distortions.affine(p, rotation=_either(amount, g), fill=_fill(p, g))


def _shear(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return distortions.affine(p, shear=_either(amount, g), fill=_fill(p, g))


def _scale(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    factor = (1 + amount) ** _either(1, g)
    return distortions.affine(p, scale_x=factor, scale_y=factor, fill=_fill(p, g))


def _aspect(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    factors = {str(g.choice(("scale_x", "scale_y"))): (1 + amount) ** _either(1, g)}
    return distortions.affine(p, **factors, fill=_fill(p, g))


def _shift(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    x, y = g.uniform(-amount, amount, 2)
    return distortions.affine(p, shift_x=x, shift_y=y, fill=_fill(p, g))


def _perspective(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    corners = g.uniform(-amount, amount, (4, 2)).astype(np.float32)
    return distortions.perspective(p, corners, fill=_fill(p, g))


def _wave(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return _either_way(
        p, lambda q: distortions.wave(q, amount, period=g.uniform(30, 200), phase=g.random()), g
    )


def _padding(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    # The same border in pixels on every side, as in a screenshot, or each side by itself.
    height, width = p.shape[:2]
    across = amount * height / width
    left, top, right, bottom = across, amount, across, amount
    if g.random() < 0.5:
        wide = max(across, amount / 2)
        left, top, right, bottom = g.random(4) * (wide, amount, wide, amount)
    return distortions.pad(p, left, top, right, bottom, _fill(p, g))


def _crop(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    left, top, right, bottom = -g.uniform(0, amount, 4)
    return distortions.pad(p, left, top, right, bottom)


def _motion_blur(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    if g.random() < 0.3:
        # Half as far down as across: strokes of a character are closer to each other vertically.
        turned = distortions.motion_blur(p.swapaxes(0, 1), 1 + round(amount / 2))
        return turned.swapaxes(0, 1)
    return distortions.motion_blur(p, 1 + round(amount))


def _rescale(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return distortions.rescale(p, 1 - amount, g.choice((0, 2, 3)))


def _contrast(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    if g.random() < 0.3:
        return distortions.contrast(p, 1 + 3 * amount)
    return distortions.contrast(p, 1 - amount, pivot=g.random())


def _tint(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    # The paper goes from white towards any colour, the ink from black, but never to the paper's.
    paper = 1 - amount * g.random(3)
    ink = amount * g.random(3)
    if abs(float((paper - ink).mean())) < 0.25:
        ink = np.zeros(3)
    if p.ndim == 3:
        # Each channel keeps its contrast: the other channels may not show the text.
        ink = np.where(abs(paper - ink) < 0.25, 0, ink)
    return distortions.tint(p, ink.astype(np.float32), paper.astype(np.float32))


def _shade(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    left, right = g.permutation((1.0, 1.0 - amount))
    return _either_way(p, lambda q: distortions.shade(q, left, right), g)


def _posterize(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return distortions.posterize(p, levels=2 + round(6 * (1 - amount)))


def _strokes(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    width = int(g.choice((1, 2, 3), p=(0.6, 0.3, 0.1)))
    return distortions.strokes(p, round(amount), width, _ink(p, g), g)


def _curves(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    height, width = p.shape[:2]
    level = np.asarray(_ink(p, g), np.float32)
    for _ in range(round(amount)):
        across: Sequence[float] = sorted(g.random(4), reverse=g.random() < 0.3)
        between = (0.05, 0.95)
        match g.integers(3):
            case 0:  # like the curves of generated pictures
                across = _CURVES[g.integers(len(_CURVES))]
            case 1:  # almost level, in the middle of the text, where a line turns a c into an e
                middle = g.uniform(0.3, 0.8)
                between = (middle - 0.12, middle + 0.12)
        cover = curve(width, height, across, g, between)
        p = p + (level - p) * (cover if p.ndim == 2 else cover[..., np.newaxis])
    return p


def _occlusions(p: FloatArray, amount: float, g: np.random.Generator) -> FloatArray:
    return distortions.occlude(p, round(amount), int(g.integers(3, 10)), _ink(p, g), g)


def _ink(picture: FloatArray, generator: np.random.Generator) -> Level:
    """The level of strokes and spots: black, white, or any level."""
    colour = _any(picture, generator)
    chance = generator.random()
    return 0.0 if chance < 0.5 else 1.0 if chance < 0.8 else colour


# Geometry first, then ink, light, resolution, noise and compression: the order in which they
# happen to a picture between the page and the upload.
OPERATIONS: dict[str, Operation] = {
    "rotation": _rotation,
    "shear": _shear,
    "scale": _scale,
    "aspect": _aspect,
    "shift": _shift,
    "perspective": _perspective,
    "wave": _wave,
    "thicken": lambda p, a, g: distortions.thicken(p) if a > 0.3 else p,
    "thin": lambda p, a, g: distortions.thin(p) if a > 0.3 else p,
    "strokes": _strokes,
    "curves": _curves,
    "occlusions": _occlusions,
    "crop": _crop,
    "padding": _padding,
    "tint": _tint,
    "shade": _shade,
    "inversion": lambda p, a, g: distortions.invert(p),
    "brightness": lambda p, a, g: distortions.brightness(p, _either(a, g)),
    "contrast": _contrast,
    "gamma": lambda p, a, g: distortions.gamma(p, (1 + a) ** _either(1, g)),
    "blur": lambda p, a, g: distortions.blur(p, a),
    "motion_blur": _motion_blur,
    "rescale": _rescale,
    "sharpen": lambda p, a, g: distortions.sharpen(p, round(a)),
    "gaussian_noise": distortions.gaussian_noise,
    "salt_and_pepper": distortions.salt_and_pepper,
    "posterize": _posterize,
    "jpeg": lambda p, a, g: distortions.jpeg(p, round(95 - a)),
}
