"""Pictures that are decoded on access, for sets that do not fit into memory.

They are indexed like the array `(n, width, height, channels)` of a smaller set, and give the same
values.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.ocr.preprocessing import FloatArray
from training.augmentation.policy import Augmentation
from training.data.dataset import Dataset, Sample

Places = slice | NDArray[np.int64]


class LazyPictures(ABC):
    """Pictures by place: an index gives one picture, a slice or array of places a batch."""

    shape: tuple[int, int, int, int]

    def __getitem__(self, places: int | np.int64 | Places) -> FloatArray:
        if isinstance(places, int | np.integer):
            return self._batch(np.array([places]))[0]
        return self._batch(np.arange(self.shape[0])[places])

    @abstractmethod
    def _batch(self, places: NDArray[np.int64]) -> FloatArray:
        """The pictures at these places, `(len(places), width, height, channels)`."""


Pictures = FloatArray | LazyPictures


class StoredPictures(LazyPictures):
    """The pictures of samples of a data set, read from disk.

    Raises:
        DataError: a requested picture is missing or broken.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        width: int,
        height: int,
        channels: int = 1,
    ) -> None:
        self.shape = (len(samples), width, height, channels)
        self._dataset = dataset
        self._samples = samples

    def _batch(self, places: NDArray[np.int64]) -> FloatArray:
        samples = [self._samples[place] for place in places]
        return self._dataset.tensors(samples, *self.shape[1:])


class DistortedPictures(LazyPictures):
    """A distorted copy of every picture; the same seed gives the same copies."""

    def __init__(
        self, pictures: Pictures, augmentation: Augmentation, seed: int, strength: float
    ) -> None:
        self.shape = pictures.shape
        self._pictures = pictures
        self._augmentation = augmentation
        self._seed = seed
        self._strength = strength

    def _batch(self, places: NDArray[np.int64]) -> FloatArray:
        batch = np.array(self._pictures[places])
        for picture, place in zip(batch, places, strict=True):
            generator = np.random.default_rng((self._seed, place))
            picture[:] = distort(picture, self._augmentation, self._strength, generator)
        return batch


class JoinedPictures(LazyPictures):
    """Several sets of pictures, concatenated."""

    def __init__(self, parts: Sequence[Pictures]) -> None:
        self.shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        self._parts = parts

    def _batch(self, places: NDArray[np.int64]) -> FloatArray:
        batch = np.empty((len(places), *self.shape[1:]), np.float32)
        ends = list(itertools.accumulate(part.shape[0] for part in self._parts))
        for part, end in zip(self._parts, ends, strict=True):
            start = end - part.shape[0]
            inside = (places >= start) & (places < end)
            if inside.any():
                batch[inside] = part[places[inside] - start]
        return batch


def joined(*parts: Pictures) -> Pictures:
    """Concatenates pictures; the result is an array if all of them are arrays."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(arrays) if len(arrays) == len(parts) else JoinedPictures(parts)


def distort(
    tensor: FloatArray, augmentation: Augmentation, strength: float, generator: np.random.Generator
) -> FloatArray:
    """Distorts a tensor `(width, height, channels)` of 1 or 3 channels."""
    return changed(tensor, lambda picture: augmentation.apply(picture, strength, generator))


def changed(tensor: FloatArray, change: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Applies a function on pictures of `training.augmentation.distortions` to a tensor.

    Args:
        tensor: `(width, height, channels)` of 1 or 3 channels.
        change: takes a picture and returns one of the same size.
    """
    width, height, channels = tensor.shape
    picture = tensor.swapaxes(0, 1).reshape((height, width, channels)[: 2 + (channels > 1)])
    return change(picture).reshape(height, width, channels).swapaxes(0, 1)
