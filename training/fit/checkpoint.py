"""The progress of a training, which is saved after every epoch and controls the next."""

import csv
from dataclasses import asdict, dataclass, field
from typing import Self

import keras

from training.fit.config import TrainConfig
from training.fit.ema import averaged
from training.fit.runs import Run

_GENTLE_UNTIL = 0.8
"""Share of the clean validation pictures read, above which distortions exceed gentle ones."""


@dataclass(slots=True)
class Progress:
    """The state of the training loop after an epoch."""

    epoch: int = 0
    best_epoch: int = 0
    clean_epochs: int | None = None
    """Epochs until `clean_until` of the clean pictures were read; None before."""
    history: list[dict[str, float]] = field(default_factory=list)

    def record(self, figures: dict[str, float], config: TrainConfig) -> None:
        """Adds the figures of an epoch."""
        self.epoch += 1
        self.history.append({"epoch": self.epoch} | figures)
        if self.clean_epochs is None and figures["val_clean_exact_match"] >= config.clean_until:
            self.clean_epochs = self.epoch
        if config.keep_last or config.train_on_validation:
            # Figures on training pictures do not show which epoch reads unseen pictures best.
            best = self.history[-1]
        else:
            # Among epochs with an equal figure, the epoch with the lowest loss is kept.
            best = min(self.history, key=lambda row: (row[config.monitor], row["val_loss"]))
        self.best_epoch = int(best["epoch"])

    def aligned(self, config: TrainConfig) -> bool:
        """Whether the next epoch trains with the places of characters."""
        return self.epoch < config.aligned_epochs

    def strength(self, config: TrainConfig) -> float | None:
        """The strength of the distortions in the next epoch; None for clean pictures only.

        Distortions from the first step would keep CTC on its plateau of blanks. So pictures stay
        clean until they are read; then the strength rises. If the text is hard to read without
        distortions, strong distortions would hide it.
        """
        if self.clean_epochs is None or not config.strength or self.aligned(config):
            return None
        rise = (self.epoch + 1 - self.clean_epochs) / config.ramp_epochs
        read = self.history[-1]["val_clean_exact_match"] if self.history else 0.0
        beyond = max(0.0, (read - _GENTLE_UNTIL) / (1 - _GENTLE_UNTIL))
        return config.strength * min(1.0, rise) * (config.gentle + (1 - config.gentle) * beyond)

    def save(self, run: Run, model: keras.Model) -> None:
        """Stores the epoch; a run that is killed at any moment can still be resumed."""
        model.save_weights(run.epoch_weights(self.epoch))
        if self.best_epoch == self.epoch:
            with averaged(model):
                run.save_best(model)
        with (run.folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            # The first rows of a run begun by an older version have fewer figures.
            writer = csv.DictWriter(file, list(self.history[-1]))
            writer.writeheader()
            writer.writerows(self.history)
        run.save_progress(asdict(self))
        run.epoch_weights(self.epoch - 1).unlink(missing_ok=True)

    @classmethod
    def restore(cls, run: Run, model: keras.Model) -> Self:
        """Restores the progress and the weights of an interrupted run; else starts at epoch 0."""
        saved = run.load_progress()
        if saved is None:
            return cls(clean_epochs=None if run.config.clean_until else 0)
        for name in ("epochs_without_gain", "best_loss"):  # in runs begun by an earlier version
            saved.pop(name, None)
        progress = cls(**saved)
        model.load_weights(run.epoch_weights(progress.epoch))
        return progress
