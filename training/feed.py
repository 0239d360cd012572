"""What an epoch is trained on: labelled, generated and background pictures, distorted anew.

A picture's distortion follows from the seed, the epoch and its place in the epoch alone, so
that threads can prepare batches ahead in any order and a resumed run sees what it would have.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.ocr.ctc import CtcCodec
from service.ocr.preprocessing import FloatArray
from training.augmentation import Augmentation
from training.background import draw_background
from training.dataset import PADDING, Dataset, Sample, encode_labels, time_steps_of
from training.family import manner_of
from training.synthetic import generated_tensors

_AHEAD = 8
"""Batches that are prepared before they are asked for."""

_THREADS = 2

Batch = tuple[FloatArray, NDArray[np.int32]]
"""Pictures `(n, width, height, 1)`, 0 to 1, and labels `(n, longest)`, filled with `PADDING`."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Decoded pictures `(n, width, height, 1)`, their encoded labels and their texts."""

    pictures: FloatArray
    labels: NDArray[np.int32]
    texts: Sequence[str]

    def __add__(self, other: "Examples") -> "Examples":
        """Both, one after the other; their label matrices must be equally wide."""
        return Examples(
            np.concatenate([self.pictures, other.pictures]),
            np.concatenate([self.labels, other.labels]),
            [*self.texts, *other.texts],
        )

    def repeated(self, times: int) -> "Examples":
        """All of them, so many times over."""
        return Examples(
            np.concatenate([self.pictures] * times),
            np.concatenate([self.labels] * times),
            [*self.texts] * times,
        )

    def distorted(self, augmentation: Augmentation, copies: int, seed: int) -> "Examples":
        """So many distorted copies of every picture, the same ones for the same seed."""
        pictures = np.concatenate([self.pictures] * copies)
        for number, picture in enumerate(pictures):
            generator = np.random.default_rng((seed, number))
            pictures[number] = _distort(picture, augmentation, 1.0, generator)
        return Examples(pictures, np.concatenate([self.labels] * copies), [*self.texts] * copies)


def labelled_examples(
    dataset: Dataset, samples: Sequence[Sample], width: int, height: int, codec: CtcCodec
) -> Examples:
    """Reads the samples of a data set.

    Raises:
        DataError: a picture cannot be read, or a label not be emitted.
    """
    labels = encode_labels(samples, codec, time_steps_of(width))
    pictures = dataset.tensors(samples, width, height)
    return Examples(pictures, labels, [sample.label for sample in samples])


def generated_examples(like: Examples, count: int, codec: CtcCodec, seed: int) -> Examples:
    """Draws pictures with the alphabet, the size, the lengths and the manner of others."""
    _, width, height, _ = like.pictures.shape
    lengths = [len(text) for text in like.texts]
    manner = manner_of(like.pictures[:, :, :, 0].transpose(0, 2, 1), like.texts)
    pictures, texts = generated_tensors(count, codec.alphabet, lengths, width, height, seed, manner)
    labels = np.full((count, like.labels.shape[1]), PADDING, np.int32)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = codec.encode(text, time_steps_of(width))
    return Examples(pictures, labels, texts)


class Feed:
    """Gives the batches of an epoch, prepared ahead in threads.

    Args:
        clean: what epochs of no strength are made of.
        rough: what others are made of, distorted.
        backgrounds: pictures without text that are added to a rough epoch.
    """

    def __init__(
        self,
        clean: Examples,
        rough: Examples,
        backgrounds: int,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
    ) -> None:
        self.clean = clean
        self.rough = rough
        self.backgrounds = backgrounds
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed

    def batches(self, epoch: int, strength: float | None) -> Iterator[Batch]:
        """The batches of one epoch, in an order of its own.

        Args:
            strength: of the distortions, 0 to 1; None gives the clean pictures alone.
        """
        if strength is None:
            size = len(self.clean.texts)
        else:
            size = len(self.rough.texts) + self.backgrounds
        order = np.random.default_rng((self.seed, epoch)).permutation(size)
        parts = [order[i : i + self.batch_size] for i in range(0, size, self.batch_size)]
        if strength is None:
            return ((self.clean.pictures[part], self.clean.labels[part]) for part in parts)
        return self._rough_batches(parts, epoch, strength)

    def _rough_batches(
        self, parts: Sequence[NDArray[np.int64]], epoch: int, strength: float
    ) -> Iterator[Batch]:
        with ThreadPoolExecutor(_THREADS) as pool:
            waiting: deque[Future[Batch]] = deque()
            for part in parts:
                waiting.append(pool.submit(self._rough_batch, part, epoch, strength))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _rough_batch(self, places: NDArray[np.int64], epoch: int, strength: float) -> Batch:
        _, width, height, _ = self.rough.pictures.shape
        pictures = np.empty((len(places), width, height, 1), np.float32)
        labels = np.full((len(places), self.rough.labels.shape[1]), PADDING, np.int32)
        for row, place in enumerate(places):
            generator = np.random.default_rng((self.seed, epoch, place))
            if place < len(self.rough.texts):
                picture, labels[row] = self.rough.pictures[place], self.rough.labels[place]
            else:
                picture = draw_background(width, height, generator).T[:, :, np.newaxis]
            pictures[row] = _distort(picture, self.augmentation, strength, generator)
        return pictures, labels


def _distort(
    tensor: FloatArray, augmentation: Augmentation, strength: float, generator: np.random.Generator
) -> FloatArray:
    picture = np.ascontiguousarray(tensor[:, :, 0].T)
    return augmentation.apply(picture, strength, generator).T[:, :, np.newaxis]
