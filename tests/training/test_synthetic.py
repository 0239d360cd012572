import numpy as np
import pytest

from training.synthetic.generate import generate, generated_tensors


def test_the_same_seed_draws_the_same_pictures() -> None:
    """Another seed draws other pictures."""
    first, again, other = (
        [d.png() for d in generate(5, "abc", (4,), 200, 50, seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("alphabet", "lengths", "size"),
    [("2345678", (5,), (200, 50)), ("ABC0", (4, 5, 6, 7), (160, 60)), ("gjpqy", (12,), (90, 24))],
)
def test_pictures_have_the_given_alphabet_lengths_and_size(
    alphabet: str, lengths: tuple[int, ...], size: tuple[int, int]
) -> None:
    """Each character has a box; the boxes go from left to right."""
    for drawing in generate(20, alphabet, lengths, *size, seed=0):
        assert drawing.image.size == size
        assert set(drawing.text) <= set(alphabet)
        assert len(drawing.text) == len(drawing.boxes) in lengths
        for x0, y0, x1, y1 in drawing.boxes:
            assert 0 <= x0 < x1 <= size[0]
            assert 0 <= y0 < y1 <= size[1]
        assert list(drawing.boxes) == sorted(drawing.boxes)


def test_boxes_are_darker_than_the_whole_picture() -> None:
    for drawing in generate(20, "ABCDEFGH", (5,), 200, 50, seed=3):
        pixels = np.asarray(drawing.image)
        for x0, y0, x1, y1 in drawing.boxes:
            assert pixels[y0:y1, x0:x1].mean() < pixels.mean()


def test_all_pictures_may_have_one_font() -> None:
    """Another font gives other pictures."""
    bold, serif = (
        [d.png() for d in generate(3, "ab", (4,), 100, 30, 0, font)]
        for font in ("DejaVuSans-Bold", "DejaVuSerif-Bold")
    )
    assert all(one != other for one, other in zip(bold, serif, strict=True))


def test_a_space_has_a_box() -> None:
    """Symbols without ink have a place, too."""
    (drawing,) = generate(1, " ", (3,), 60, 20, seed=0)
    assert len(drawing.boxes) == 3


def test_tensors_have_the_shape_and_range_of_the_preprocessing() -> None:
    """The drawings, with their texts, are also given."""
    tensors, drawings = generated_tensors(3, "ab", (2,), 60, 20, seed=0)
    assert tensors.shape == (3, 60, 20, 1)
    assert [len(drawing.text) for drawing in drawings] == [2, 2, 2]
    assert tensors.min() >= 0
    assert tensors.max() <= 1
