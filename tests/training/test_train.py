import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import Dataset
from training.data.split import split_by_content
from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig
from training.fit.loader import labelled_examples
from training.fit.runs import Run
from training.fit.train import train
from training.models.crnn import build_crnn
from training.models.loss import ctc_loss


def test_the_seed_model_has_its_parameters() -> None:
    """The tutorial's layers and 432,596 parameters for 19 symbols and the blank."""
    model = build_crnn(200, 50, 20)
    names = [layer.name for layer in model.layers]
    assert {"Conv1", "Conv2", "dense1", "dense2"} <= set(names)
    assert model.count_params() == 432_596
    assert model.output_shape == (None, 50, 20)


@pytest.mark.parametrize("size", [(160, 60), (201, 53), (48, 16)])
def test_other_picture_sizes(size: tuple[int, int]) -> None:
    """Any size gives a time step for every four columns."""
    assert build_crnn(*size, 5).output_shape == (None, size[0] // 4, 5)


def test_a_run_holds_what_it_promises(run: Run, data: Path, config: TrainConfig) -> None:
    """Settings, splits, history, weights and the log for TensorBoard."""
    assert run.finished
    assert run.config == config
    assert (run.facts.alphabet, run.facts.width, run.facts.height) == ("7AB", 48, 16)
    expected = split_by_content(Dataset(data).samples)
    assert {split: run.split(split) for split in expected} == expected
    with (run.folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert {"epoch", "loss", "val_loss", "val_cer", "val_exact_match", "seconds"} <= set(history[0])
    # No clean epoch comes first where `clean_until` is 0, as in runs that go on from another one.
    assert [float(row["strength"]) for row in history] == [0.5, 1.0, 1.0]
    assert list((run.folder / "tensorboard").iterdir())


def weights_of(run: Run) -> list[np.ndarray]:
    model = build_crnn(run.facts.width, run.facts.height, len(run.facts.alphabet) + 1)
    model.load_weights(run.best_weights)
    return [np.asarray(weight) for weight in model.get_weights()]


def test_the_same_seed_gives_the_same_model(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    """Training is reproducible, weight for weight; another seed gives another model."""
    again = train(config, tmp_path)
    other = train(replace(config, seed=1), tmp_path)
    assert all(map(np.array_equal, weights_of(run), weights_of(again)))
    assert not all(map(np.array_equal, weights_of(run), weights_of(other)))


def test_the_loss_of_an_epoch_is_the_mean_over_its_pictures(
    config: TrainConfig, data: Path, tmp_path: Path
) -> None:
    """That of all batches, the smaller last one included, where hardly a weight is moved."""
    still = replace(config, epochs=1, strength=0.0, learning_rate=1e-12, batch_size=15)
    run = train(replace(still, dropout=0.0, lstm_dropout=0.0), tmp_path)
    codec = CtcCodec(run.facts.alphabet, len(run.facts.alphabet))
    model = build_crnn(run.facts.width, run.facts.height, codec.classes)
    model.load_weights(run.best_weights)
    taught = labelled_examples(Dataset(data), run.split("train"), 48, 16, codec, memory=100)
    losses = ctc_loss(codec.blank_index)(taught.labels, model.predict(taught.pictures))
    with (run.folder / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) == pytest.approx(float(np.mean(losses)), rel=1e-4)


def test_a_killed_run_resumes(data: Path, tmp_path: Path) -> None:
    """After kill -9 the same command goes on, and ends with the weights it would have had."""
    config = TrainConfig(
        name="killed", data=str(data), epochs=4, average=0.9, generated=8, aligned_epochs=3
    )
    command = [sys.executable, "-m", "training.fit.train", "--runs", str(tmp_path / "runs")]
    for name in ("name", "data", "epochs", "average", "generated", "aligned_epochs"):
        command += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("epoch   2/4"):
            assert line, "the training ended too early"
        process.send_signal(signal.SIGKILL)
    (folder,) = (tmp_path / "runs").iterdir()
    assert not Run(folder).finished

    resumed = train(config, tmp_path / "runs")
    assert resumed.folder == folder
    with (folder / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert not list(folder.glob("epoch-*")), "what only resuming needs is left behind"
    uninterrupted = train(config, tmp_path / "others")
    assert all(map(np.array_equal, weights_of(resumed), weights_of(uninterrupted)))
    assert train(config, tmp_path / "runs").folder != folder, "a finished run was resumed"


def test_a_run_is_finished_by_its_end_alone(
    run: Run, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is killed, there is no run to export by half, and none that cannot go on."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    killed = Run.create(tmp_path, config, run.facts, splits)
    killed.best_weights.write_bytes(b"half of the weights")
    assert not killed.finished
    assert killed.load_progress() is None, "it begins anew"
    killed.save_progress({"epoch": 1})
    killed.epoch_weights(1).write_bytes(b"weights")

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", kill)
        with pytest.raises(KeyboardInterrupt):
            killed.finish()
    killed.unlock()
    assert killed.finished
    assert Run.find_interrupted(tmp_path, config, run.facts) is None


def test_only_the_same_run_is_resumed(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    """Another setting, other data, or a run that is being trained: none is resumed."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    waiting = Run.create(tmp_path, config, run.facts, splits)
    assert Run.find_interrupted(tmp_path, config, run.facts) is None, "it is locked by this process"
    waiting.unlock()
    assert Run.find_interrupted(tmp_path, replace(config, epochs=9), run.facts) is None
    assert Run.find_interrupted(tmp_path, config, replace(run.facts, data_digest="x")) is None
    found = Run.find_interrupted(tmp_path, config, run.facts)
    assert found is not None
    assert found.folder == waiting.folder


def figures(val_loss: float, val_cer: float = 0.1, exact: float = 0.0) -> dict[str, float]:
    return {"val_loss": val_loss, "val_cer": val_cer, "val_clean_exact_match": exact}


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    """A lower validation loss starts the count anew."""
    progress = Progress()
    for loss in (3.0, 2.0, 2.5, 2.5, 1.0, 1.5):
        progress.record(figures(loss), TrainConfig())
    assert (progress.epoch, progress.best_epoch, progress.best_loss) == (6, 5, 1.0)
    assert progress.epochs_without_gain == 1


@pytest.mark.parametrize("setting", ["keep_last", "train_on_validation"])
def test_the_last_epoch_is_kept_where_no_loss_may_choose(setting: str) -> None:
    """On request, or where validation pictures are trained on, the last epoch is the best."""
    config = TrainConfig(**{setting: True})
    progress = Progress()
    for loss in (3.0, 2.0, 2.5):
        progress.record(figures(loss), config)
    assert (progress.best_epoch, progress.epochs_without_gain) == (3, 0)


def test_the_plateau_of_blanks_costs_no_patience() -> None:
    """As long as nothing at all is read, training has not begun to fail."""
    progress = Progress()
    for loss in (16.3, 16.4, 16.5, 16.4):
        progress.record(figures(loss, val_cer=1.0), TrainConfig())
    assert progress.epochs_without_gain == 0


def test_distortions_begin_when_clean_pictures_are_read() -> None:
    """Clean pictures alone until enough of them are read; then the strength rises to its end."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=4)
    progress = Progress()
    strengths = []
    for exact in (0.0, 0.4, 0.5, 0.0, 0.9, 0.9, 0.9):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=exact), config)
    assert strengths == [None, None, None, *map(pytest.approx, (0.2, 0.4, 0.6, 0.8))]
    assert progress.strength(config) == pytest.approx(0.8)


def test_epochs_that_are_taught_places_are_not_distorted() -> None:
    """A distortion would move the characters away from where they are said to be."""
    config = TrainConfig(strength=0.8, clean_until=0.5, ramp_epochs=2, aligned_epochs=2)
    progress = Progress()
    strengths = []
    for _ in range(4):
        strengths.append(progress.strength(config))
        progress.record(figures(1.0, exact=0.9), config)
    assert strengths == pytest.approx([None, None, 0.8, 0.8])


def test_places_teach_faster_than_texts(config: TrainConfig, tmp_path: Path) -> None:
    """From the same generated pictures, one model begins to read while the other's CTC waits."""
    generated = replace(
        config,
        pretrain=True,
        generated=400,
        epochs=6,
        strength=0.0,
        backgrounds=0,
        learning_rate=0.003,
    )
    rates = []
    for taught in (6, 0):
        run = train(replace(generated, aligned_epochs=taught), tmp_path)
        with (run.folder / "history.csv").open() as file:
            rates.append(float([*csv.DictReader(file)][-1]["val_cer"]))
    assert rates[0] < 0.8 < rates[1]


def test_the_seed_recipe_never_distorts() -> None:
    """Without a strength, pictures stay clean however well they are read."""
    progress = Progress()
    progress.record(figures(1.0, exact=1.0), TrainConfig())
    assert progress.strength(TrainConfig()) is None


def test_a_run_of_an_older_version_goes_on(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    """Figures that its first epochs lack stay empty in the table."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    resumed = Run.create(tmp_path, config, run.facts, splits)
    progress = Progress(epoch=1, history=[{"epoch": 1, **figures(2.0)}])
    progress.record({**figures(1.0), "learning_rate": 0.001}, config)
    model = build_crnn(48, 16, 4)
    model.compile("adam")
    progress.save(resumed, model)
    with (resumed.folder / "history.csv").open() as file:
        assert [row["learning_rate"] for row in csv.DictReader(file)] == ["", "0.001"]
