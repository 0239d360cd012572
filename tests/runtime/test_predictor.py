"""Pictures that are read in one call, each with its own question."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.ocr.decoding.constraints import of_symbols
from service.ocr.decoding.decoder import PLAIN, Question, Reading
from service.ocr.exceptions import PictureError, SlowPictureError, UndecodableError
from service.ocr.recognizer import Recognizer
from service.runtime.batcher import BATCH_SIZE
from service.runtime.predictor import Predictor, file_state, load_predictor
from service.settings import Settings
from tests import stripes
from tests.api.test_query_params import BETWEEN_A_AND_B
from tests.runtime.work import predictor_of


@pytest.fixture
def predictor(recognizer: Recognizer) -> Predictor:
    """A predictor with the stripe model."""
    return predictor_of(recognizer)


@pytest.fixture
def sizes(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures in each call of the model."""
    infer, sizes = recognizer.infer, []

    def counted(tensors: Any) -> Any:
        sizes.append(len(tensors))
        return infer(tensors)

    monkeypatch.setattr(recognizer, "infer", counted)
    return sizes


def texts(predictor: Predictor, *items: tuple[bytes, Question]) -> list[str | None]:
    readings = [outcome.reading for outcome in predictor.read(items, slow=True)]
    return [reading.text if isinstance(reading, Reading) else None for reading in readings]


def test_each_picture_has_its_own_question(predictor: Predictor, sizes: list[int]) -> None:
    """Pictures that one call of the model reads are answered as if each were alone."""
    items = [
        (BETWEEN_A_AND_B, PLAIN),
        (BETWEEN_A_AND_B, Question(constraint=of_symbols("ac", stripes.ALPHABET))),
        (stripes.picture("abcd"), Question(matrix=True)),
    ]
    together = predictor.read(items, slow=True)
    assert sizes == [3]
    alone = [predictor.read([item], slow=True)[0] for item in items]
    assert [o.reading for o in together] == [o.reading for o in alone]
    assert texts(predictor, *items) == ["b", "a", "abcd"]


def test_a_picture_that_needs_a_search_is_slow(predictor: Predictor) -> None:
    """Only a call for slow pictures reads it. A most probable text that fits needs no search."""
    for symbols, kind in (("ab", Reading), ("ac", SlowPictureError)):
        question = Question(constraint=of_symbols(symbols, stripes.ALPHABET))
        picture = stripes.picture("ab" if kind is Reading else "b")
        items = [(picture, question), (picture, PLAIN)]
        assert [type(one.reading) for one in predictor.read(items)] == [kind, Reading]
        assert [type(one.reading) for one in predictor.read(items, slow=True)] == [Reading] * 2


def test_a_broken_picture_does_not_affect_others(predictor: Predictor, sizes: list[int]) -> None:
    """It has an error, and is not given to the model."""
    good, broken = (stripes.picture("ab"), PLAIN), (stripes.picture("ab")[:60], PLAIN)
    assert texts(predictor, broken, good, broken, good) == [None, "ab", None, "ab"]
    assert sizes == [2]
    outcomes = predictor.read([broken, broken])
    assert sizes == [2]
    assert [type(outcome.reading) for outcome in outcomes] == [UndecodableError] * 2


def test_an_error_does_not_keep_its_picture_in_memory(predictor: Predictor) -> None:
    """The error of a refused picture does not refer to it."""
    picture = bytes(bytearray(stripes.picture("ab")[:60]))
    references = sys.getrefcount(picture)
    gc.disable()
    try:
        (outcome,) = predictor.read([(picture, PLAIN)])
        assert isinstance(outcome.reading, PictureError)
        assert sys.getrefcount(picture) == references
    finally:
        gc.enable()


def test_times_of_the_steps_are_in_order(predictor: Predictor) -> None:
    """They are the same for all pictures of a call."""
    first, second = predictor.read([(stripes.picture("ab"), PLAIN)] * 2)
    assert first.times == second.times
    assert list(first.times) == sorted(first.times)


def test_each_tensor_has_its_own_class_probabilities(predictor: Predictor) -> None:
    """One row for each time step."""
    tensor = np.ones((stripes.WIDTH, stripes.HEIGHT, 1), np.float32)
    (rows, _), (others, _) = predictor.infer([tensor, 0 * tensor])
    assert rows.shape == (stripes.TIME_STEPS, len(stripes.ALPHABET) + 1)
    assert {*rows.argmax(axis=1)} == {len(stripes.ALPHABET)}
    assert {*others.argmax(axis=1)} == {0}


def test_the_check_before_serving_covers_every_batch_size(
    recognizer: Recognizer, sizes: list[int]
) -> None:
    """So the session's memory does not grow later, and each size reads correctly."""
    recognizer.verify(BATCH_SIZE)
    assert set(sizes) == set(range(1, BATCH_SIZE + 1))


def test_loading_records_the_state_of_the_file(settings: Settings) -> None:
    """By this state a reload tells that the file has been replaced."""
    before = load_predictor(settings).file_state
    stripes.write_model(settings.model_path, version="2")
    after = load_predictor(settings)
    assert after.metadata.version == "2"
    assert before != after.file_state


def test_a_file_of_the_same_size_and_time_is_another_state(tmp_path: Path) -> None:
    """`cp -p` makes such a file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    before, status = file_state(path), path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_state(path) != before
