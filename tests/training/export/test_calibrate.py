from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.recognizer import Recognizer
from tests import stripes
from training.data.dataset import Dataset
from training.evaluation.calibration_metrics import Judged, expected_calibration_error
from training.export.calibrate import (
    EXPECTED_TEMPERATURE,
    calibration_of,
    fit_calibration,
    fit_logistic,
)
from training.export.held_out import HeldOut
from training.export.onnx_file import write_metadata


def test_a_known_function_is_found() -> None:
    """From enough observations the scale and offset that made them come back."""
    generator = np.random.default_rng(0)
    raw = generator.uniform(0.01, 0.99, 50_000)
    right = generator.random(len(raw)) < np.array([Logistic(0.5, -0.7)(p) for p in raw])
    found = fit_logistic(Judged(raw, right))
    assert (found.scale, found.offset) == pytest.approx((0.5, -0.7), abs=0.05)
    fitted = Judged(np.array([found(p) for p in raw]), right)
    assert expected_calibration_error(fitted) < 0.01


def test_what_few_show_changes_little() -> None:
    """Five of which none was right weigh less than what is expected; five hundred do not."""
    few, many = (
        fit_logistic(Judged(np.full(count, 0.5), np.zeros(count, bool))) for count in (5, 500)
    )
    assert 0.35 < few(0.5) < 0.5
    assert many(0.5) < 0.1


def test_copies_count_as_fewer() -> None:
    """Ten of a tenth of an observation each are as good as one."""
    one = fit_logistic(Judged(np.array([0.9]), np.array([False])))
    ten = fit_logistic(Judged(np.full(10, 0.9), np.zeros(10, bool)), weight=0.1)
    assert (ten.scale, ten.offset) == pytest.approx((one.scale, one.offset))


def test_nothing_wrong_changes_little() -> None:
    """Where all were right there is nothing to learn from, and no infinity comes of it."""
    found = fit_logistic(Judged(np.full(20, 0.99), np.ones(20, bool)))
    assert 0.9 < found(0.99) < 1
    assert np.isfinite([found.scale, found.offset]).all()


def test_a_model_that_reads_nothing(recognizer: Recognizer) -> None:
    """Without a single character there is still a calibration, of the empty text alone."""
    rows = np.zeros((60, 2, 5), np.float32)
    rows[:, :, 4] = 1
    calibration = fit_calibration(recognizer, ["a"] * 60, rows, weight=1.0)
    assert calibration.text(0.999) < 0.9
    assert calibration.character == Logistic()


def test_a_model_that_is_too_sure_is_cooled(recognizer: Recognizer) -> None:
    """Nine tenths sure and half of the time right: the calibrated text says about a half."""
    rows = np.full((2000, 1, 5), 0.025, np.float32)
    rows[:, :, 0] = 0.9
    labels = ["a", "b"] * 1000
    calibration = fit_calibration(recognizer, labels, rows, weight=1.0)
    raw = float(calibration.tempered(rows[0])[0, 0])
    assert calibration.text(raw) == pytest.approx(0.5, abs=0.02)
    assert calibration.character(raw) == pytest.approx(0.5, abs=0.02)


def test_a_few_held_out_pictures_fit_nothing(recognizer: Recognizer, dataset: Dataset) -> None:
    """Whether the model reads them is luck; so it is calibrated as any model is expected to be."""
    rows = np.zeros((5, 12, 5), np.float32)
    held_out = HeldOut(dataset.samples[:5], rows, rows[np.newaxis])
    assert calibration_of(recognizer, held_out) == Calibration(EXPECTED_TEMPERATURE)


def test_the_service_applies_what_is_written(stripe_model: Path, recognizer: Recognizer) -> None:
    """A calibration travels in the model's file and changes confidences, never texts."""
    doubtful = Calibration(text=Logistic(1.0, -3.0), character=Logistic(1.0, -1.0))
    before = recognizer.read(stripes.picture("abcd"))
    write_metadata(stripe_model, replace(recognizer.metadata, calibration=doubtful))
    after = Recognizer.load(stripe_model).read(stripes.picture("abcd"))
    assert after.text == before.text
    assert after.confidence == pytest.approx(Logistic(1.0, -3.0)(before.confidence), rel=1e-6)
    assert [path.name for path in stripe_model.parent.iterdir()] == [stripe_model.name]
