"""A run: the folder with the results of a training, and with its state to resume it.

runs/<time>-<name>/
    config.toml           the settings
    run.json              alphabet, picture size, data digest, package versions
    split/<split>.csv     the pictures and labels of each split
    history.csv           loss, CER and exact match of every epoch
    best.weights.h5       weights of the epoch that is kept: the best on validation, or the last
    tensorboard/          the same history, for TensorBoard
    curves.png, validation.png, confusions.png, worst.png
                          pictures to look at, drawn at the end
    model.onnx            the exported model
    model.int8.onnx       the exported model in 8-bit integers, if requested
    evaluation/           results of `make evaluate`
    progress.json, epoch-<n>.weights.h5
                          state to resume an interrupted run; a finished run has none
"""

import fcntl
import glob
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import Sample, read_samples, write_samples
from training.exceptions import ConfigError, RunError, TrainingError
from training.fit.config import TrainConfig, load_config

if TYPE_CHECKING:
    import keras

INT8 = "-int8"
"""Suffix of the version of a model in 8-bit integers."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts that a run derived from its data; using its weights requires them."""

    alphabet: str
    width: int
    height: int
    data_digest: str
    versions: Mapping[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        return self.width, self.height

    @property
    def codec(self) -> CtcCodec:
        """The codec of the alphabet; the blank is the last class."""
        return CtcCodec(self.alphabet, blank_index=len(self.alphabet))


class Run:
    """One training run on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    @classmethod
    def create(
        cls,
        runs: Path,
        config: TrainConfig,
        facts: RunFacts,
        splits: Mapping[str, Sequence[Sample]],
    ) -> Self:
        """Creates the folder of a new run, with the settings, splits and facts."""
        stem = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{config.name}"
        names = (stem if n == 0 else f"{stem}-{n}" for n in range(1000))
        folder = next(runs / name for name in names if not (runs / name).exists())
        (folder / "split").mkdir(parents=True)
        run = cls(folder)
        run.lock()
        config.save(folder / "config.toml")
        for split, samples in splits.items():
            write_samples(run.split_path(split), samples)
        run.save_progress({})  # empty; a run without this file is finished
        # Written last: a folder with this file is a complete run.
        _write_json(folder / "run.json", asdict(facts))
        return run

    @classmethod
    def find_interrupted(cls, runs: Path, config: TrainConfig, facts: RunFacts) -> Self | None:
        """The newest unfinished run of the same settings and data that no process is training."""
        for folder in sorted(runs.glob("*/"), reverse=True):
            run = cls(folder)
            # A folder that is not a complete run cannot be resumed.
            with suppress(RunError, ConfigError):
                same = run.config == config and run.facts == facts
                if same and not run.finished and run.lock():
                    return run
        return None

    @classmethod
    def find(cls, runs: Path, name: str | None) -> Self:
        """The run of this name or path, or the newest finished run with this name in its settings.

        Without a name, the newest finished run.

        Raises:
            RunError: there is no such run.
        """
        if name is None:
            found = [cls(path) for path in sorted(runs.glob("*/"))]
            finished = [run for run in found if run.finished]
            if not finished:
                raise RunError(
                    "; ".join(run.state for run in found)
                    or f"{runs} holds no run; `make train` makes one."
                )
            return finished[-1]
        for folder in (Path(name), runs / name):
            if (folder / "run.json").exists():
                run = cls(folder)
                if not run.finished:
                    raise RunError(run.state)
                return run
        called = [cls(path) for path in sorted(runs.glob(f"*-{glob.escape(name)}/"))]
        finished = [run for run in called if run.finished and run.config.name == name]
        if finished:
            return finished[-1]
        unfinished = [run.state for run in called if not run.finished]
        raise RunError("; ".join(unfinished) or f"there is no run {name} in {runs}.")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def config(self) -> TrainConfig:
        """The settings of the run."""
        if not (self.folder / "config.toml").exists():
            raise RunError(f"{self.folder} lacks config.toml.")
        return load_config(self.folder / "config.toml", {})

    @property
    def facts(self) -> RunFacts:
        """Facts that the run derived from its data."""
        try:
            return RunFacts(**json.loads((self.folder / "run.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.folder}/run.json cannot be used: {error}") from error

    @property
    def best_weights(self) -> Path:
        """The file of the weights that are kept: of the best epoch by `monitor`, or the last."""
        return self.folder / "best.weights.h5"

    @property
    def exported(self) -> Path:
        """The run's own exported model."""
        return self.folder / "model.onnx"

    @property
    def quantized(self) -> Path:
        """The run's own exported model, with convolutions in 8-bit integers."""
        return self.folder / "model.int8.onnx"

    def is_current(self, exported: Path) -> bool:
        """Whether an exported model exists and is not older than the run's weights."""
        try:
            return exported.stat().st_mtime >= self.best_weights.stat().st_mtime
        except FileNotFoundError:
            return False

    @property
    def finished(self) -> bool:
        """Whether the training is finished."""
        return self.best_weights.exists() and not self._progress_path.exists()

    @property
    def state(self) -> str:
        """The state in words: finished, or the number of epochs so far."""
        if self.finished:
            return f"{self.folder} is finished"
        try:
            done = (self.load_progress() or {}).get("epoch", 0)
            return (
                f"{self.folder} is not finished: {done} of {self.config.epochs} epochs; "
                "the command that began it resumes it"
            )
        except (TrainingError, ValueError):
            return f"{self.folder} is no run"

    @property
    def _progress_path(self) -> Path:
        return self.folder / "progress.json"

    def lock(self) -> bool:
        """Locks the run for this process; False if another process is training it."""
        self._lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            return False
        return True

    def unlock(self) -> None:
        """Lets another process train the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def split_path(self, split: str) -> Path:
        """The file with the table of a split."""
        return self.folder / "split" / f"{split}.csv"

    def split(self, split: str) -> list[Sample]:
        """The samples of a split."""
        return read_samples(self.split_path(split))

    def load_model(self) -> "keras.Model":
        """The model with the weights that are kept, without dropout."""
        from training.models.registry import build_model  # imports Keras

        config, facts = self.config, self.facts
        classes = facts.codec.classes
        model = build_model(config.architecture, *facts.size, classes, channels=config.channels)
        model.load_weights(self.best_weights)
        return model

    def epoch_weights(self, epoch: int) -> Path:
        """The file of the weights and the optimizer state after an epoch."""
        return self.folder / f"epoch-{epoch}.weights.h5"

    def save_best(self, model: "keras.Model") -> None:
        """Replaces the weights that are kept, atomically."""
        temporary = self.folder / ".best.weights.h5"
        model.save_weights(temporary)
        temporary.replace(self.best_weights)

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        """Replaces the progress atomically: after a kill, it is either the old or the new one."""
        _write_json(self._progress_path, progress)

    def load_progress(self) -> dict[str, Any] | None:
        """The progress of an interrupted run; None if no epoch was finished."""
        try:
            progress: dict[str, Any] = json.loads(self._progress_path.read_text())
            return progress or None
        except FileNotFoundError:
            return None

    def finish(self) -> None:
        """Removes the files that only resuming needs."""
        # First: without this file the run counts as finished, even if the rest fails.
        self._progress_path.unlink()
        for weights in self.folder.glob("epoch-*.weights.h5"):
            weights.unlink()
        self.unlock()


def with_start_found(config: TrainConfig, runs: Path) -> TrainConfig:
    """The settings, with `init_from` replaced by the folder of the run that it names.

    When the training is resumed, another run may be the newest of that name.

    Raises:
        RunError: there is no such run.
    """
    if not config.init_from or config.init_from.endswith((".onnx", ".npz")):
        return config
    return replace(config, init_from=str(Run.find(runs, config.init_from).folder))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)
