"""Reads each half of the labelled pictures with a model that was trained on the other half.

If a run trains on all labelled pictures, none is left to measure how often the model is right. The
readings of the two models are used instead: they calibrate the confidences, show how well half of
the labels train a model, and contradict labels that are wrong (cross-fitting, Chernozhukov et al.
2018). Both trainings together take as many steps as the run itself.
"""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from service.ocr.preprocessing import FloatArray
from training.data.dataset import Dataset, Sample, encode_labels, time_steps_of
from training.data.split import SPLITS
from training.export.held_out import HeldOut, distorted_copies
from training.fit.datamodule import labelled_samples
from training.fit.interpolation import losses_between, move_back
from training.fit.loop import keep_share, starting_model, train
from training.fit.runs import Run, RunFacts
from training.models.loss import ctc_loss


def cross_fit(run: Run, dataset: Dataset) -> HeldOut:
    """Trains the two models of a finished run, and stores their readings in the run's folder.

    With the setting `interpolated`, the two models also decide how much of the trained weights all
    models keep.
    """
    config, facts = run.config, run.facts
    every = labelled_samples(config, {split: run.split(split) for split in SPLITS})
    with TemporaryDirectory() as folder:
        halves = [_trained_half(run, half, Path(folder)) for half in (1, 2)]
        keras.backend.clear_session()
        model, _ = starting_model(config, facts, run.folder.parent)
        start = model.get_weights()
        parts = []
        for half in halves:
            samples = _left_out(half, every)
            parts.append((half, samples, dataset.tensors(samples, *facts.size, config.channels)))
        # If the run has a validation split, its training already moved the weights back.
        moves = config.interpolated and config.train_on_validation
        share = 1.0
        if moves:
            losses: Counter[float] = Counter()
            for half, samples, pictures in parts:
                model.load_weights(half.best_weights)
                losses.update(losses_between(model, start, _loss(model, facts, samples, pictures)))
            share = min(losses, key=losses.__getitem__)
        clean, distorted = [], []
        for half, _, pictures in parts:
            model.load_weights(half.best_weights)
            move_back(model, start, share)
            copies = distorted_copies(pictures, config.augmentation)
            clean.append(model.predict(pictures, verbose=0))
            distorted.append(np.stack([model.predict(copy, verbose=0) for copy in copies]))
    if moves:
        model.load_weights(run.best_weights)
        keep_share(model, start, share)
        run.save_best(model)
    held_out = HeldOut(
        [sample for _, samples, _ in parts for sample in samples],
        np.concatenate(clean),
        np.concatenate(distorted, axis=1),
    )
    held_out.save(run)
    return held_out


def _trained_half(run: Run, half: int, folder: Path) -> Run:
    """A run on half of the pictures with half of the steps, so that each picture counts as much."""
    config = run.config
    settings = replace(
        config,
        name=f"half-{half}",
        half=half,
        epochs=_epochs(run),
        minutes=0.0,
        shown=config.shown // 2,
        backgrounds=config.backgrounds // 2,
        average=max(0.0, 2 * config.average - 1),
        cross_fit=False,
        export=False,
    )
    keras.backend.clear_session()
    return train(settings, folder)


def _left_out(half: Run, every: Sequence[Sample]) -> list[Sample]:
    seen = set(labelled_samples(half.config, {split: half.split(split) for split in SPLITS}))
    return [sample for sample in every if sample not in seen]


def _loss(
    model: keras.Model, facts: RunFacts, samples: Sequence[Sample], pictures: FloatArray
) -> Callable[[], float]:
    """A function that gives the loss over pictures with the model's current weights."""
    codec = facts.codec
    labels = encode_labels(samples, codec, time_steps_of(facts.width))
    loss = ctc_loss(codec.blank_index)
    return lambda: float(np.sum(loss(labels, model.predict(pictures, verbose=0))))


def _epochs(run: Run) -> int:
    with (run.folder / "history.csv").open(newline="", encoding="utf-8") as file:
        return len(list(csv.DictReader(file)))
