import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from training.fit.config import TrainConfig
from training.models.crnn import build_crnn
from training.models.registry import ARCHITECTURES, build_model


def test_the_settings_know_every_architecture() -> None:
    """A recipe may ask for exactly the architectures that can be built."""
    (setting,) = (field for field in fields(TrainConfig) if field.name == "architecture")
    assert set(setting.metadata["choices"]) == set(ARCHITECTURES)


@pytest.mark.parametrize("size", [(200, 50), (201, 53), (48, 16), (7, 4)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_has_a_time_step_for_every_four_columns(
    architecture: str, size: tuple[int, int], channels: int
) -> None:
    """The encoding of labels relies on these time steps, for any picture size."""
    model = build_model(architecture, *size, 5, channels=channels)
    assert model.input_shape == (None, *size, channels)
    assert model.output_shape == (None, size[0] // 4, 5)
    probabilities = model(np.random.default_rng(0).random((2, *size, channels), np.float32))
    assert np.allclose(np.asarray(probabilities).sum(axis=-1), 1, atol=1e-5)


_STEPS = """
import numpy as np
from training.models.crnn import build_crnn
from training.models.registry import ARCHITECTURES, build_model
from training.models.loss import ctc_loss

for architecture in ARCHITECTURES:
    model = build_model(architecture, 200, 50, 33)
    model.compile("adam", ctc_loss(32), jit_compile=False)
    pictures = np.zeros((8, 200, 50, 1), np.float32)
    for _ in range(3):
        loss = model.train_on_batch(pictures, np.ones((8, 6), np.int32))
    print(float(loss) > 0)
"""


def test_training_steps_write_only_to_their_own_memory() -> None:
    """With oneDNN, a strided 1×1 convolution with one channel wrote to other memory."""
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
    command = [sys.executable, "-c", _STEPS]
    steps = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expected = "True\n" * len(ARCHITECTURES)
    assert (steps.returncode, steps.stdout) == (0, expected), steps.stderr


def test_the_seed_model_has_the_layers_and_parameters_of_the_tutorial() -> None:
    """The model has 432,596 parameters for 19 symbols and the blank."""
    model = build_crnn(200, 50, 20)
    names = [layer.name for layer in model.layers]
    assert {"Conv1", "Conv2", "dense1", "dense2"} <= set(names)
    assert model.count_params() == 432_596
    assert model.output_shape == (None, 50, 20)


def test_the_residual_crnn_has_residual_blocks_and_one_lstm() -> None:
    """Blocks have three numbers of filters; the bidirectional LSTM has 128 units."""
    model = build_model("residual-crnn", 200, 50, 20, dropout=0.2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Add") == 6
    assert kinds.count("Bidirectional") == 1
    filters = {layer.filters for layer in model.layers if hasattr(layer, "filters")}
    assert filters == {16, 32, 64}
    assert model.get_layer("bidirectional").forward_layer.units == 128
    assert model.get_layer("block3_dropout").rate == 0.2
