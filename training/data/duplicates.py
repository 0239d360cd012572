"""Finds pictures that look equal or nearly equal, even if their bytes differ.

A difference hash (dHash: whether each pixel of a thumbnail is brighter than its left neighbour)
finds the candidates. The correlation of larger thumbnails then decides, since all pictures of one
family resemble each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.ocr.preprocessing import FloatArray

HASH_SIDE = 16
MOST_DIFFERENT_BITS = 40
"""Most of the 256 bits of the hash that may differ; unrelated pictures differ in about 128."""

LEAST_CORRELATION = 0.95
"""Least correlation of the thumbnails of two nearly equal pictures."""

_THUMBNAIL = (64, 24)
_ROWS, _PAIRS = 256, 4096


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hash of a picture, 4 × uint64, and its standardised thumbnail, for comparisons."""

    hash: NDArray[np.uint64]
    thumbnail: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The places of two pictures, and their correlation, up to 1."""

    first: int
    second: int
    correlation: float


def fingerprint(gray: FloatArray) -> Fingerprint:
    """The fingerprint of a picture `(height, width)`, 0 black to 1 white, of any size."""
    image = Image.fromarray(gray)
    small = np.asarray(image.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BILINEAR))
    bits = np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)
    large = np.asarray(image.resize(_THUMBNAIL, Image.Resampling.BILINEAR)).ravel()
    centred = large - large.mean()
    # A flat picture correlates with nothing.
    length = np.linalg.norm(centred)
    return Fingerprint(
        bits, (centred / length if length > 1e-3 else 0 * centred).astype(np.float32)
    )


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> list[Duplicate]:
    """All pairs of nearly equal pictures, the most similar first; takes n² time."""
    if not fingerprints:
        return []
    hashes = np.stack([one.hash for one in fingerprints])
    thumbnails = np.stack([one.thumbnail for one in fingerprints])
    found = []
    for pairs in _candidates(hashes):
        first, second = (thumbnails[places] for places in pairs.T)
        correlations = np.einsum("ij,ij->i", first, second)
        alike = correlations >= LEAST_CORRELATION
        rows = zip(*pairs[alike].T.tolist(), correlations[alike].tolist(), strict=True)
        found += [Duplicate(*row) for row in rows]
    return sorted(found, key=lambda pair: -pair.correlation)


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Places `(n, 2)` of pictures whose hashes differ in few bits, each pair once."""
    for start in range(0, len(hashes), _ROWS):
        rows = hashes[start : start + _ROWS]
        different = np.zeros((len(rows), len(hashes) - start), np.uint16)
        for word in range(hashes.shape[1]):
            different += np.bitwise_count(rows[:, word, np.newaxis] ^ hashes[start:, word])
        pairs = np.argwhere(np.triu(different <= MOST_DIFFERENT_BITS, k=1)) + start
        for first in range(0, len(pairs), _PAIRS):
            yield pairs[first : first + _PAIRS]
