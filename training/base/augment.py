"""Random changes to pictures on the training device, so that a drawn picture is used often.

Written with `keras.ops`, so that it runs on any backend of Keras.
"""

from typing import Any

import keras
import numpy as np
from keras import ops, random

from training.synthetic.levels import LUMA

Tensor = Any
_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """Changes the colours, position, sharpness and noise of each picture, in training only.

    Takes pictures, uint8 `(n, width, height, 3)`, and a flag for each, int32 `(n, 1)`. A picture
    with the flag 1 keeps its content in place. Returns float32, 0 to 1.
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.seeds = random.SeedGenerator(seed)

    def call(self, pictures: Tensor, fixed: Tensor, training: bool = False) -> Tensor:
        """See the class."""
        x = ops.cast(pictures, "float32") / 255.0
        if not training:
            return x
        count = ops.shape(x)[0]
        x = self._colours(x, count)
        x = self._moved(x, ops.cast(ops.equal(fixed[:, 0], 0), "float32"), count)
        x = self._sharpened(x, count)
        some = self._random_mask(0.35, count) * self._uniform(0.0, 0.12, count)
        x = x + random.normal(ops.shape(x), seed=self.seeds) * some
        return ops.clip(x, 0.0, 1.0)

    def compute_output_shape(self, shape: tuple[int, ...], *_: Any) -> tuple[int, ...]:
        """The shape of the pictures."""
        return shape

    def _uniform(self, low: float, high: float, count: Tensor) -> Tensor:
        return random.uniform((count, 1, 1, 1), low, high, seed=self.seeds)

    def _random_mask(self, share: float, count: Tensor) -> Tensor:
        """1 for this share of the pictures, drawn at random, and 0 for the others."""
        return ops.cast(self._uniform(0.0, 1.0, count) < share, "float32")

    def _colours(self, x: Tensor, count: Tensor) -> Tensor:
        order = random.randint((count,), 0, len(_ORDERS), seed=self.seeds)
        mixing = ops.take(ops.one_hot(ops.convert_to_tensor(_ORDERS), 3), order, axis=0)
        x = ops.einsum("nwhc,ndc->nwhd", x, mixing)
        inverted = self._random_mask(0.25, count)
        x = x * (1 - inverted) + (1 - x) * inverted
        gray = ops.sum(x * ops.convert_to_tensor(LUMA), axis=-1, keepdims=True)
        # Some pictures lose their colours altogether, and some a part of them.
        washed = ops.maximum(self._random_mask(0.4, count), self._uniform(-0.3, 0.5, count))
        x = x + (gray - x) * washed
        jittered = self._random_mask(0.6, count)
        factor = 1 + jittered * self._uniform(-0.45, 0.15, count)
        middle = ops.mean(x, axis=(1, 2), keepdims=True)
        offset = jittered * self._uniform(-0.12, 0.12, count)
        return ops.clip((x - middle) * factor + middle + offset, 0.0, 1.0)

    def _moved(self, x: Tensor, free: Tensor, count: Tensor) -> Tensor:
        """Shrinks, shifts and stretches unevenly, along the width and along the height.

        Each is a product with a matrix of bilinear weights, which is cheaper than gathering.
        """
        free = free * self._random_mask(0.75, count)[:, 0, 0, 0]
        across = self._weights(x.shape[1], (-0.02, 0.25), 0.03, 0.012, free, count)
        down = self._weights(x.shape[2], (-0.05, 0.3), 0.06, 0.02, free, count)
        x = ops.einsum("nij,njhc->nihc", across, x)
        return ops.einsum("nkh,nihc->nikc", down, x)

    def _weights(
        self,
        size: int,
        scale: tuple[float, float],
        shift: float,
        uneven: float,
        free: Tensor,
        count: Tensor,
    ) -> Tensor:
        """The weight of each old place in each new place, `(n, size, size)`.

        Args:
            scale: range of how much the picture shrinks, drawn from uniformly.
            shift: largest move of the content, as a share of the size.
            uneven: largest amplitude of a sine that is added to the move, as a share of the size.
            free: `(n,)`, 0 for a picture that does not move.
        """

        def drawn(low: float, high: float) -> Tensor:
            return random.uniform((count, 1), low, high, seed=self.seeds) * free[:, None]

        place = ops.arange(size, dtype="float32")[None, :]
        middle = (size - 1) / 2
        source = middle + (place - middle) * (1 + drawn(*scale)) + drawn(-shift, shift) * size
        turns = drawn(0.5, 2.0) * place / size + drawn(0.0, 1.0)
        source = source + drawn(-uneven, uneven) * size * ops.sin(2 * np.pi * turns)
        source = ops.clip(source, 0.0, size - 1.0)[:, :, None]
        return ops.maximum(0.0, 1.0 - ops.abs(source - place[None]))

    def _sharpened(self, x: Tensor, count: Tensor) -> Tensor:
        around = ops.average_pool(x, 3, 1, "same", data_format="channels_last")
        by = self._random_mask(0.35, count) * self._uniform(-0.7, 1.0, count)
        return x + (around - x) * by
