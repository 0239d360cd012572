"""`make train`: trains the CRNN on the prepared data and writes a run.

Reads top to bottom: what is trained on what, then one loop over epochs. A run that was
interrupted is resumed by the same command, and ends with the weights it would have had.
"""

import argparse
import csv
import importlib.metadata
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.ocr.ctc import CtcCodec
from service.ocr.preprocessing import FloatArray
from training.config import TrainConfig, add_config_options, config_of
from training.dataset import (
    Dataset,
    Sample,
    alphabet_of,
    digest_of,
    encode_labels,
    picture_size_of,
    time_steps_of,
)
from training.exceptions import reported
from training.loss import ctc_loss
from training.metrics import character_error_rate, exact_matches
from training.model import build_crnn
from training.runs import Run, RunFacts
from training.split import split_by_content
from training.synthetic import generated_tensors


@dataclass(slots=True)
class Progress:
    """Where the loop stands after an epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    epochs_without_gain: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def record(self, figures: dict[str, float]) -> None:
        """Takes in the figures of one more epoch."""
        self.epoch += 1
        self.history.append({"epoch": self.epoch} | figures)
        if figures["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = figures["val_loss"], self.epoch
            self.epochs_without_gain = 0
        elif figures["val_cer"] < 1:
            # A CTC model first emits nothing but blanks, for a number of epochs that depends on
            # the data and on chance; this plateau is no reason to give up.
            self.epochs_without_gain += 1


@dataclass(frozen=True, slots=True)
class Examples:
    """Decoded pictures `(n, width, height, 1)`, their encoded labels and their texts."""

    pictures: FloatArray
    labels: NDArray[np.int32]
    texts: Sequence[str]


def train(config: TrainConfig, runs: Path, fresh: bool = False) -> Run:
    """Trains one model; resumes an interrupted run of the same settings unless `fresh`.

    Returns:
        The finished run.

    Raises:
        DataError: the data cannot be used.
    """
    dataset = Dataset(Path(config.data))
    facts = _facts(config, dataset.samples)
    splits = split_by_content(dataset.samples)
    codec = CtcCodec(facts.alphabet, blank_index=len(facts.alphabet))
    training = _examples(dataset, splits["train"], facts, codec)
    validation = _examples(dataset, splits["validation"], facts, codec)
    if config.generated:
        training = _with_generated(training, config, facts, codec)

    keras.utils.set_random_seed(config.seed)
    model = build_crnn(
        facts.width, facts.height, codec.classes, config.dropout, config.lstm_dropout
    )
    model.compile(keras.optimizers.Adam(config.learning_rate), loss=ctc_loss(codec.blank_index))
    model.optimizer.build(model.trainable_variables)

    run = None if fresh else Run.find_interrupted(runs, config, facts)
    if run is None:
        run = Run.create(runs, config, facts, splits)
    progress = _restore(run, model)
    print(
        f"{run.folder}: {model.count_params():,} parameters, {len(training.texts)} pictures to "
        f"train on, {len(validation.texts)} to validate"
        + (f"; resuming after epoch {progress.epoch}" if progress.epoch else "")
    )
    board = tf.summary.create_file_writer(str(run.folder / "tensorboard"))
    while progress.epoch < config.epochs and progress.epochs_without_gain < config.patience:
        started = time.monotonic()
        loss = _train_epoch(model, training, config, progress.epoch + 1)
        figures = {"loss": loss} | _validate(model, validation, codec)
        figures["seconds"] = time.monotonic() - started
        progress.record(figures)
        _save(run, model, progress)
        _show(config, progress, board)
    run.finish()
    print(f"best epoch {progress.best_epoch}; the run is {run.folder}")
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


def _examples(
    dataset: Dataset, samples: Sequence[Sample], facts: RunFacts, codec: CtcCodec
) -> Examples:
    labels = encode_labels(samples, codec, time_steps_of(facts.width))
    pictures = dataset.tensors(samples, facts.width, facts.height)
    return Examples(pictures, labels, [sample.label for sample in samples])


def _with_generated(
    training: Examples, config: TrainConfig, facts: RunFacts, codec: CtcCodec
) -> Examples:
    """Adds pictures drawn with the alphabet, the size and the lengths of the labelled ones."""
    lengths = [len(text) for text in training.texts]
    pictures, texts = generated_tensors(
        config.generated, facts.alphabet, lengths, facts.width, facts.height, config.seed
    )
    labels = np.full((len(texts), training.labels.shape[1]), -1, np.int32)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = codec.encode(text, time_steps_of(facts.width))
    return Examples(
        np.concatenate([training.pictures, pictures]),
        np.concatenate([training.labels, labels]),
        [*training.texts, *texts],
    )


def _restore(run: Run, model: keras.Model) -> Progress:
    saved = run.load_progress()
    if saved is None:
        return Progress()
    progress = Progress(**saved)
    model.load_weights(run.epoch_weights(progress.epoch))
    return progress


def _train_epoch(model: keras.Model, training: Examples, config: TrainConfig, epoch: int) -> float:
    """One pass over the training pictures in an order of its own; gives the mean loss."""
    # Everything random follows from seed and epoch, so that a resumed run goes on as it would
    # have. Keras keeps the state of dropout in variables that it does not save with weights.
    generator = np.random.default_rng((config.seed, epoch))
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(generator.integers(2**31, size=variable.shape))
    order = generator.permutation(len(training.texts))
    model.reset_metrics()
    for batch in _batches(order, config.batch_size):
        loss = model.train_on_batch(training.pictures[batch], training.labels[batch])
    return float(loss)


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (order[start : start + size] for start in range(0, len(order), size))


def _validate(model: keras.Model, validation: Examples, codec: CtcCodec) -> dict[str, float]:
    probabilities = model.predict(validation.pictures, batch_size=64, verbose=0)
    losses = ctc_loss(codec.blank_index)(validation.labels, probabilities)
    pairs = [
        (text, codec.decode(p).text)
        for text, p in zip(validation.texts, probabilities, strict=True)
    ]
    return {
        "val_loss": float(np.mean(losses)),
        "val_cer": character_error_rate(pairs),
        "val_exact_match": exact_matches(pairs) / len(pairs),
    }


def _save(run: Run, model: keras.Model, progress: Progress) -> None:
    """Stores the epoch so that a kill at any moment leaves a run that resumes."""
    model.save_weights(run.epoch_weights(progress.epoch))
    if progress.best_epoch == progress.epoch:
        model.save_weights(run.best_weights)
    with (run.folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(progress.history[0]))
        writer.writeheader()
        writer.writerows(progress.history)
    run.save_progress(asdict(progress))
    run.epoch_weights(progress.epoch - 1).unlink(missing_ok=True)


def _show(config: TrainConfig, progress: Progress, board: tf.summary.SummaryWriter) -> None:
    last = progress.history[-1]
    print(
        f"epoch {progress.epoch:3}/{config.epochs}  {last['seconds']:5.1f} s  "
        f"loss {last['loss']:7.3f}  val_loss {last['val_loss']:7.3f}  "
        f"CER {last['val_cer']:.4f}  exact {last['val_exact_match']:.4f}"
        + ("  best" if progress.best_epoch == progress.epoch else ""),
        flush=True,
    )
    with board.as_default(step=progress.epoch):
        for name, value in last.items():
            tf.summary.scalar(name, value)
    board.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not resume an interrupted run")
    add_config_options(parser)
    arguments = parser.parse_args()
    with reported():
        train(config_of(arguments), arguments.runs, arguments.fresh)


if __name__ == "__main__":
    main()
