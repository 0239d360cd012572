import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset
from training.export.checks import check_graph
from training.export.export import export
from training.fit.config import TrainConfig
from training.fit.train import train
from training.models.registry import ARCHITECTURES, build_model


def test_the_settings_know_every_architecture() -> None:
    """What a recipe may ask for is what can be built."""
    (setting,) = (field for field in fields(TrainConfig) if field.name == "architecture")
    assert set(setting.metadata["choices"]) == set(ARCHITECTURES)


@pytest.mark.parametrize("size", [(200, 50), (201, 53), (48, 16), (7, 4)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_time_step_for_every_four_columns(architecture: str, size: tuple[int, int]) -> None:
    """Whatever the picture size, each architecture keeps the contract of the labels."""
    model = build_model(architecture, *size, 5)
    assert model.input_shape == (None, *size, 1)
    assert model.output_shape == (None, size[0] // 4, 5)
    probabilities = model(np.random.default_rng(0).random((2, *size, 1), np.float32))
    assert np.allclose(np.asarray(probabilities).sum(axis=-1), 1, atol=1e-5)


_STEPS = """
import numpy as np
from training.models.registry import build_model
from training.models.loss import ctc_loss

model = build_model("{architecture}", 200, 50, 33)
model.compile("adam", ctc_loss(32))
pictures = np.zeros((32, 200, 50, 1), np.float32)
for _ in range(4):
    loss = model.train_on_batch(pictures, np.ones((32, 6), np.int32))
print(float(loss) > 0)
"""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steps_write_to_their_own_memory(architecture: str) -> None:
    """Those of TensorFlow with oneDNN did not, on some processors, and ended the process."""
    command = [sys.executable, "-c", _STEPS.format(architecture=architecture)]
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    steps = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (steps.returncode, steps.stdout) == (0, "True\n"), steps.stderr


def test_the_residual_crnn_is_what_its_name_says() -> None:
    """Three sizes of filters, a sum in every block, and one bidirectional LSTM of 128 units."""
    model = build_model("residual-crnn", 200, 50, 20, dropout=0.2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Add") == 6
    assert kinds.count("Bidirectional") == 1
    filters = {layer.filters for layer in model.layers if hasattr(layer, "filters")}
    assert filters == {16, 32, 64}
    assert model.get_layer("bidirectional").forward_layer.units == 128
    assert model.get_layer("block3_dropout").rate == 0.2


def test_the_residual_crnn_goes_all_the_way(config: TrainConfig, tmp_path: Path) -> None:
    """It is trained and exported like the other, through the same gates, and read with alike."""
    other = replace(config, architecture="residual-crnn")
    run = train(other, tmp_path / "runs")
    assert run.config.architecture == "residual-crnn"
    path = tmp_path / "captcha.onnx"
    export(run, Dataset(Path(config.data)), path)
    check_graph(onnx.load(path), bidirectional_layers=1)
    recognizer = Recognizer.load(path)
    recognizer.verify()
    assert recognizer.infer(np.zeros((3, 48, 16, 1), np.float32)).shape == (3, 12, 4)
