"""Measures how well a base reads pictures in fonts that it was not trained on."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from training.base.alphabet import ALPHABET
from training.base.pool import CODEC, HEIGHT, WIDTH, random_drawing
from training.synthetic.fonts import Font
from training.synthetic.generate import Drawing
from training.synthetic.pictures import draw
from training.synthetic.random_styles import random_style

_GROUPS = {
    "digits": string.digits,
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "upper and digits": string.ascii_uppercase + string.digits,
    "letters and digits": string.ascii_letters + string.digits,
}
_MEDIUM = 0.5
"""Greatest difficulty of the groups' pictures; the group `all` is as hard as in training."""
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Validation:
    """Pictures, uint8 `(n, width, height, 3)`, and the text and the group of each picture."""

    pictures: NDArray[np.uint8]
    texts: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def draw(cls, fonts: Sequence[Font], count: int, seed: int = 0) -> "Validation":
        """Draws `count` pictures of each group, with texts of 4 to 6 symbols, and of `all`."""
        rng = np.random.default_rng([seed, 1])
        drawings: list[Drawing] = []
        groups: list[str] = []
        for group, symbols in _GROUPS.items():
            for _ in range(count):
                style = random_style(fonts, rng, frozenset(symbols), _MEDIUM)
                text = "".join(rng.choice(list(symbols), int(rng.integers(4, 7))))
                drawings.append(draw(text, style, WIDTH, HEIGHT, rng))
                groups.append(group)
        for _ in range(count):
            drawings.append(random_drawing(fonts, rng))
            groups.append("all")
        pictures = np.stack([np.asarray(d.image).transpose(1, 0, 2) for d in drawings])
        return cls(pictures, tuple(d.text for d in drawings), tuple(groups))


def read(model: keras.Model, pictures: NDArray[np.uint8], symbols: Sequence[str]) -> list[str]:
    """Reads pictures by greedy decoding, each with the symbols that `symbols` allows for it."""
    probabilities = []
    for first in range(0, len(pictures), _BATCH):
        batch = pictures[first : first + _BATCH]
        padded = np.zeros((_BATCH, *batch.shape[1:]), np.float32)
        padded[: len(batch)] = batch / np.float32(255)
        probabilities.append(model.predict_on_batch(padded)[: len(batch)])
    texts = []
    for steps, allowed in zip(np.concatenate(probabilities), symbols, strict=True):
        known = np.array([symbol in allowed for symbol in ALPHABET] + [True])
        texts.append(CODEC.decode(steps * known))
    return texts


def exact_matches(model: keras.Model, validation: Validation) -> dict[str, float]:
    """The share of texts read without an error in each group, given the group's symbols."""
    symbols = [_GROUPS.get(group, ALPHABET) for group in validation.groups]
    found = read(model, validation.pictures, symbols)
    right: dict[str, list[bool]] = {}
    for text, truth, group in zip(found, validation.texts, validation.groups, strict=True):
        right.setdefault(group, []).append(text == truth)
    return {group: round(float(np.mean(matches)), 4) for group, matches in right.items()}
