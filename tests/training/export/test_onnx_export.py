import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.ocr.metadata import GoldenPicture
from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from tests import stripes
from training.data.dataset import Dataset, Sample
from training.exceptions import ExportError
from training.export import onnx_export
from training.export.checks import check_graph, check_parity
from training.export.onnx_export import export
from training.fit.runs import Run
from training.models.registry import build_model


def test_the_service_can_use_the_exported_model(exported: Path, run: Run) -> None:
    """The exported file configures the recognizer and passes the service's check."""
    recognizer = Recognizer.load(exported)
    recognizer.verify()
    metadata = recognizer.metadata
    assert (metadata.alphabet, metadata.blank_index) == ("7AB", 3)
    assert (metadata.width, metadata.height) == (48, 16)
    assert (metadata.input_name, metadata.output_name) == ("image", "dense2")
    assert metadata.training_run == run.name
    assert metadata.data_digest == run.facts.data_digest
    assert metadata.figures["pictures"] == len(run.split("test"))
    assert len(metadata.golden) == 3
    assert recognizer.infer(np.zeros((5, 48, 16, 1), np.float32)).shape == (5, 12, 4)


def test_the_lstms_are_fused(exported: Path) -> None:
    """The pinned converter gives two bidirectional LSTM nodes and no loop."""
    check_graph(onnx.load(exported), build_model("crnn", 48, 16, 4))
    with pytest.raises(ExportError, match=r"2 of them bidirectional.*should have 1"):
        check_graph(onnx.load(exported), build_model("residual-crnn", 48, 16, 4))


def test_exporting_twice_gives_the_same_version(
    exported: Path, run: Run, dataset: Dataset, tmp_path: Path, converted: None
) -> None:
    """The version identifies the weights, so equal weights have the same version."""
    again = export(run, dataset, tmp_path / "again.onnx")
    assert again.version == Recognizer.load(exported).metadata.version


@pytest.fixture
def converted(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the conversion, which takes seconds, by that of the small run."""
    monkeypatch.setattr(onnx_export, "convert", lambda model: onnx.load(exported))


def assert_refused(run: Run, dataset: Dataset, path: Path, sentence: str) -> None:
    """Checks that the export fails with this sentence, and leaves only the old model, unchanged."""
    before = path.read_bytes()
    with pytest.raises(ExportError, match=sentence):
        export(run, dataset, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_graph_with_loops_is_refused(
    run: Run, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that no longer fuses the LSTMs does not replace the model."""
    old = stripes.write_model(tmp_path / "captcha.onnx")
    monkeypatch.setattr(onnx_export, "convert", lambda model: stripes.graph())
    assert_refused(run, dataset, old, "0 LSTM nodes")


def test_an_output_that_differs_from_that_of_keras_is_refused(
    run: Run, dataset: Dataset, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that changes a weight does not replace the model."""
    graph = onnx.load(exported)
    for weights in graph.graph.initializer:
        array = onnx.numpy_helper.to_array(weights)
        if array.dtype == np.float32:
            weights.CopyFrom(onnx.numpy_helper.from_array(array * np.float32(1.05), weights.name))
    old = stripes.write_model(tmp_path / "captcha.onnx")
    monkeypatch.setattr(onnx_export, "convert", lambda model: graph)
    assert_refused(run, dataset, old, "at batch size 1, Keras and ONNX differ by up to")


def test_parity_compares_texts_too(recognizer: Recognizer) -> None:
    """In a tie, even a tiny difference can change the text."""
    tensors = preprocess(stripes.picture("ab"), stripes.WIDTH, stripes.HEIGHT)[np.newaxis]
    probabilities = recognizer.infer(tensors)
    check_parity(recognizer, tensors, probabilities)
    tie = probabilities.copy()
    tie[0, 0] = [0.2, 0.2 + 1e-5, 0.2, 0.2, 0.2]
    recognizer.infer = lambda _: np.where(tie == tie[0, 0, 1], tie - 2e-5, tie)  # type: ignore[assignment, method-assign]
    with pytest.raises(ExportError, match="Keras reads test picture 0 as 'b', ONNX as 'ab'"):
        check_parity(recognizer, tensors, tie)


def test_a_model_that_misreads_its_golden_picture_is_refused(
    run: Run, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: None
) -> None:
    """The service's own check comes last."""

    def choose_wrongly(*arguments: Any) -> tuple[GoldenPicture, ...]:
        return tuple(replace(picture, text="77A") for picture in choose(*arguments))

    choose = onnx_export.choose_golden
    old = stripes.write_model(tmp_path / "captcha.onnx")
    monkeypatch.setattr(onnx_export, "choose_golden", choose_wrongly)
    assert_refused(run, dataset, old, "could not use the exported model")


def test_a_missing_test_picture_stops_the_export(
    run: Run, dataset: Dataset, tmp_path: Path, converted: None
) -> None:
    """A model that cannot be checked on its test split is not exported."""
    (tmp_path / "data").mkdir()
    shutil.copy(dataset.folder / "labels.csv", tmp_path / "data")
    with pytest.raises(Exception, match="no longer holds the picture"):
        export(run, Dataset(tmp_path / "data"), tmp_path / "captcha.onnx")
    assert isinstance(dataset.samples[0], Sample)
    assert not (tmp_path / "captcha.onnx").exists()
