import json
from pathlib import Path

import keras
import numpy as np
import pytest

from service.ocr.recognizer import Recognizer
from training.exceptions import RunError
from training.export.onnx_export import convert
from training.export.onnx_file import write_model
from training.fit.config import RECIPES, load_config
from training.fit.runs import Run
from training.fit.warm_start import StartingWeights, exported_model, of_channels
from training.models.crnn import OUTPUT_LAYER, build_crnn
from training.models.registry import ARCHITECTURES, build_model
from training.synthetic.generate import generated_tensors

ROOT = Path(__file__).parents[3]
BUNDLED = ROOT / "models" / "captcha.onnx"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_of_an_exported_model_are_restored(architecture: str, tmp_path: Path) -> None:
    """A Keras model with these weights gives the same output, whatever the export folded."""
    metadata = Recognizer.load(BUNDLED).metadata
    shape = (metadata.width, metadata.height, len(metadata.alphabet) + 1)
    exported, model = (build_model(architecture, *shape) for _ in range(2))
    generator = np.random.default_rng(3)
    for layer in exported.layers:  # a trained model has no biases of zero
        noise = [generator.uniform(0.01, 0.1, w.shape) for w in layer.get_weights()]
        layer.set_weights([w + n for w, n in zip(layer.get_weights(), noise, strict=True)])
    write_model(convert(exported), metadata, tmp_path / "model.onnx")
    start = StartingWeights.find(str(tmp_path / "model.onnx"), tmp_path)
    assert start.put_into(model, metadata.alphabet) == []
    pictures, _ = generated_tensors(8, metadata.alphabet, (4, 5), *shape[:2], seed=5)
    expected = exported.predict(pictures, verbose=0)
    assert np.allclose(model.predict(pictures, verbose=0), expected, atol=1e-5)


def test_a_training_can_start_from_the_bundled_model() -> None:
    """The output is the same, and nearly the same in training, which normalizes by batch."""
    recognizer = Recognizer.load(BUNDLED)
    metadata = recognizer.metadata
    shape = (metadata.width, metadata.height, len(metadata.alphabet) + 1)
    architecture = load_config(RECIPES / "robust.toml", {}).architecture
    model = build_model(architecture, *shape)
    assert StartingWeights.find(str(BUNDLED), ROOT).put_into(model, metadata.alphabet) == []
    pictures, _ = generated_tensors(32, metadata.alphabet, (5, 5), *shape[:2], seed=5)
    expected = recognizer.infer(pictures)
    exported, facts = exported_model(BUNDLED)
    assert facts == metadata
    for each in (exported, model):
        assert np.allclose(each.predict(pictures, verbose=0), expected, atol=1e-5)
    trained = np.asarray(model(pictures, training=True))
    assert np.mean(trained.argmax(axis=2) == expected.argmax(axis=2)) > 0.98


def test_common_symbols_keep_their_weights(run: Run) -> None:
    """With another alphabet, only common symbols and the blank keep their weights."""
    model = build_crnn(run.facts.width, run.facts.height, 5)
    before = [weights.copy() for weights in model.get_layer(OUTPUT_LAYER).get_weights()]
    start = StartingWeights.find(str(run.folder), run.folder.parent)
    assert run.facts.alphabet == "7AB"
    assert start.put_into(model, "ABXY") == []
    kernel, bias = model.get_layer(OUTPUT_LAYER).get_weights()
    theirs_kernel, theirs_bias = start.layers[OUTPUT_LAYER]
    for theirs, ours in ((1, 0), (2, 1), (3, 4)):
        assert np.array_equal(kernel[:, ours], theirs_kernel[:, theirs])
        assert bias[ours] == theirs_bias[theirs]
    assert np.array_equal(kernel[:, 2:4], before[0][:, 2:4])
    first = model.get_layer("Conv1").get_weights()
    assert all(map(np.array_equal, first, start.layers["Conv1"]))


def test_layers_of_another_shape_start_anew(run: Run) -> None:
    """A taller picture changes the input of the first dense layer. Only this layer is named."""
    model = build_crnn(run.facts.width, 2 * run.facts.height, 4)
    start = StartingWeights.find(str(run.folder), run.folder.parent)
    assert start.put_into(model, run.facts.alphabet) == ["dense1"]


def test_weights_of_another_architecture_are_refused(run: Run) -> None:
    """No layer fits, so training would be in vain; the error names the other architecture."""
    start = StartingWeights.find(str(run.folder), run.folder.parent)
    model = build_model("residual-crnn", run.facts.width, run.facts.height, 4)
    with pytest.raises(RunError, match='try ARGS="--architecture crnn or'):
        start.put_into(model, run.facts.alphabet)


def test_a_broken_model_or_a_missing_run_is_no_start(tmp_path: Path) -> None:
    """The error names the file, or says that there is no run."""
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"cannot start from .*broken\.onnx"):
        StartingWeights.find(str(tmp_path / "broken.onnx"), tmp_path)
    with pytest.raises(RunError, match="there is no run"):
        StartingWeights.find("missing", tmp_path)


def write_base(path: Path, model: keras.Model, alphabet: str) -> Path:
    """Writes the weights of a model as `make base` does."""
    facts = {"architecture": model.name, "alphabet": alphabet, "channels": 3}
    arrays = {
        f"{layer.name}/{number}": array.astype(np.float16)
        for layer in model.layers
        for number, array in enumerate(layer.get_weights())
    }
    np.savez(path, facts=np.array(json.dumps(facts)), **arrays)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_starts_from_the_base(channels: int, tmp_path: Path) -> None:
    """The model reads common symbols as the base does; with one channel, it takes gray pictures."""
    base = build_model("residual-crnn-wide", 48, 48, 4, channels=3)
    path = write_base(tmp_path / "base.npz", base, "xyz")
    model = build_model("residual-crnn-wide", 96, 48, 4, channels=channels)
    assert StartingWeights.find(str(path), tmp_path).put_into(model, "zyx") == []
    gray = np.random.default_rng(0).random((2, 96, 48, 1), np.float32)
    wide = build_model("residual-crnn-wide", 96, 48, 4, channels=3)
    wide.set_weights(base.get_weights())
    expected = wide.predict(np.repeat(gray, 3, axis=3), verbose=0)
    found = model.predict(np.repeat(gray, channels, axis=3), verbose=0)
    assert np.allclose(found[..., [2, 1, 0, 3]], expected, atol=5e-3)


def test_a_kernel_for_gray_is_converted_to_one_for_colour() -> None:
    """The new kernel reads the luma."""
    kernel = np.random.default_rng(0).random((3, 3, 1, 2), np.float32)
    colour = of_channels(kernel, (3, 3, 3, 2))
    assert colour is not None
    assert np.allclose(colour.sum(axis=2, keepdims=True), kernel)
    assert colour[0, 0, 1, 0] > colour[0, 0, 0, 0] > colour[0, 0, 2, 0]
    assert of_channels(kernel, (3, 3, 2, 2)) is None
