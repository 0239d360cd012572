"""Distorts training pictures at random: each operation with its own chance, in a fixed order."""

from dataclasses import dataclass, fields

import numpy as np

from service.ocr.preprocessing import FloatArray
from training.augmentation.operations import OPERATIONS
from training.settings import setting

_SKEW = 0.6
"""An amount is a uniform random number to this power, which makes large amounts more frequent."""

_CHANCE = 0.06
"""Chance of an operation that `CHANCES` does not name."""

CHANCES = {
    "rotation": 0.28,
    "shear": 0.2,
    "scale": 0.15,
    "aspect": 0.1,
    "shift": 0.2,
    "perspective": 0.1,
    "thicken": 0.2,
    "curves": 0.35,
    "padding": 0.15,
    "contrast": 0.1,
    "inversion": 0.3,
}
"""Chances of operations that are harder to learn or more frequent in uploads."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The largest amount of every operation; 0 leaves it out."""

    clean: float = setting(0.15, "share of the pictures that are left as they are")
    rotation: float = setting(13.0, "degrees, either way")
    shear: float = setting(0.45, "columns per row, either way")
    scale: float = setting(0.35, "0.35 scales from 1/1.35 to 1.35")
    aspect: float = setting(0.3, "like scale, but of width or height alone")
    shift: float = setting(0.12, "share of the width and height, in any direction")
    perspective: float = setting(0.1, "share of the sides by which corners move")
    wave: float = setting(3.0, "pixels")
    padding: float = setting(0.5, "share of the sides added on each side")
    crop: float = setting(0.06, "share of the sides cut off on each side")
    blur: float = setting(2.2, "standard deviation in pixels")
    motion_blur: float = setting(8.0, "pixels")
    sharpen: float = setting(400.0, "percent")
    rescale: float = setting(0.72, "0.72 scales down to 0.28 and up again")
    jpeg: float = setting(92.0, "95 minus the lowest quality")
    gaussian_noise: float = setting(0.25, "standard deviation, of a gray range of 1")
    salt_and_pepper: float = setting(0.15, "share of the pixels")
    brightness: float = setting(0.5, "of a gray range of 1, either way")
    contrast: float = setting(0.9, "0.9 leaves a tenth of the contrast")
    gamma: float = setting(2.5, "1 more than the largest exponent, or its inverse")
    tint: float = setting(1.0, "1 allows any ink on any paper")
    inversion: float = setting(1.0, "1 allows it")
    shade: float = setting(0.6, "share of the light missing on one side")
    posterize: float = setting(1.0, "1 leaves as few as two levels")
    strokes: float = setting(4.0, "straight lines")
    curves: float = setting(3.0, "bent lines that thin out")
    occlusions: float = setting(4.0, "squares, of up to 9 pixels")
    thicken: float = setting(1.0, "1 allows it")
    thin: float = setting(1.0, "1 allows it")

    def apply(
        self, picture: FloatArray, strength: float, generator: np.random.Generator
    ) -> FloatArray:
        """Distorts one picture; each operation happens with its own chance.

        Args:
            picture: float32 `(height, width)`, 0 black to 1 white, or `(height, width, 3)` in RGB.
            strength: share of the largest amounts, 0 to 1.
        """
        if strength <= 0 or generator.random() < self.clean:
            return picture
        happens = generator.random(len(OPERATIONS))
        for draw, (name, operation) in zip(happens, OPERATIONS.items(), strict=True):
            largest = getattr(self, name)
            if largest > 0 and draw < CHANCES.get(name, _CHANCE):
                amount = largest * strength * generator.random() ** _SKEW
                picture = operation(picture, amount, generator)
        return picture.astype(np.float32, copy=False)


assert {field.name for field in fields(Augmentation)} == {"clean", *OPERATIONS}
