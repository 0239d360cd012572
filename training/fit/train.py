"""`make train`: trains a CRNN on the prepared data and writes a run.

Reads top to bottom: what is trained on what, then one loop over epochs. A run that was
interrupted is resumed by the same command, and ends with the weights it would have had.
"""

import argparse
import importlib.metadata
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import Dataset, Sample, alphabet_of, digest_of, picture_size_of
from training.data.split import split_by_content
from training.evaluation.metrics import character_error_rate, exact_matches
from training.exceptions import reported
from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig, add_config_options, config_of
from training.fit.datamodule import gather
from training.fit.ema import adam, averaged
from training.fit.loader import Examples, Feed
from training.fit.precision import compilation_of, precision_of
from training.fit.run_charts import draw_run
from training.fit.runs import Run, RunFacts
from training.fit.schedule import learning_rate, warm_up
from training.fit.warm_start import StartingWeights, with_start_found
from training.models.loss import ctc_loss, frame_loss
from training.models.registry import build_model

_VALIDATED_AT_ONCE = 1024
"""Pictures, which bounds the memory that validation takes."""


def train(config: TrainConfig, runs: Path, fresh: bool = False) -> Run:
    """Trains one model; resumes an interrupted run of the same settings unless `fresh`.

    Returns:
        The finished run.

    Raises:
        DataError: the data cannot be used.
    """
    config = with_start_found(config, runs)
    dataset = Dataset(Path(config.data))
    facts = _facts(config, dataset.samples)
    splits = split_by_content(dataset.samples, config.fold)
    codec = CtcCodec(facts.alphabet, blank_index=len(facts.alphabet))
    size = (facts.width, facts.height)
    material = gather(config, dataset, splits, size, codec)

    keras.utils.set_random_seed(config.seed)
    with precision_of(config):
        model = build_model(
            config.architecture, *size, codec.classes, config.dropout, config.lstm_dropout
        )
    if config.init_from:
        # Before compiling, so that the optimizer starts anew.
        anew = StartingWeights.find(config.init_from, runs).put_into(model, codec.alphabet)
        print(f"starting from {config.init_from}" + (f", {', '.join(anew)} anew" if anew else ""))
    losses = {True: frame_loss, False: ctc_loss(codec.blank_index)}
    optimizer = adam(config.learning_rate, config.average)
    model.compile(optimizer, loss=losses[False], jit_compile=compilation_of(config))
    model.optimizer.build(model.trainable_variables)

    run = None if fresh else Run.find_interrupted(runs, config, facts)
    if run is None:
        run = Run.create(runs, config, facts, splits)
    progress = Progress.restore(run, model)
    print(
        f"{run.folder}: {model.count_params():,} parameters, "
        f"{len(material.feed.clean.texts)} pictures to train on, {material.clean} to validate"
        + (f"; resuming after epoch {progress.epoch}" if progress.epoch else "")
    )
    board = tf.summary.create_file_writer(str(run.folder / "tensorboard"))
    while progress.epoch < config.epochs and progress.epochs_without_gain < config.patience:
        started = time.monotonic()
        aligned = progress.aligned(config)
        if model.loss is not losses[aligned]:
            model.compile(model.optimizer, losses[aligned], jit_compile=compilation_of(config))
        feed = material.aligned if aligned and material.aligned else material.feed
        strength = progress.strength(config)
        rate = learning_rate(config, progress)
        rates = partial(warm_up, rate, warmup_steps=config.warmup_steps)
        figures = {"strength": strength or 0.0, "learning_rate": rate}
        figures["loss"] = _train_epoch(model, feed, progress.epoch + 1, strength, rates)
        with averaged(model):
            figures |= _validate(model, material.validation, material.clean, codec)
        figures["seconds"] = time.monotonic() - started
        progress.record(figures, config)
        progress.save(run, model)
        _show(config, progress, board)
    model.load_weights(run.best_weights)
    draw_run(run, model, material.validation, codec)
    run.finish()
    # ru_maxrss is in kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"best epoch {progress.best_epoch}, {peak:.1f} GiB of memory; the run is {run.folder}")
    return run


def _facts(config: TrainConfig, samples: Sequence[Sample]) -> RunFacts:
    width, height = picture_size_of(samples)
    packages = ("tensorflow", "keras", "numpy", "pillow")
    return RunFacts(
        alphabet=alphabet_of(samples),
        width=config.width or width,
        height=config.height or height,
        data_digest=digest_of(samples),
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def _train_epoch(
    model: keras.Model,
    feed: Feed,
    epoch: int,
    strength: float | None,
    rates: Callable[[int], float],
) -> float:
    """One pass over the epoch's pictures, `rates` of every step; gives the mean loss."""
    # Everything random follows from seed and epoch, so that a resumed run goes on as it would
    # have. Keras keeps the state of dropout in variables that it does not save with weights.
    generator = np.random.default_rng((feed.seed, epoch, 0))
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(generator.integers(2**31, size=variable.shape))
    total, pictures_seen = 0.0, 0
    first, rate = int(model.optimizer.iterations), None
    for step, (pictures, labels) in enumerate(feed.batches(epoch, strength), start=first):
        if rates(step) != rate:
            rate = model.optimizer.learning_rate = rates(step)
        total += len(pictures) * float(model.train_on_batch(pictures, labels))
        pictures_seen += len(pictures)
    return total / pictures_seen


def _validate(
    model: keras.Model, validation: Examples, clean: int, codec: CtcCodec
) -> dict[str, float]:
    """Loss and CER over all pictures, exact match of the `clean` first and of all."""
    losses, texts = [], []
    for start in range(0, len(validation.texts), _VALIDATED_AT_ONCE):
        part = slice(start, start + _VALIDATED_AT_ONCE)
        probabilities = model.predict(validation.pictures[part], batch_size=64, verbose=0)
        losses.append(ctc_loss(codec.blank_index)(validation.labels[part], probabilities))
        texts += [codec.decode(picture) for picture in probabilities]
    pairs = list(zip(validation.texts, texts, strict=True))
    return {
        "val_loss": float(np.mean(np.concatenate(losses))),
        "val_cer": character_error_rate(pairs),
        "val_exact_match": exact_matches(pairs) / len(pairs),
        "val_clean_exact_match": exact_matches(pairs[:clean]) / clean,
    }


def _show(config: TrainConfig, progress: Progress, board: tf.summary.SummaryWriter) -> None:
    last = progress.history[-1]
    print(
        f"epoch {progress.epoch:3}/{config.epochs}  {last['seconds']:5.1f} s  "
        f"loss {last['loss']:7.3f}  val_loss {last['val_loss']:7.3f}  "
        f"CER {last['val_cer']:.4f}  exact {last['val_exact_match']:.4f}"
        + (f"  clean {last['val_clean_exact_match']:.4f}" if config.strength else "")
        + ("  best" if progress.best_epoch == progress.epoch else ""),
        flush=True,
    )
    with board.as_default(step=progress.epoch):
        for name, value in last.items():
            tf.summary.scalar(name, value)
    board.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.fit.train", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not resume an interrupted run")
    add_config_options(parser)
    arguments = parser.parse_args()
    with reported():
        run = train(config_of(arguments), arguments.runs, arguments.fresh)
    if run.config.export:
        _export(run)


def _export(run: Run) -> None:
    """Exports the run into its own folder, in a process that sees no GPU."""
    command = [sys.executable, "-m", "training.export.export", str(run.folder)]
    done = subprocess.run([*command, "--out", str(run.exported)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
