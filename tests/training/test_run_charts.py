import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from service.ocr.recognizer import Recognizer
from training.fit import precision as hardware
from training.fit import train as train_module
from training.fit.config import TrainConfig
from training.fit.precision import compilation_of, precision_of
from training.fit.run_charts import draw_confusions, draw_curves
from training.fit.runs import Run
from training.fit.train import train
from training.models.registry import build_model


@pytest.mark.parametrize("name", ["curves", "validation", "confusions", "worst"])
def test_a_run_ends_with_pictures(run: Run, name: str) -> None:
    """Each of them is there and shows something."""
    with Image.open(run.folder / f"{name}.png") as image:
        assert min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24)) > 5


def test_what_was_misread_is_red(run: Run) -> None:
    """A model that has learned next to nothing has red captions among its worst pictures."""
    with Image.open(run.folder / "worst.png") as image:
        assert (np.asarray(image.convert("RGB")) == (187, 0, 0)).all(axis=2).any()


def test_curves_of_a_single_epoch(tmp_path: Path) -> None:
    """A run of one epoch has curves, too, and one that an older version began."""
    columns = "epoch,strength,learning_rate,loss,val_loss,val_cer,val_exact_match"
    values = "1,0,,16.3,16.4,1.0,0.0,0.0,5.2"
    path = tmp_path / "history.csv"
    path.write_text(f"{columns},val_clean_exact_match,seconds\n{values}\n")
    draw_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


@pytest.mark.parametrize(
    "pairs",
    [
        [("ab", "ab")],
        [("a", ""), ("", "b"), ("$_", "^\\")],
        [(chr(0x4E00 + n), chr(0x4E01 + n)) for n in range(3000)],
    ],
    ids=["no error", "nothing and signs", "thousands of symbols"],
)
def test_confusions_of_any_alphabet(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    """The matrix stays small enough to be looked at."""
    draw_confusions(pairs, tmp_path / "confusions.png")
    with Image.open(tmp_path / "confusions.png") as image:
        assert max(image.size) < 2000


def test_the_command_ends_with_an_export(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's folder holds a model that the service can use, unless none is wanted."""
    for wanted in (True, False):
        runs = tmp_path / str(wanted)
        replace(config, epochs=1, export=wanted).save(tmp_path / "config.toml")
        arguments = ["train", "--runs", str(runs), "--config", str(tmp_path / "config.toml")]
        monkeypatch.setattr(sys, "argv", arguments)
        train_module.main()
        run = Run.find(runs, None)
        assert run.exported.exists() == wanted
    exported = Recognizer.load(Run.find(tmp_path / "True", None).exported)
    exported.verify()
    assert exported.metadata.training_run == Run.find(tmp_path / "True", None).name


def test_without_a_gpu_auto_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision and compilation are for GPUs; either can be asked for, or refused."""
    config = TrainConfig()
    for there, policy, compiled in ((False, "float32", False), (True, "mixed_float16", "auto")):
        monkeypatch.setattr(hardware, "has_gpu", lambda there=there: there)
        with precision_of(config):
            assert keras.config.dtype_policy().name == policy
        assert compilation_of(config) == compiled
        with precision_of(replace(config, precision="float32")):
            assert keras.config.dtype_policy().name == "float32"
        assert compilation_of(replace(config, xla="off")) is False
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("architecture", ["crnn", "residual-crnn"])
def test_the_softmax_stays_exact(architecture: str) -> None:
    """In mixed precision the layers compute in float16, the probabilities are float32."""
    with precision_of(TrainConfig(precision="mixed")):
        model = build_model(architecture, 48, 16, 4)
    assert model.output.dtype == "float32"
    assert model.layers[1].compute_dtype == "float16"
    assert model.layers[1].kernel.dtype == "float32"


def test_what_is_meant_for_gpus_trains_anywhere(config: TrainConfig, tmp_path: Path) -> None:
    """Compiled and in mixed precision a run goes through, with finite and averaged weights."""
    asked = replace(config, precision="mixed", xla="on", average=0.9, epochs=2)
    run = train(asked, tmp_path)
    rows = (run.folder / "history.csv").read_text().splitlines()[1:]
    assert len(rows) == 2
    assert all(np.isfinite([float(value) for value in row.split(",")]).all() for row in rows)
    assert keras.config.dtype_policy().name == "float32"
