"""The training loop.

The same call resumes an interrupted run, which ends with the same weights as without the
interruption.
"""

import importlib.metadata
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from service.ocr.decoding.ctc import CtcCodec
from training.augmentation.splicing import Splicing, cuts_of
from training.data.dataset import Dataset, Sample, alphabet_of, digest_of, working_size
from training.data.split import split_by_content
from training.evaluation.metrics import character_error_rate, exact_matches
from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig
from training.fit.datamodule import Material, gather
from training.fit.ema import adam, averaged
from training.fit.interpolation import Weights, losses_between, move_back
from training.fit.loader import Examples
from training.fit.progress_display import Advance, duration, epoch_display
from training.fit.run_charts import draw_run
from training.fit.runs import Run, RunFacts, with_start_found
from training.fit.schedule import learning_rate, planned_epochs, seconds_left, warm_up
from training.fit.warm_start import StartingWeights
from training.models.loss import ctc_loss, frame_loss
from training.models.registry import build_model

_VALIDATED_AT_ONCE = 1024
"""Pictures in a batch of validation; bounds the memory that validation takes."""

_MOST_SPLICED = 1000
"""Greatest number of labelled pictures to join; with more, few are learned by heart."""

_MEASURED_STEPS = 20
"""Steps after which the time of the whole training is estimated."""


def train(config: TrainConfig, runs: Path, fresh: bool = False) -> Run:
    """Trains one model; resumes an interrupted run of the same settings unless `fresh`.

    Returns:
        The finished run.

    Raises:
        DataError: the data cannot be used.
    """
    started = time.monotonic()
    config = with_start_found(config, runs)
    dataset = Dataset(Path(config.data))
    facts = _facts(config, dataset.samples)
    splits = split_by_content(dataset.samples, config.fold)
    material = gather(config, dataset, splits, facts.size, facts.codec)

    model, anew = starting_model(config, facts, runs)
    if config.init_from:
        print(f"starting from {config.init_from}" + (f", {', '.join(anew)} anew" if anew else ""))
    start = model.get_weights()
    ctc = ctc_loss(facts.codec.blank_index)
    model.compile(adam(config.learning_rate, config.average), ctc, jit_compile=False)
    model.optimizer.build(model.trainable_variables)

    run = None if fresh else Run.find_interrupted(runs, config, facts)
    if run is None:
        run = Run.create(runs, config, facts, splits)
    progress = Progress.restore(run, model)
    # The run of a half is in a temporary folder, whose name is of no use.
    name = f"half {config.half}" if config.half else f"{run.folder}"
    print(
        f"{name}: {model.count_params():,} parameters, "
        f"{len(material.feed.clean.texts)} pictures to train on, repeats included, "
        f"{material.clean} {'of them' if config.learned else 'others'} to validate"
        + (f"; resuming after epoch {progress.epoch}" if progress.epoch else "")
        + (f"; at most {config.minutes:g} minutes" if config.minutes else ""),
        flush=True,
    )
    board = tf.summary.create_file_writer(str(run.folder / "tensorboard"))
    prepared = time.monotonic() - started
    while progress.epoch < (epochs := planned_epochs(config, progress, prepared)):
        started = time.monotonic()
        loss = frame_loss if progress.aligned(config) else ctc
        if model.loss is not loss:
            model.compile(model.optimizer, loss, jit_compile=False)
        left = seconds_left(config, progress, prepared)
        figures = _train_epoch(config, progress, model, material, facts.codec, epochs, left)
        with averaged(model):
            figures |= _validate(model, material, facts.codec)
        figures["seconds"] = time.monotonic() - started
        progress.record(figures, config)
        progress.save(run, model)
        _show(config, progress, epochs, board)

    model.load_weights(run.best_weights)
    if config.interpolated and not config.train_on_validation:
        shares = losses_between(
            model, start, lambda: _validate(model, material, facts.codec)["val_loss"]
        )
        keep_share(model, start, min(shares, key=shares.__getitem__))
    draw_run(run, model, material.validation, facts.codec)
    # Back to back: a run interrupted between the two would move its weights back twice.
    run.save_best(model)
    run.finish()
    # ru_maxrss is in kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: best epoch {progress.best_epoch}, {peak:.1f} GiB of memory", flush=True)
    best = progress.history[progress.best_epoch - 1]
    if best["val_exact_match"] == 0:
        print(_READS_NOTHING.format(cer=best["val_cer"]))
    return run


_READS_NOTHING = """\
warning: the model reads none of the validation pictures (character error rate {cer:.2f}).
Likely causes: labels that do not belong to their pictures (`make inspect` shows both), too few
epochs or too little time, fewer than a hundred labelled pictures without a model to start from,
or text that cannot be seen in gray (--channels 3)."""


def starting_model(
    config: TrainConfig, facts: RunFacts, runs: Path
) -> tuple[keras.Model, list[str]]:
    """The model at the start of a training, and the names of its layers that start anew."""
    keras.utils.set_random_seed(config.seed)
    model = build_model(
        config.architecture, *facts.size, facts.codec.classes, config.dropout, config.lstm_dropout,
        config.channels,
    )  # fmt: skip
    if not config.init_from:
        return model, []
    return model, StartingWeights.find(config.init_from, runs).put_into(model, facts.alphabet)


def keep_share(model: keras.Model, start: Weights, share: float) -> None:
    """Moves trained weights back towards the starting weights, and prints how far."""
    move_back(model, start, share)
    print(f"the model keeps {share:.0%} of the way from the starting to the trained weights")


def _with_time_estimate(shown: Advance, pictures: int, epochs: int, most_seconds: float) -> Advance:
    """Wraps a display; also prints an estimate of the training time after the first steps.

    Args:
        pictures: number of pictures in an epoch.
        most_seconds: time limit of the training; the first epoch is always finished.
    """
    times: list[float] = []
    counts: list[int] = []

    def advance(seen: int, loss: float) -> None:
        times.append(time.monotonic())
        counts.append(seen)
        if len(times) == _MEASURED_STEPS:
            # The first two steps build the graph.
            a_picture = (times[-1] - times[1]) / (counts[-1] - counts[1])
            epoch = a_picture * pictures
            whole = max(epoch, min(epochs * epoch, most_seconds))
            print(f"{1000 * a_picture:.1f} ms a picture; at most {duration(whole)} in all")
        shown(seen, loss)

    return advance


def _facts(config: TrainConfig, samples: Sequence[Sample]) -> RunFacts:
    width, height = working_size(samples)
    packages = ("tensorflow", "keras", "numpy", "pillow")
    return RunFacts(
        alphabet=alphabet_of(samples),
        width=config.width or width,
        height=config.height or height,
        data_digest=digest_of(samples),
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def _train_epoch(
    config: TrainConfig,
    progress: Progress,
    model: keras.Model,
    material: Material,
    codec: CtcCodec,
    epochs: int,
    left: float,
) -> dict[str, float]:
    """Trains the next epoch; returns its strength, learning rate and mean loss.

    Args:
        epochs: planned number of epochs.
        left: seconds that are left for epochs.
    """
    epoch = progress.epoch + 1
    feed = material.aligned if progress.aligned(config) else material.feed
    strength = progress.strength(config)
    count = feed.pictures(strength)
    rate = learning_rate(config, progress, epochs)
    splicing = None
    if config.spliced and strength is not None:
        splicing = _splicing(config, model, material.labelled, codec)
    # Randomness depends only on seed and epoch, so that a resumed run goes on as if it had not
    # stopped. Keras does not save the variables with the state of dropout with the weights.
    generator = np.random.default_rng((config.seed, epoch, 0))
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(generator.integers(2**31, size=variable.shape))
    total, seen = 0.0, 0
    batches = feed.batches(epoch, strength, splicing)
    with epoch_display(epoch, epochs, count, left) as advance:
        if epoch == 1:
            advance = _with_time_estimate(advance, count, epochs, left)
        for step, batch in enumerate(batches, start=int(model.optimizer.iterations)):
            model.optimizer.learning_rate = warm_up(rate, step, config.warmup_steps)
            total += len(batch[0]) * float(model.train_on_batch(*batch))
            seen += len(batch[0])
            advance(seen, total / seen)
    return {"strength": strength or 0.0, "learning_rate": rate, "loss": total / seen}


def _splicing(
    config: TrainConfig, model: keras.Model, labelled: Examples, codec: CtcCodec
) -> Splicing:
    """Joins the labelled pictures where the model now sees their characters."""
    pictures = labelled.pictures[:_MOST_SPLICED]
    with averaged(model):
        seen = model.predict(pictures, batch_size=64, verbose=0)
    cuts = [
        cuts_of(one, codec.encode(text, len(one)), codec.blank_index, pictures.shape[1])
        for one, text in zip(seen, labelled.texts[: len(seen)], strict=True)
    ]
    return Splicing(labelled.pictures, labelled.labels, cuts, config.spliced)


def _validate(model: keras.Model, material: Material, codec: CtcCodec) -> dict[str, float]:
    """Loss, CER and exact match of all validation pictures, and exact match of the clean ones."""
    validation, clean = material.validation, material.clean
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


def _show(
    config: TrainConfig, progress: Progress, epochs: int, board: tf.summary.SummaryWriter
) -> None:
    last = progress.history[-1]
    print(
        f"epoch {progress.epoch:3}/{epochs}  {last['seconds']:5.1f} s  "
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
