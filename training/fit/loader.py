"""Prepares the batches of an epoch: labelled, generated and textless pictures, distorted.

The distortion of a picture depends only on the seed, the epoch and its place in the epoch. So
threads can prepare batches in any order, and a resumed run gets the same pictures.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.ctc import CtcCodec, shortest_path
from service.ocr.preprocessing import FloatArray, preprocess
from training.augmentation.policy import Augmentation
from training.augmentation.splicing import Splicing
from training.data.dataset import PADDING, Dataset, Sample, encode_labels, time_steps_of
from training.data.lazy_images import (
    DistortedPictures,
    Pictures,
    StoredPictures,
    distort,
    joined,
)
from training.synthetic.alignment import frames_of
from training.synthetic.generate import draw
from training.synthetic.manner_fit import manner_of
from training.synthetic.negatives import draw_background

_PREFETCHED_BATCHES = 8
"""Batches that are prepared ahead."""

_THREADS = 2

_MEASURED = 1000
"""Greatest number of pictures whose style is measured."""

_MOST_TRIES = 20
"""Random texts that are tried for the time steps; if none fits, a label is used."""

Places = NDArray[np.int64]

Batch = tuple[FloatArray, NDArray[np.int32]]
"""Pictures `(n, width, height, channels)`, 0 to 1, and labels `(n, longest)`, filled up with
`PADDING`."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Pictures `(n, width, height, channels)`, their encoded labels and their texts."""

    pictures: Pictures
    labels: NDArray[np.int32]
    texts: Sequence[str]

    def __add__(self, other: "Examples") -> "Examples":
        """Concatenates both; their label matrices must be equally wide."""
        return Examples(
            joined(self.pictures, other.pictures),
            np.concatenate([self.labels, other.labels]),
            [*self.texts, *other.texts],
        )

    def repeated(self, times: int) -> "Examples":
        """All examples, repeated this many times."""
        return Examples(
            joined(*[self.pictures] * times),
            np.concatenate([self.labels] * times),
            [*self.texts] * times,
        )

    def distorted(self, augmentation: Augmentation, seed: int, strength: float = 1.0) -> "Examples":
        """A distorted copy of every picture; the same seed gives the same copies."""
        pictures: Pictures = DistortedPictures(self.pictures, augmentation, seed, strength)
        if isinstance(self.pictures, np.ndarray):
            pictures = pictures[:]
        return Examples(pictures, self.labels, self.texts)


def labelled_examples(
    dataset: Dataset,
    samples: Sequence[Sample],
    width: int,
    height: int,
    codec: CtcCodec,
    memory: float,
    channels: int = 1,
) -> Examples:
    """Reads the samples of a data set.

    Args:
        memory: MiB that the decoded pictures of the whole data set may take; larger data sets
            are read when they are needed.

    Raises:
        DataError: a picture cannot be read, or the model cannot emit a label.
    """
    labels = encode_labels(samples, codec, time_steps_of(width))
    values = len(dataset.samples) * width * height * channels
    needed = values * np.dtype(np.float32).itemsize / 2**20
    pictures: Pictures
    if needed <= memory:
        pictures = dataset.tensors(samples, width, height, channels)
    else:
        pictures = StoredPictures(dataset, samples, width, height, channels)
    return Examples(pictures, labels, [sample.label for sample in samples])


@dataclass(frozen=True, slots=True)
class GeneratedExamples(Examples):
    """Examples with the places of their characters."""

    frames: NDArray[np.int32]
    """The class of every time step, `(n, time steps)`."""

    def aligned(self) -> Examples:
        """The same pictures, labelled by their frames."""
        return Examples(self.pictures, self.frames, self.texts)


def generated_examples(like: Examples, count: int, codec: CtcCodec, seed: int) -> GeneratedExamples:
    """Draws pictures like others in alphabet, size, lengths and style."""
    _, width, height, channels = like.pictures.shape
    steps = time_steps_of(width)
    shown, texts = like.pictures[:_MEASURED].mean(axis=3), like.texts[:_MEASURED]
    style = manner_of(shown.transpose(0, 2, 1), texts)
    generator = np.random.default_rng(seed)
    drawings = [
        draw(
            _text_like(like.texts, codec.alphabet, steps, generator),
            width,
            height,
            generator,
            style,
        )
        for _ in range(count)
    ]
    pictures = np.stack([preprocess(one.png(), width, height, channels) for one in drawings])
    labels = np.full((len(drawings), like.labels.shape[1]), PADDING, np.int32)
    for row, drawing in zip(labels, drawings, strict=True):
        row[: len(drawing.text)] = codec.encode(drawing.text, steps)
    frames = np.stack([frames_of(drawing, width, codec) for drawing in drawings])
    return GeneratedExamples(pictures, labels, [drawing.text for drawing in drawings], frames)


def _text_like(
    texts: Sequence[str], alphabet: str, steps: int, generator: np.random.Generator
) -> str:
    """A random text with a length from `texts` that fits the time steps."""
    for _ in range(_MOST_TRIES):
        length = len(texts[int(generator.integers(len(texts)))])
        text = "".join(generator.choice(list(alphabet), length))
        if shortest_path(text) <= steps:
            return text
    return texts[int(generator.integers(len(texts)))]


@dataclass(frozen=True, slots=True)
class Feed:
    """Gives the batches of an epoch, prepared ahead in threads.

    Args:
        clean: the pictures of epochs without distortions.
        rough: the pictures of other epochs, before their distortion.
        backgrounds: number of pictures without text that are added to a rough epoch.
        steps: batches of an epoch, drawn at random; 0 gives all batches.
    """

    clean: Examples
    rough: Examples
    backgrounds: int
    augmentation: Augmentation
    batch_size: int
    seed: int
    steps: int = 0

    def pictures(self, strength: float | None) -> int:
        """The number of pictures in an epoch of this strength."""
        size = self._size(strength)
        return min(size, self.steps * self.batch_size) if self.steps else size

    def _size(self, strength: float | None) -> int:
        """The number of pictures from which an epoch of this strength is drawn."""
        if strength is None:
            return len(self.clean.texts)
        return len(self.rough.texts) + self.backgrounds

    def batches(
        self, epoch: int, strength: float | None, splicing: Splicing | None = None
    ) -> Iterator[Batch]:
        """The batches of one epoch, in an order of its own.

        Args:
            strength: strength of the distortions, 0 to 1; None gives the clean pictures only.
            splicing: joins the labelled pictures of a rough epoch before the distortions.
        """
        size = self._size(strength)
        order = np.random.default_rng((self.seed, epoch)).permutation(size)
        parts = [order[i : i + self.batch_size] for i in range(0, size, self.batch_size)]
        parts = parts[: self.steps or None]
        if strength is None:
            return _prefetched(self._clean_batch, parts)
        rough = partial(self._rough_batch, epoch=epoch, strength=strength, splicing=splicing)
        return _prefetched(rough, parts)

    def _clean_batch(self, places: Places) -> Batch:
        return self.clean.pictures[places], self.clean.labels[places]

    def _rough_batch(
        self, places: Places, epoch: int, strength: float, splicing: Splicing | None
    ) -> Batch:
        _, width, height, channels = self.rough.pictures.shape
        pictures = np.empty((len(places), width, height, channels), np.float32)
        labels = np.full((len(places), self.rough.labels.shape[1]), PADDING, np.int32)
        for row, place in enumerate(places):
            generator = np.random.default_rng((self.seed, epoch, place))
            if splicing and place < len(self.clean.texts):
                picture, labels[row] = splicing.splice(int(place), generator)
            elif place < len(self.rough.texts):
                picture, labels[row] = self.rough.pictures[place], self.rough.labels[place]
            else:
                background = draw_background(width, height, generator).T
                picture = np.repeat(background[:, :, np.newaxis], channels, axis=2)
            pictures[row] = distort(picture, self.augmentation, strength, generator)
        return pictures, labels


def _prefetched(make: Callable[[Places], Batch], parts: Sequence[Places]) -> Iterator[Batch]:
    """The batches in order; threads prepare `_PREFETCHED_BATCHES` of them ahead."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[Batch]] = deque()
        for part in parts:
            waiting.append(pool.submit(make, part))
            if len(waiting) > _PREFETCHED_BATCHES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
