"""Reads each half of the labelled pictures with a model that was trained on the other half.

Where all labelled pictures are trained on, none is left that would tell how often the model is
right. What the two models read stands in for it: it calibrates the confidences, shows what half of
the labels are worth, and contradicts labels that are wrong (cross-fitting, Chernozhukov et al.
2018). Both together take as many steps as the run itself.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from training.data.dataset import Dataset
from training.data.label_errors import Opinion, find_suspicious
from training.data.split import SPLITS
from training.evaluation.evaluate import Result, write_results
from training.evaluation.metrics import exact_matches, wilson_interval
from training.export.held_out import HeldOut, distorted_copies
from training.fit.datamodule import labelled_samples
from training.fit.loop import train
from training.fit.runs import Run
from training.models.registry import build_model

HALVES = "halves"
"""Of the labelled pictures; the name of the table of what was read in them."""


def cross_fit(run: Run, dataset: Dataset) -> HeldOut:
    """Trains the two models of a finished run, and stores beside it what they read."""
    config, facts = run.config, run.facts
    epochs = _epochs(run)
    every = labelled_samples(config, {split: run.split(split) for split in SPLITS})
    parts = []
    with TemporaryDirectory() as folder:
        for half in (1, 2):
            # Half of the pictures in half of the steps, so that each is shown as often.
            settings = replace(
                config,
                name=f"half-{half}",
                half=half,
                epochs=epochs,
                minutes=0.0,
                shown=config.shown // 2,
                backgrounds=config.backgrounds // 2,
                average=max(0.0, 2 * config.average - 1),
                cross_fit=False,
                export=False,
            )
            keras.backend.clear_session()
            trained = train(settings, Path(folder))
            model = build_model(
                config.architecture, *facts.size, facts.classes, channels=config.channels
            )
            model.load_weights(trained.best_weights)
            seen = set(labelled_samples(settings, {s: trained.split(s) for s in SPLITS}))
            samples = [sample for sample in every if sample not in seen]
            tensors = dataset.tensors(samples, *facts.size, config.channels)
            copies = distorted_copies(tensors, config.augmentation)
            parts.append(
                HeldOut(
                    samples,
                    model.predict(tensors, verbose=0),
                    np.stack([model.predict(copy, verbose=0) for copy in copies]),
                )
            )
    first, second = parts
    held_out = HeldOut(
        first.samples + second.samples,
        np.concatenate([first.clean, second.clean]),
        np.concatenate([first.distorted, second.distorted], axis=1),
    )
    held_out.save(run)
    return held_out


def report_halves(run: Run, results: Sequence[Result]) -> str:
    """What half of the labels are worth, and the labels that are in doubt.

    Args:
        results: of the halves, with calibrated confidences. A table of them is written to the run.
    """
    write_results(run.folder / "evaluation", HALVES, results)
    exact, count = exact_matches(result.pair for result in results), len(results)
    low, high = wilson_interval(exact, count)
    lines = [
        f"trained on half of the {count} labelled pictures, two models read {exact} in the other "
        f"half: {exact / count:.2f} (95 % interval {low:.2f} to {high:.2f}). The model itself was "
        "trained on all of them. The lower this share is, the more further labels help"
    ]
    opinions = {
        result.sample.sha256: Opinion(result.reading.text, result.reading.confidence)
        for result in results
    }
    doubted = find_suspicious([result.sample for result in results], opinions)
    lines += [
        f"is the label right? {one.sample.source} is {one.sample.label!r}, read as "
        f"{one.opinion.text!r} with confidence {one.opinion.confidence:.3f}"
        for one in doubted
    ]
    if doubted:
        table = run.folder / "evaluation" / f"{HALVES}.csv"
        lines.append(f"`make inspect READINGS={table}` shows them")
    return "\n".join(lines)


def _epochs(run: Run) -> int:
    with (run.folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return len(list(csv.DictReader(file)))
