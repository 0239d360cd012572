"""`make calibrate`: fits the confidences of an exported model to how often it is right.

On the validation split under the distortions of training, never on test. The export does the
same; this command does it again for a model that is there, and shows the effect.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.decoding.decoder import Decoder, Reading
from service.ocr.recognizer import Recognizer
from training.augmentation.policy import Augmentation
from training.data.dataset import Dataset, Sample
from training.data.lazy_images import distort
from training.evaluation.calibration_metrics import Judged, judge_characters, judge_texts, report_of
from training.evaluation.target import add_target_options, open_target
from training.export.onnx_file import write_metadata
from training.settings import Parser

TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)

_COPIES = 20
_MOST_PICTURES = 500
"""Of a large set: a few parameters are fitted, for which their copies are plenty."""
_SEED = 20
_RIDGE = 1.0
"""Weight of the belief that probabilities are right as they are, in observations."""


def distorted_probabilities(
    recognizer: Recognizer,
    dataset: Dataset,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    seed: int = _SEED,
) -> tuple[list[str], NDArray[np.float32]]:
    """Labels, and class probabilities `(n, time steps, classes)`, of distorted copies."""
    samples = samples[:_MOST_PICTURES]
    width, height = recognizer.metadata.width, recognizer.metadata.height
    tensors = dataset.tensors(samples, width, height, recognizer.metadata.channels)
    labels, probabilities = [], []
    for copy in range(_COPIES):
        batch = np.empty_like(tensors)
        for number, tensor in enumerate(tensors):
            generator = np.random.default_rng((seed, copy, number))
            batch[number] = distort(tensor, augmentation, generator.random(), generator)
        labels += [sample.label for sample in samples]
        probabilities.append(recognizer.infer(batch))
    return labels, np.concatenate(probabilities)


def fit_calibration(
    recognizer: Recognizer, labels: Sequence[str], probabilities: NDArray[np.float32]
) -> Calibration:
    """The temperature and logistic functions under which being right is least surprising.

    Args:
        probabilities: of pictures that the model was not fitted to, `(n, time steps, classes)`.
    """
    best, least = Calibration(), np.inf
    for temperature in TEMPERATURES:
        raw = Calibration(temperature)
        readings = _read(recognizer, raw, probabilities)
        texts, characters = judge_texts(labels, readings), judge_characters(labels, readings)
        fitted = replace(raw, text=fit_logistic(texts), character=fit_logistic(characters))
        surprise = _surprise(texts, fitted.text) + _surprise(characters, fitted.character)
        if surprise < least:
            best, least = fitted, surprise
    return best


def _read(
    recognizer: Recognizer, calibration: Calibration, probabilities: NDArray[np.float32]
) -> list[Reading]:
    decoder = Decoder(recognizer.codec, calibration)
    return [decoder.decode(picture) for picture in probabilities]


def fit_logistic(judged: Judged) -> Logistic:
    """The maximum-likelihood logistic function of the log-odds, by Newton's method."""
    odds = np.log(judged.confidences) - np.log1p(-judged.confidences)
    features = np.stack([odds, np.ones_like(odds)], axis=1)
    signs = np.where(judged.right, -1.0, 1.0)
    prior = weights = np.array([1.0, 0.0])

    def cost(candidate: NDArray[np.float64]) -> float:
        surprise = np.logaddexp(0, signs * (features @ candidate)).sum()
        return float(surprise + _RIDGE / 2 * ((candidate - prior) ** 2).sum())

    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (expected - judged.right) + _RIDGE * (weights - prior)
        variance = expected * (1 - expected)
        curvature = (features * variance[:, np.newaxis]).T @ features + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Far from the minimum a whole step may overshoot.
        while cost(weights - step) > cost(weights) and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    # A falling function would rank readings backwards.
    return Logistic(max(float(weights[0]), 0.01), float(weights[1]))


def _surprise(judged: Judged, logistic: Logistic) -> float:
    """The mean negative log-likelihood, in nats; 0 where there is nothing to be surprised by."""
    if not len(judged.right):
        return 0.0
    expected = np.array([logistic(float(confidence)) for confidence in judged.confidences])
    return float(-np.log(np.where(judged.right, expected, 1 - expected)).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("calibrate", __doc__)
    add_target_options(parser, split=None)
    arguments = parser.parse_args(argv)
    target = open_target(arguments, "validation")
    recognizer, augmentation = target.recognizer, Augmentation()
    measured = distorted_probabilities(recognizer, target.dataset, target.samples, augmentation)
    calibration = fit_calibration(recognizer, *measured)
    labels, probabilities = distorted_probabilities(
        recognizer, target.dataset, target.samples, augmentation, seed=_SEED + 1
    )
    for name, tried in {"as trained": Calibration(), "calibrated": calibration}.items():
        readings = _read(recognizer, tried, probabilities)
        texts, characters = judge_texts(labels, readings), judge_characters(labels, readings)
        print(f"{name}:\n{report_of({'texts': texts, 'characters': characters})}")
    write_metadata(arguments.model, replace(recognizer.metadata, calibration=calibration))
    print(f"{calibration}, written to {arguments.model}")
