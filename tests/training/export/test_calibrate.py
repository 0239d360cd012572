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


def test_the_fit_recovers_a_known_function() -> None:
    """With enough observations, the fit finds the scale and offset that made the observations."""
    generator = np.random.default_rng(0)
    raw = generator.uniform(0.01, 0.99, 50_000)
    right = generator.random(len(raw)) < np.array([Logistic(0.5, -0.7)(p) for p in raw])
    found = fit_logistic(Judged(raw, right))
    assert (found.scale, found.offset) == pytest.approx((0.5, -0.7), abs=0.05)
    fitted = Judged(np.array([found(p) for p in raw]), right)
    assert expected_calibration_error(fitted) < 0.01


def test_few_observations_change_a_confidence_little() -> None:
    """Five observations, all wrong, weigh less than the expectation; five hundred weigh more."""
    few, many = (
        fit_logistic(Judged(np.full(count, 0.5), np.zeros(count, bool))) for count in (5, 500)
    )
    assert 0.35 < few(0.5) < 0.5
    assert many(0.5) < 0.1


def test_weighted_copies_count_as_fewer_observations() -> None:
    """Ten copies with a weight of 0.1 each count as one observation."""
    one = fit_logistic(Judged(np.array([0.9]), np.array([False])))
    ten = fit_logistic(Judged(np.full(10, 0.9), np.zeros(10, bool)), weight=0.1)
    assert (ten.scale, ten.offset) == pytest.approx((one.scale, one.offset))


def test_observations_without_an_error_change_a_confidence_little() -> None:
    """Such observations teach nothing; scale and offset stay finite."""
    found = fit_logistic(Judged(np.full(20, 0.99), np.ones(20, bool)))
    assert 0.9 < found(0.99) < 1
    assert np.isfinite([found.scale, found.offset]).all()


def test_a_model_that_reads_nothing_is_calibrated(recognizer: Recognizer) -> None:
    """Without characters, only the confidence of the empty text is calibrated."""
    rows = np.zeros((60, 2, 5), np.float32)
    rows[:, :, 4] = 1
    calibration = fit_calibration(recognizer, ["a"] * 60, rows, weight=1.0)
    assert calibration.text(0.999) < 0.9
    assert calibration.character == Logistic()


def test_the_confidence_of_an_overconfident_model_is_lowered(recognizer: Recognizer) -> None:
    """A confidence of 0.9 that is right half of the time becomes about 0.5."""
    rows = np.full((2000, 1, 5), 0.025, np.float32)
    rows[:, :, 0] = 0.9
    labels = ["a", "b"] * 1000
    calibration = fit_calibration(recognizer, labels, rows, weight=1.0)
    raw = float(calibration.tempered(rows[0])[0, 0])
    assert calibration.text(raw) == pytest.approx(0.5, abs=0.02)
    assert calibration.character(raw) == pytest.approx(0.5, abs=0.02)


def test_few_held_out_pictures_give_the_expected_calibration(
    recognizer: Recognizer, dataset: Dataset
) -> None:
    """Whether the model reads a few pictures is luck, so nothing is fitted to them."""
    rows = np.zeros((5, 12, 5), np.float32)
    held_out = HeldOut(dataset.samples[:5], rows, rows[np.newaxis])
    assert calibration_of(recognizer, held_out) == Calibration(EXPECTED_TEMPERATURE)


def test_the_service_applies_the_calibration_in_the_model_file(
    stripe_model: Path, recognizer: Recognizer
) -> None:
    """A calibration changes confidences, never texts."""
    doubtful = Calibration(text=Logistic(1.0, -3.0), character=Logistic(1.0, -1.0))
    before = recognizer.read(stripes.picture("abcd"))
    write_metadata(stripe_model, replace(recognizer.metadata, calibration=doubtful))
    after = Recognizer.load(stripe_model).read(stripes.picture("abcd"))
    assert after.text == before.text
    assert after.confidence == pytest.approx(Logistic(1.0, -3.0)(before.confidence), rel=1e-6)
    assert [path.name for path in stripe_model.parent.iterdir()] == [stripe_model.name]
