"""The training of the base model, on any backend of Keras.

`log.jsonl` in the run's folder has the progress, and how well the base reads pictures in fonts that
it was not trained on. `base.npz` there has the weights so far.
"""

import argparse
import json
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from training.base.alphabet import ALPHABET
from training.base.augment import Augment
from training.base.loss import aligned_or_ctc
from training.base.pool import (
    CHANNELS,
    CODEC,
    HEIGHT,
    WIDTH,
    Pool,
    load_fonts,
    split_fonts,
)
from training.base.validation import Validation, exact_matches
from training.base.weights import save_weights
from training.models.registry import build_model

ARCHITECTURE = "residual-crnn-wide"
_RATE = 2e-3
_LAST_RATE = 2e-5
_WARM_UP = 0.015
"""Share of the training in which the learning rate rises."""
_ALIGNED = 0.06
"""Share of the training after which fewer pictures are aligned; after twice this share, none."""
_EMA = 0.998


def build_trainer(seed: int) -> tuple[keras.Model, keras.Model]:
    """The base model, and a model for training, which augments uint8 pictures before the base."""
    base = _build_base()
    pictures = keras.Input((WIDTH, HEIGHT, CHANNELS), dtype="uint8", name="pictures")
    aligned = keras.Input((1,), dtype="int32", name="aligned")
    trainer = keras.Model((pictures, aligned), base(Augment(seed)(pictures, aligned)))
    return base, trainer


def _build_base() -> keras.Model:
    model = build_model(ARCHITECTURE, WIDTH, HEIGHT, CODEC.classes, channels=CHANNELS)
    both = model.get_layer("bidirectional")
    # JAX then loops over the time steps: cuDNN takes only float32, and its compilation did not end.
    both.forward_layer.use_cudnn = both.backward_layer.use_cudnn = False
    return model


class Clock:
    """The share of the training time that has passed, 0 to 1; goes on after a resumption."""

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self._seconds, self._spent = seconds, spent
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of training so far, including those before a resumption."""
        return self._spent + time.monotonic() - self._started

    @property
    def share(self) -> float:
        """Share of the training time that has passed, 0 to 1."""
        return min(1.0, self.spent / self._seconds)

    def restart(self) -> None:
        """Leaves out the time since the clock was created."""
        self._started = time.monotonic()


def rate_at(share: float) -> float:
    """The learning rate: it rises linearly and falls along a cosine."""
    if share < _WARM_UP:
        return _RATE * max(0.02, share / _WARM_UP)
    fallen = (share - _WARM_UP) / (1 - _WARM_UP)
    return float(_LAST_RATE + (_RATE - _LAST_RATE) * 0.5 * (1 + np.cos(np.pi * fallen)))


def aligned_at(share: float) -> float:
    """The share of pictures trained with a class for every time step."""
    return float(np.clip(2 - share / _ALIGNED, 0.0, 1.0))


def batches(pool: Pool, size: int, clock: Clock, seed: int) -> Iterator[tuple[Any, Any]]:
    """Endless batches, which a thread prepares ahead."""
    ready: queue.Queue[tuple[Any, Any]] = queue.Queue(6)
    rng = np.random.default_rng(seed)

    def make() -> None:
        while True:
            batch = pool.sample(size, rng)
            aligned = (rng.random((size, 1)) < aligned_at(clock.share)).astype(np.int32)
            truth = np.concatenate((batch.labels, batch.frames, aligned), axis=1)
            ready.put(((batch.pictures, aligned), truth))

    threading.Thread(target=make, daemon=True).start()
    while True:
        yield ready.get()


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate, writes the log, measures and saves at intervals, and ends on time."""

    def __init__(
        self,
        base: keras.Model,
        clock: Clock,
        pool: Pool,
        validation: Validation,
        folder: Path,
        every: float,
    ) -> None:
        super().__init__()
        self._base, self._clock, self._pool = base, clock, pool
        self._validation, self._folder, self._every = validation, folder, every
        self._measured = 0.0
        self._averaged = _build_base()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the learning rate."""
        self.model.optimizer.learning_rate = rate_at(self._clock.share)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a line of the log; measures if `every` seconds have passed, and at the end."""
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}; resume from the last saved state.")
        done = self._clock.share >= 1
        entry = {
            "seconds": round(self._clock.spent, 1),
            "steps": int(self.model.optimizer.iterations),
            "drawn": self._pool.drawn,
            "rate": float(f"{float(self.model.optimizer.learning_rate):.3g}"),
            "loss": round(loss, 4),
        }
        if done or self._clock.spent - self._measured >= self._every:
            started = time.monotonic()
            entry |= self.measure()
            entry["measuring"] = round(time.monotonic() - started, 1)
            self._measured = self._clock.spent
        with (self._folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)
        if done:
            self.model.stop_training = True

    def measure(self) -> dict[str, float]:
        """Saves the averaged weights, and returns their exact match on the validation pictures."""
        self.average()
        figures = exact_matches(self._averaged, self._validation)
        save_weights(self._folder / "base.npz", self._averaged, figures)
        state = self._folder / "state"
        state.mkdir(exist_ok=True)
        # Includes the state of the optimizer.
        self.model.save_weights(state / "new.weights.h5")
        (state / "new.weights.h5").replace(state / "trainer.weights.h5")
        (state / "seconds").write_text(f"{self._clock.spent:.1f}")
        return figures

    def average(self) -> None:
        """Copies the moving averages into the model that is measured and saved."""
        averages = self.model.optimizer._model_variables_moving_average
        average_of = {
            variable.path: average
            for variable, average in zip(self._base.trainable_variables, averages, strict=True)
        }
        for ours, theirs in zip(self._averaged.variables, self._base.variables, strict=True):
            # Copied with NumPy: JAX would share the array, and frees it when it predicts.
            ours.assign(np.array(ops.convert_to_numpy(average_of.get(theirs.path, theirs))))


def resume(trainer: keras.Model, folder: Path) -> float:
    """Loads the state of an interrupted run; returns the seconds of training so far."""
    state = folder / "state"
    if not (state / "seconds").exists():
        return 0.0
    trainer.optimizer.build(trainer.trainable_variables)
    trainer.load_weights(state / "trainer.weights.h5")
    return float((state / "seconds").read_text())


def train(arguments: argparse.Namespace) -> None:
    """Trains, or resumes an interrupted run in the same folder.

    Args:
        arguments: the arguments of `training.base.command`.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    fonts, kept = split_fonts(load_fonts(arguments.fonts))
    say(f"{len(fonts)} fonts, {len(kept)} for validation; {len(ALPHABET)} symbols")
    with tempfile.TemporaryDirectory(dir=arguments.pool) as temporary:
        pool = Pool(
            Path(temporary), arguments.capacity, arguments.processes, fonts,
            arguments.seed + int(time.time()) % 100_000, arguments.uses,
        )  # fmt: skip
        try:
            if arguments.bfloat16:
                keras.mixed_precision.set_global_policy("mixed_bfloat16")
            base, trainer = build_trainer(arguments.seed)
            trainer.compile(
                keras.optimizers.AdamW(
                    _RATE, weight_decay=1e-4, global_clipnorm=20.0, use_ema=True, ema_momentum=_EMA
                ),
                loss=aligned_or_ctc,
            )
            clock = Clock(60 * arguments.minutes, resume(trainer, folder))
            say(f"{base.count_params()} parameters; {clock.spent:.0f} s of training before")
            validation = Validation.draw(kept, arguments.validation)
            pool.wait_for(min(arguments.first, arguments.capacity))
            say(f"{pool.drawn} pictures drawn")
            clock.restart()
            progress = Progress(base, clock, pool, validation, folder, arguments.every)
            trainer.fit(
                batches(pool, arguments.batch_size, clock, arguments.seed + int(time.time())),
                steps_per_epoch=arguments.steps,
                epochs=1_000_000,
                shuffle=False,
                verbose=0,
                callbacks=[progress],
            )
            say("done")
        finally:
            pool.stop()
