"""Reads each half of the labelled pictures with a model that was trained on the other half.

Where all labelled pictures are trained on, none is left that would tell how often the model is
right. What the two models read stands in for it: it calibrates the confidences, shows what half of
the labels are worth, and contradicts labels that are wrong (cross-fitting, Chernozhukov et al.
2018). Both together take as many steps as the run itself.
"""

import csv
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from training.data.dataset import Dataset
from training.data.split import SPLITS
from training.export.held_out import HeldOut, distorted_copies
from training.fit.datamodule import labelled_samples
from training.fit.loop import train
from training.fit.runs import Run
from training.models.registry import build_model


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


def _epochs(run: Run) -> int:
    with (run.folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return len(list(csv.DictReader(file)))
