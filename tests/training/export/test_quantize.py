from pathlib import Path

import numpy as np
import onnx
import pytest

from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset
from training.evaluation.compare import parameters_of
from training.exceptions import ExportError
from training.export.checks import check_exact_match
from training.export.onnx_export import export
from training.fit.runs import Run


@pytest.fixture(scope="module")
def quantized(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run, exported in 8-bit integers."""
    path = tmp_path_factory.mktemp("models") / "captcha.onnx"
    export(run, Dataset(data), path, quantized=True)
    return path


def test_convolutions_are_quantized(quantized: Path) -> None:
    """The weights of every convolution are 8-bit integers in the file."""
    nodes = onnx.load(quantized).graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    weights = [made_by.get(node.input[1]) for node in nodes if node.op_type == "Conv"]
    assert weights
    assert set(weights) == {"DequantizeLinear"}


def test_quantization_keeps_the_number_of_parameters(quantized: Path, exported: Path) -> None:
    """The scales of the integers are not trained, so the scales do not count."""
    counts = [parameters_of(onnx.load(path).graph) for path in (quantized, exported)]
    assert counts[0] == counts[1]


def test_the_service_can_use_the_quantized_model(quantized: Path, exported: Path) -> None:
    """The model passes the service's check, and its version ends in `-int8`."""
    recognizer = Recognizer.load(quantized)
    recognizer.verify(largest_batch=4)
    assert recognizer.metadata.version == f"{Recognizer.load(exported).metadata.version}-int8"


def test_quantization_changes_probabilities_only_a_little(
    quantized: Path, exported: Path, run: Run, dataset: Dataset
) -> None:
    """The probabilities do not depend on the other pictures of a batch."""
    tensors = dataset.tensors(run.split("test"), *run.facts.size)
    exact = Recognizer.load(exported).infer(tensors)
    rounded = Recognizer.load(quantized)
    found = rounded.infer(tensors)
    assert 0 < np.abs(found - exact).max() < 0.2
    alone = np.concatenate([rounded.infer(tensor[np.newaxis]) for tensor in tensors])
    np.testing.assert_allclose(alone, found, atol=1e-6)


def test_a_loss_of_more_than_half_a_percent_is_refused() -> None:
    """The error says what is lost, and what to do instead."""
    check_exact_match(0.99, 0.986)
    check_exact_match(0.9, 1.0)
    with pytest.raises(ExportError, match=r"98.0% .* instead of 99.0%; at most 0.5%"):
        check_exact_match(0.99, 0.98)
