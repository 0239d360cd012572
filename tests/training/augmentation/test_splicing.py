from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray

from service.ocr.decoding.ctc import shortest_path
from training.augmentation.splicing import Splicing, cuts_of
from training.data.dataset import PADDING

WIDTH, HEIGHT, BLANK = 80, 4, 9
STEPS = WIDTH // 4


def probabilities(label: list[int], steps: list[int], sure: float = 0.9) -> NDArray[np.float32]:
    """Probabilities of a model that sees each character at one time step."""
    matrix = np.full((STEPS, BLANK + 1), 0.01, np.float32)
    matrix[:, BLANK] = 0.9
    for step, one in zip(steps, label, strict=True):
        matrix[step] = 0.01
        matrix[step, one] = sure
    return matrix


def test_a_picture_is_cut_midway_between_its_characters() -> None:
    """Cuts are given in columns."""
    cuts = cuts_of(probabilities([1, 2, 2], [2, 8, 16]), [1, 2, 2], BLANK, WIDTH)
    assert cuts.tolist() == [22, 50]  # the middle of a time step is two columns behind its start


def test_a_picture_is_not_cut_if_the_model_misses_a_character() -> None:
    """The places of the characters would be guesses."""
    seen = probabilities([1, 2, 2], [2, 8, 16], sure=0.4)
    assert cuts_of(seen, [1, 2, 2], BLANK, WIDTH).tolist() == []


def test_a_single_character_is_not_cut() -> None:
    assert cuts_of(probabilities([1], [8]), [1], BLANK, WIDTH).tolist() == []


def striped(labels: list[list[int]], longest: int, chance: float = 1.0) -> Splicing:
    """Pictures with one stripe for each character; the gray of a stripe encodes the class."""
    pictures = np.zeros((len(labels), WIDTH, HEIGHT, 1), np.float32)
    rows = np.full((len(labels), longest), PADDING, np.int32)
    cuts = []
    for picture, row, label in zip(pictures, rows, labels, strict=True):
        row[: len(label)] = label
        edges = np.linspace(0, WIDTH, len(label) + 1).round().astype(int)
        for one, left, right in zip(label, edges[:-1], edges[1:], strict=True):
            picture[left:right] = one / 10
        cuts.append(edges[1:-1])
    return Splicing(pictures, rows, cuts, chance)


def label_of(row: NDArray[np.int32]) -> list[int]:
    return [one for one in row.tolist() if one != PADDING]


def shown(picture: NDArray[np.float32]) -> list[int]:
    """The classes of the stripes; equal neighbours count once."""
    return [round(10 * gray) for gray, _ in groupby(picture[:, 0, 0].tolist())]


def test_joined_pictures_show_their_labels() -> None:
    """The stripes have the order of the label; many texts are new."""
    labels = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 1, 4], [2, 7, 0, 5, 8]]
    splicing = striped(labels, longest=5)
    texts = set()
    for seed in range(200):
        picture, row = splicing.splice(seed, np.random.default_rng(seed))
        label = label_of(row)
        assert picture.shape == (WIDTH, HEIGHT, 1)
        assert shown(picture) == [one for one, _ in groupby(label)]
        texts.add(tuple(label))
    assert len(texts - set(map(tuple, labels))) > 20
    assert {len(text) for text in texts} >= {3, 4, 5}


def test_no_joined_label_needs_more_time_steps_than_there_are() -> None:
    """With 20 time steps, 11 equal characters do not fit: 11 equal characters need 21."""
    labels = [[1] * 10 + [2], [1] * 10 + [3], [1] * 10]
    splicing = striped(labels, longest=12)
    for seed in range(200):
        label = label_of(splicing.splice(seed, np.random.default_rng(seed))[1])
        assert shortest_path(label) <= STEPS


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_pictures_are_joined_with_the_given_chance(chance: float) -> None:
    """Pictures without cuts are never joined."""
    labels = [[0, 1, 2, 3], [4, 5, 6, 7]]
    splicing = striped(labels, 4, chance)
    kept = sum(
        label_of(splicing.splice(0, np.random.default_rng(seed))[1]) == labels[0]
        for seed in range(400)
    )
    assert kept == 400 if chance == 0 else 200 <= kept < 350
    alone = striped([[7], [0, 1, 2, 3]], 4)
    for seed in range(20):
        assert label_of(alone.splice(0, np.random.default_rng(seed))[1]) == [7]


def test_each_character_is_turned_by_itself() -> None:
    """A turned character keeps its columns and its background; some pictures stay unchanged."""
    picture = np.full((60, 30, 3), 0.2, np.float32)
    picture[:20] = picture[40:] = (0.8, 0.4, 0.0)
    picture[8:12, 5:25] = picture[48:52, 5:25] = 1.0
    row = np.array([[1, 2, 1]], np.int32)
    splicing = Splicing(picture[np.newaxis], row, [np.array([20, 40])], chance=1.0)
    same = 0
    for seed in range(60):
        shown, label = splicing.splice(0, np.random.default_rng(seed))
        assert label_of(label) == [1, 2, 1]
        assert shown.shape == picture.shape
        np.testing.assert_allclose(shown[20:40], 0.2, atol=0.01)
        np.testing.assert_allclose(shown[[0, 19, 40, 59], 0], [(0.8, 0.4, 0.0)] * 4, atol=0.01)
        same += np.array_equal(shown, picture)
        if not np.array_equal(shown, picture):
            assert abs(shown[:20] - picture[:20]).max() > 0.1
            assert abs(shown[:20] - shown[40:]).max() > 0.1
    assert 0 < same < 20
