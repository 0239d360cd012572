from pathlib import Path

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.preprocessing import preprocess
from training.data.dataset import (
    Dataset,
    Sample,
    digest_of,
    encode_labels,
    picture_size_of,
    read_samples,
    time_steps_of,
    working_size,
    write_samples,
)
from training.data.split import split_by_content
from training.exceptions import DataError


def sample(number: int, label: str = "ab", size: tuple[int, int] = (200, 50)) -> Sample:
    return Sample(f"{number * 7919 % 9973:064}", label, *size, f"{number}.png")


def test_samples_are_read_back_unchanged(tmp_path: Path) -> None:
    """Separators, quotes and spaces in labels are kept."""
    samples = [sample(1, 'a,"b'), sample(2, "ä\tß"), sample(3, " x")]
    write_samples(tmp_path / "samples.csv", samples)
    assert read_samples(tmp_path / "samples.csv") == samples


@pytest.mark.parametrize("table", ["", "path,label\n000.png,abc\n"])
def test_a_folder_that_was_not_prepared_is_refused(table: str, tmp_path: Path) -> None:
    """The error names the command that prepares the folder."""
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=f"make data DATA={tmp_path}"):
        Dataset(tmp_path)


def test_tensors_equal_those_of_the_service(dataset: Dataset) -> None:
    """Training sees a picture exactly as the service does."""
    tensors = dataset.tensors(dataset.samples[:5], 48, 16)
    for tensor, one in zip(tensors, dataset.samples, strict=False):
        assert np.array_equal(tensor, preprocess(dataset.read(one), 48, 16))


def test_labels_are_padded() -> None:
    """Labels of any length form one matrix."""
    labels = encode_labels([sample(1, "abc"), sample(2, "c")], CtcCodec("abc", 3), 50)
    assert labels.tolist() == [[0, 1, 2], [2, -1, -1]]


def test_labels_that_a_model_cannot_emit_are_refused() -> None:
    """The error names each file whose label does not fit the time steps or the alphabet."""
    samples = [sample(1, "a" * 26), sample(2, "ab" * 25), sample(3, "aXb")]
    with pytest.raises(DataError) as refused:
        encode_labels(samples, CtcCodec("ab", 2), time_steps_of(200))
    message = str(refused.value)
    assert "1.png: label 'aaaaaaaaaaaaaaaaaaaaaaaaaa' needs 51 time steps" in message
    assert "2.png" not in message
    assert "3.png: label 'aXb' has 'X'" in message


def test_the_picture_size_is_the_median() -> None:
    """One unusual picture does not change the size, even if all sizes differ."""
    sizes = [(110 + n, 30 + n % 5) for n in range(60)] + [(1600, 1200)]
    samples = [sample(n, size=s) for n, s in enumerate(sizes)]
    assert picture_size_of(samples) == (140, 32)
    assert working_size(samples) == (200, 50)


@pytest.mark.parametrize(
    ("size", "label", "width"),
    [
        ((200, 50), "abcde", 200),
        ((24, 16), "123456", 200),
        ((350, 350), "abcd", 200),
        ((250, 50), "abcde", 200),
        ((400, 60), "abcde", 320),
        ((900, 90), "abcde", 480),
        ((2000, 50), "abcde", 640),
        ((160, 60), "ab" * 16, 200),
        ((160, 60), "a" * 32, 480),
        ((160, 60), "ab" * 60, 640),
    ],
)
def test_wide_pictures_and_long_labels_get_a_wider_working_size(
    size: tuple[int, int], label: str, width: int
) -> None:
    """Other sets get 200×50; a single unusual picture changes nothing."""
    samples = [sample(n, label, size) for n in range(5)]
    odd = [sample(5, "x" * 400, (4000, 20))]
    assert working_size(samples) == working_size(samples + odd) == (width, 50)


def test_the_digest_depends_only_on_content() -> None:
    """Order and names are not content; labels are."""
    samples = [sample(1), sample(2)]
    renamed = [Sample(s.sha256, s.label, 1, 1, "other") for s in reversed(samples)]
    assert digest_of(samples) == digest_of(renamed)
    assert digest_of(samples) != digest_of([sample(1), sample(2, "ba")])


@pytest.mark.parametrize(
    ("count", "held_out"), [(10, 1), (14, 1), (16, 2), (1040, 104), (999, 100)]
)
def test_validation_and_test_get_a_tenth_each(count: int, held_out: int) -> None:
    """Training gets the rest; no picture is in two splits."""
    samples = [sample(n) for n in range(count)]
    splits = split_by_content(samples)
    assert [len(splits[s]) for s in ("train", "validation", "test")] == [
        count - 2 * held_out,
        held_out,
        held_out,
    ]
    assert {s for split in splits.values() for s in split} == set(samples)


def test_the_split_depends_only_on_content() -> None:
    """Order and names do not change the test split."""
    samples = [sample(n) for n in range(100)]
    renamed = [Sample(s.sha256, s.label, 1, 1, "other") for s in reversed(samples)]
    first, second = split_by_content(samples), split_by_content(renamed)
    assert [s.sha256 for s in first["test"]] == [s.sha256 for s in second["test"]]


def test_fewer_than_ten_pictures_are_not_split() -> None:
    with pytest.raises(DataError, match="at least 10"):
        split_by_content([sample(n) for n in range(9)])


def test_a_missing_picture_is_named(dataset: Dataset) -> None:
    """A picture is missing if the data of a run were replaced."""
    with pytest.raises(DataError, match=r"1\.png.*make data"):
        dataset.read(sample(1))
