"""The fixed distortions under which a model is evaluated, each by a stated amount.

A person can still read a picture after any of them. The amounts are independent of training:
`training.augmentation.policy` has its own ranges and chances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.ocr.preprocessing import FloatArray
from training.augmentation import distortions as d

Distortion = Callable[[FloatArray, np.random.Generator], FloatArray]


@dataclass(frozen=True, slots=True)
class Condition:
    """One distortion by one amount, and the family of the distortion."""

    family: str
    name: str
    distort: Distortion


def _fixed(function: Callable[..., FloatArray], *amounts: Any, **named: Any) -> Distortion:
    return lambda picture, generator: function(picture, *amounts, **named)


def _drawn(function: Callable[..., FloatArray], *amounts: Any) -> Distortion:
    return lambda picture, generator: function(picture, *amounts, generator)


def _pad_pixels(picture: FloatArray, pixels: int, fill: float) -> FloatArray:
    height, width = picture.shape[:2]
    across, down = pixels / width, pixels / height
    return d.pad(picture, across, down, across, down, fill)


def _perspective(picture: FloatArray, generator: np.random.Generator) -> FloatArray:
    corners = generator.uniform(-0.07, 0.07, (4, 2)).astype(np.float32)
    return d.perspective(picture, corners)


def _screenshot(picture: FloatArray, generator: np.random.Generator) -> FloatArray:
    return d.jpeg(d.rescale(_pad_pixels(picture, 6, 1.0), 0.7), 40)


def _photograph(picture: FloatArray, generator: np.random.Generator) -> FloatArray:
    turned = d.affine(picture, rotation=4, fill=0.8)
    return d.gaussian_noise(d.blur(d.shade(turned, 1.0, 0.6), 0.8), 0.05, generator)


_BLUE, _YELLOW = np.array((0.1, 0.1, 0.6), np.float32), np.array((1.0, 0.95, 0.5), np.float32)

CONDITIONS = (
    Condition("clean", "as it is", lambda picture, generator: picture),
    Condition("rotation", "3° left", _fixed(d.affine, rotation=3)),
    Condition("rotation", "6° right", _fixed(d.affine, rotation=-6)),
    Condition("rotation", "9° left on black", _fixed(d.affine, rotation=9, fill=0.0)),
    Condition("shear", "0.2", _fixed(d.affine, shear=0.2)),
    Condition("shear", "-0.35", _fixed(d.affine, shear=-0.35)),
    Condition("scale", "0.8", _fixed(d.affine, scale_x=0.8, scale_y=0.8)),
    Condition("scale", "1.15", _fixed(d.affine, scale_x=1.15, scale_y=1.15)),
    Condition("aspect", "0.75", _fixed(d.affine, scale_x=0.75)),
    Condition("shift", "10 px right, 4 px down", _fixed(d.affine, shift_x=0.05, shift_y=0.08)),
    Condition("perspective", "7 %", _perspective),
    Condition("wave", "2 px over 80 px", _fixed(d.wave, 2.0, 80.0)),
    Condition("padding", "8 px white", _fixed(_pad_pixels, 8, 1.0)),
    Condition("padding", "16 px white", _fixed(_pad_pixels, 16, 1.0)),
    Condition("padding", "12 px black", _fixed(_pad_pixels, 12, 0.0)),
    Condition("blur", "1 px", _fixed(d.blur, 1.0)),
    Condition("blur", "1.8 px", _fixed(d.blur, 1.8)),
    Condition("motion blur", "6 px", _fixed(d.motion_blur, 6)),
    Condition("rescale", "to 50 %", _fixed(d.rescale, 0.5)),
    Condition("rescale", "to 35 %", _fixed(d.rescale, 0.35)),
    Condition("sharpen", "300 %", _fixed(d.sharpen, 300)),
    Condition("JPEG", "quality 30", _fixed(d.jpeg, 30)),
    Condition("JPEG", "quality 8", _fixed(d.jpeg, 8)),
    Condition("gaussian noise", "0.1", _drawn(d.gaussian_noise, 0.1)),
    Condition("gaussian noise", "0.2", _drawn(d.gaussian_noise, 0.2)),
    Condition("salt and pepper", "5 %", _drawn(d.salt_and_pepper, 0.05)),
    Condition("salt and pepper", "10 %", _drawn(d.salt_and_pepper, 0.10)),
    Condition("brightness", "+0.3", _fixed(d.brightness, 0.3)),
    Condition("brightness", "-0.4", _fixed(d.brightness, -0.4)),
    Condition("contrast", "50 %", _fixed(d.contrast, 0.5)),
    Condition("contrast", "15 %", _fixed(d.contrast, 0.15)),
    Condition("gamma", "0.4", _fixed(d.gamma, 0.4)),
    Condition("gamma", "2.5", _fixed(d.gamma, 2.5)),
    Condition("tint", "blue on yellow", _fixed(d.tint, _BLUE, _YELLOW)),
    Condition("inversion", "white on black", _fixed(d.invert)),
    Condition("uneven light", "half at the right", _fixed(d.shade, 1.0, 0.5)),
    Condition("posterize", "2 levels", _fixed(d.posterize, 2)),
    Condition("strokes", "3 thin lines", _drawn(d.strokes, 3, 1, 0.0)),
    Condition("strokes", "2 white lines of 2 px", _drawn(d.strokes, 2, 2, 1.0)),
    Condition("occlusion", "3 squares of 5 px", _drawn(d.occlude, 3, 5, 0.5)),
    Condition("stroke width", "1 px thicker", _fixed(d.thicken)),
    Condition("stroke width", "1 px thinner", _fixed(d.thin)),
    Condition("combined", "screenshot", _screenshot),
    Condition("combined", "photograph", _photograph),
)
