"""`make calibrate`: fits the confidences of an exported model to how often it is right, and sets
the least confidence that is accepted.

Uses pictures that the model was not trained on, under the distortions of training. A few pictures
say little, so they are combined with a prior of what is expected of any model that is trained here.
The export does the same; this command repeats it for an existing model, and shows the effect.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.decoding.decoder import Decoder, Reading
from service.ocr.recognizer import Recognizer
from training.augmentation.policy import Augmentation
from training.evaluation.calibration_metrics import Judged, judge_characters, judge_texts, report_of
from training.evaluation.rejection import accepting_threshold
from training.evaluation.target import add_target_options, open_target
from training.export.held_out import COPIES, HeldOut, held_out_of
from training.export.onnx_file import write_metadata
from training.settings import Parser

TEMPERATURES = (0.7, 0.85, 1.0, 1.1, 1.2, 1.3, 1.4, 1.7, 2.0, 2.5, 3.0)

EXPECTED_TEMPERATURE, _SPREAD = 1.2, 0.15
"""Prior of the temperature of models trained from the base: mean, standard deviation of its log.

The base itself has 1.0 for random styles and unseen fonts, with this spread between styles.
Training on few pictures makes a model too confident on other pictures.
"""
_RIDGE = 10.0
"""Weight of the prior that tempered probabilities are right, in observations."""

_IDENTITY = np.array([1.0, 0.0])
"""Scale and offset that do not change a probability."""

_WEIGHT = 2 / COPIES
"""Weight of a copy, in observations: the copies of a picture resemble each other."""
_FEWEST_PICTURES = 10
"""Least number of held-out pictures to fit; with fewer, luck decides, and the prior is used."""

_FEWEST_ACCEPTED, _MORE_RIGHT_THAN_WRONG = 20, 0.5


def calibration_of(recognizer: Recognizer, held_out: HeldOut) -> Calibration:
    """Calibrates with distorted copies of held-out pictures; with too few, uses the prior."""
    if len(held_out.samples) < _FEWEST_PICTURES:
        return Calibration(EXPECTED_TEMPERATURE)
    return fit_calibration(recognizer, *_copies(held_out))


def accepted_from(clean: Sequence[Reading]) -> float:
    """The confidence that nearly all clean held-out pictures reach; 0.5 if they are few."""
    if len(clean) < _FEWEST_ACCEPTED:
        return _MORE_RIGHT_THAN_WRONG
    return accepting_threshold([reading.confidence for reading in clean])


def _copies(held_out: HeldOut) -> tuple[list[str], NDArray[np.float32]]:
    """The labels and probabilities of all distorted copies."""
    distorted = held_out.distorted
    return held_out.labels * len(distorted), distorted.reshape(-1, *distorted.shape[2:])


def fit_calibration(
    recognizer: Recognizer,
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
    weight: float = _WEIGHT,
) -> Calibration:
    """The temperature and logistic functions of the maximum a posteriori probability.

    Args:
        probabilities: output for pictures that the model was not trained on, `(n, time steps,
            classes)`.
        weight: weight of each picture, in observations.
    """
    best, least = Calibration(EXPECTED_TEMPERATURE), np.inf
    for temperature in TEMPERATURES:
        raw = Calibration(temperature)
        readings = _read(recognizer, raw, probabilities)
        texts, characters = judge_texts(labels, readings), judge_characters(labels, readings)
        fitted = replace(
            raw, text=fit_logistic(texts, weight), character=fit_logistic(characters, weight)
        )
        surprise = (math.log(temperature / EXPECTED_TEMPERATURE) / _SPREAD) ** 2 / 2
        for judged, logistic in ((texts, fitted.text), (characters, fitted.character)):
            surprise += _loss(judged, np.array([logistic.scale, logistic.offset]), weight)
        if surprise < least:
            best, least = fitted, surprise
    return best


def _read(
    recognizer: Recognizer, calibration: Calibration, probabilities: NDArray[np.float32]
) -> list[Reading]:
    decoder = Decoder(recognizer.codec, calibration)
    return [decoder.decode(picture) for picture in probabilities]


def fit_logistic(judged: Judged, weight: float = 1.0) -> Logistic:
    """The maximum a posteriori logistic function of the log-odds, by Newton's method.

    Args:
        weight: weight of each confidence, in observations.
    """
    features, right = _features(judged), judged.right
    parameters = _IDENTITY
    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(features @ parameters, -30, 30)))
        gradient = weight * features.T @ (expected - right) + _RIDGE * (parameters - _IDENTITY)
        variance = weight * expected * (1 - expected)
        curvature = (features * variance[:, np.newaxis]).T @ features + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = _loss(judged, parameters, weight)
        # Far from the minimum a whole step may overshoot.
        while np.abs(step).max() > 1e-9 and _loss(judged, parameters - step, weight) > before:
            step = step / 2
        parameters = parameters - step
        if np.abs(step).max() < 1e-9:
            break
    # A falling function would rank readings backwards.
    return Logistic(max(float(parameters[0]), 0.01), float(parameters[1]))


def _loss(judged: Judged, parameters: NDArray[np.float64], weight: float) -> float:
    """The negative log posterior probability of scale and offset, up to a constant."""
    signs = np.where(judged.right, -1.0, 1.0)
    wrongness = np.logaddexp(0, signs * (_features(judged) @ parameters)).sum()
    distance = ((parameters - _IDENTITY) ** 2).sum()
    return float(weight * wrongness + _RIDGE / 2 * distance)


def _features(judged: Judged) -> NDArray[np.float64]:
    """The log-odds of the confidences, and a constant, `(n, 2)`."""
    odds = np.log(judged.confidences) - np.log1p(-judged.confidences)
    return np.stack([odds, np.ones_like(odds)], axis=1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("calibrate", __doc__)
    add_target_options(parser, split=None)
    arguments = parser.parse_args(argv)
    target = open_target(arguments, "validation")
    recognizer, dataset = target.recognizer, target.dataset
    if target.run.split_path("validation").exists():
        held_out = held_out_of(target.run, recognizer, dataset)
    else:
        held_out = HeldOut.of(recognizer, dataset, target.samples, Augmentation())
    calibration = calibration_of(recognizer, held_out)
    if len(held_out.samples) < _FEWEST_PICTURES:
        print(f"{len(held_out.samples)} held-out pictures are too few to fit anything to:")
    labels, probabilities = _copies(held_out)
    for name, tried in {"as trained": Calibration(), "calibrated": calibration}.items():
        readings = _read(recognizer, tried, probabilities)
        texts, characters = judge_texts(labels, readings), judge_characters(labels, readings)
        print(f"{name}:\n{report_of({'texts': texts, 'characters': characters})}")
    threshold = accepted_from(_read(recognizer, calibration, held_out.clean))
    metadata = replace(recognizer.metadata, calibration=calibration, min_confidence=threshold)
    write_metadata(arguments.model, metadata)
    print(f"{calibration}, accepted from {threshold:.4f}, written to {arguments.model}")
