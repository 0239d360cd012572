import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.data.dataset import Dataset
from training.data.split import split_by_content
from training.fit import loop
from training.fit.config import TrainConfig
from training.fit.loop import train
from training.fit.runs import Run
from training.models.crnn import build_crnn


def test_a_run_stores_settings_splits_history_and_weights(
    run: Run, data: Path, config: TrainConfig
) -> None:
    """A run also stores the log for TensorBoard."""
    assert run.finished
    assert run.config == config
    assert (run.facts.alphabet, run.facts.width, run.facts.height) == ("7AB", 48, 16)
    expected = split_by_content(Dataset(data).samples)
    assert {split: run.split(split) for split in expected} == expected
    with (run.folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert {"epoch", "loss", "val_loss", "val_cer", "val_exact_match", "seconds"} <= set(history[0])
    # With a `clean_until` of 0, as in runs that start from another one, no epoch is clean.
    assert [float(row["strength"]) for row in history] == [0.5, 1.0, 1.0]
    assert list((run.folder / "tensorboard").iterdir())


def weights_of(run: Run) -> list[np.ndarray]:
    model = build_crnn(run.facts.width, run.facts.height, len(run.facts.alphabet) + 1)
    model.load_weights(run.best_weights)
    return [np.asarray(weight) for weight in model.get_weights()]


class StoppedError(Exception):
    """Ends a training as a kill would."""


def test_an_interrupted_run_ends_with_the_same_weights(
    run: Run, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run reads pictures from disk; the other run is never interrupted."""

    def stop_after_the_first(*arguments: object) -> None:
        raise StoppedError

    streamed = replace(config, memory=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_show", stop_after_the_first)
        with pytest.raises(StoppedError):
            train(streamed, tmp_path)
    (folder,) = tmp_path.iterdir()
    stopped = Run(folder)
    assert not stopped.finished
    assert "not finished: 1 of 3 epochs" in stopped.state
    # A killed process would not hold the lock any more.
    monkeypatch.setattr(Run, "lock", lambda self: True)
    resumed = train(streamed, tmp_path)
    assert resumed.folder == folder
    with (folder / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert not list(folder.glob("epoch-*")), "files that only resuming needs are left behind"
    assert all(map(np.array_equal, weights_of(resumed), weights_of(run)))


def test_a_training_that_makes_the_model_worse_is_partly_taken_back(
    run: Run, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After much too large steps, as much as possible is taken back."""
    spoilt = replace(
        config, init_from=str(run.folder), interpolated=True, epochs=1, learning_rate=0.03
    )
    kept = train(spoilt, tmp_path)
    assert "70% of the way" in capsys.readouterr().out
    assert not all(map(np.array_equal, weights_of(kept), weights_of(run)))


def test_a_run_that_reads_nothing_says_so(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Likely causes are named. Since the time is up, the training ends after the first epoch."""
    hopeless = replace(config, minutes=0.001, learning_rate=1e-9, average=0.0)
    run = train(hopeless, tmp_path)
    assert run.finished
    assert len((run.folder / "history.csv").read_text().splitlines()) == 2
    assert "reads none of the validation pictures" in capsys.readouterr().out
