"""Exports a run to an ONNX file that the service loads.

The file is opened with the service's own recognizer, and must read the test split exactly like the
Keras model. Needs a process without a GPU, since the fused LSTM kernels of GPUs have no ONNX
counterpart; see `training.tensorflow_import`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from service.ocr.decoding.calibration import Calibration
from service.ocr.decoding.ctc import CtcCodec
from service.ocr.exceptions import OcrError
from service.ocr.metadata import GoldenPicture, ModelMetadata
from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset
from training.evaluation.evaluate import Result, read_samples_with, summarize
from training.exceptions import ExportError
from training.export.calibrate import accepted_from, calibration_of
from training.export.checks import check_exact_match, check_graph, check_parity
from training.export.held_out import HeldOut, held_out_of, report_held_out
from training.export.onnx_file import write_model
from training.export.quantize import quantize
from training.fit.runs import INT8, Run
from training.models.crnn import OUTPUT_LAYER
from training.synthetic.generate import Drawing, generate

OPSET = 18
_MOST_COMPARED = 2000
_GOLDEN_PICTURES = 3
GOLDEN_CANDIDATES = 32
"""Number of generated pictures from which the golden pictures are chosen."""


def export(run: Run, dataset: Dataset, destination: Path, quantized: bool = False) -> ModelMetadata:
    """Exports the weights that a run keeps to `destination`, if every check passes.

    Args:
        quantized: compute the convolutions in 8-bit integers; see `training.export.quantize`.

    Returns:
        The metadata of the new model.

    Raises:
        ExportError: a check failed; `destination` is unchanged.
    """

    def say(step: str) -> None:
        print(f"{step} …", flush=True)

    config, facts = run.config, run.facts
    codec = facts.codec
    # It has no dropout: inference does not need it, and tf2onnx fails on its random state.
    trained = run.load_model()
    model = keras.Model(trained.input, trained.get_layer(OUTPUT_LAYER).output)
    say("converting to ONNX")
    graph = convert(model)
    check_graph(graph, model)
    lengths = [len(sample.label) for sample in run.split("train")]
    candidates = generate(GOLDEN_CANDIDATES, facts.alphabet, lengths, *facts.size, seed=0)
    metadata = ModelMetadata(
        name=config.name,
        version=f"{run.name[:15]}-{digest_of_weights(model)}",
        alphabet=facts.alphabet,
        blank_index=codec.blank_index,
        width=facts.width,
        height=facts.height,
        input_name=graph.graph.input[0].name,
        output_name=graph.graph.output[0].name,
        training_run=run.name,
        data_digest=facts.data_digest,
        calibration=Calibration(),
        figures={},
        golden=choose_golden(model, codec, list(candidates)),
        channels=config.channels,
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}.tmp")
    try:
        write_model(graph, metadata, temporary)
        say("comparing Keras and ONNX on the test split")
        _check_on_test_split(temporary, model, run, dataset)
        if quantized:
            say("quantizing to 8-bit integers")
            exact = _test_figures(temporary, run, dataset)["exact_match"]
            shown = run.split("train")[:_MOST_COMPARED]
            graph = quantize(graph, dataset.tensors(shown, *run.facts.size, config.channels))
            metadata = replace(metadata, version=metadata.version + INT8)
            write_model(graph, metadata, temporary)
        say("calibrating the confidences")
        recognizer = Recognizer.load(temporary)
        held_out = held_out_of(run, recognizer, dataset)
        metadata = replace(metadata, calibration=calibration_of(recognizer, held_out))
        write_model(graph, metadata, temporary)
        clean = _read(temporary, held_out)
        metadata = replace(metadata, min_confidence=accepted_from([each.reading for each in clean]))
        if report := report_held_out(run, clean):
            print(report)
        say("reading the test split")
        figures = _test_figures(temporary, run, dataset)
        if quantized:
            check_exact_match(exact, figures["exact_match"])
        metadata = replace(metadata, figures=figures)
        write_model(graph, metadata, temporary)
        Recognizer.load(temporary).verify()
        temporary.replace(destination)
    except OcrError as error:
        raise ExportError(f"the service could not use the exported model: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return metadata


def convert(model: keras.Model) -> onnx.ModelProto:
    """The model as an ONNX graph with a free batch size."""
    image = model.inputs[0]
    signature = [tf.TensorSpec((None, *image.shape[1:]), tf.float32, name="image")]
    graph: onnx.ModelProto
    graph, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=OPSET)
    return graph


def digest_of_weights(model: keras.Model) -> str:
    """The first eight digits of SHA-256 over a model's weights."""
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()[:8]


def choose_golden(
    model: keras.Model, codec: CtcCodec, drawings: Sequence[Drawing]
) -> tuple[GoldenPicture, ...]:
    """Some of these generated pictures, and the Keras model's readings.

    Pictures that it reads right and with high confidence are preferred: the rounding of another
    processor does not change them, so another text means that the model or its runtime is broken.
    """
    _, width, height, channels = model.input_shape
    pictures = [drawing.png() for drawing in drawings]
    tensors = np.stack([preprocess(picture, width, height, channels) for picture in pictures])
    probabilities = model.predict(tensors, verbose=0)
    texts = [codec.decode(picture) for picture in probabilities]
    ranked = sorted(
        range(len(drawings)),
        key=lambda i: (texts[i] == drawings[i].text, probabilities[i].max(axis=1).min()),
        reverse=True,
    )
    return tuple(GoldenPicture(pictures[i], texts[i]) for i in ranked[:_GOLDEN_PICTURES])


def _check_on_test_split(path: Path, model: keras.Model, run: Run, dataset: Dataset) -> None:
    """Compares Keras and ONNX on the test split, or on the first part of a large one."""
    recognizer = Recognizer.load(path)
    samples = run.split("test")[:_MOST_COMPARED]
    tensors = dataset.tensors(samples, *run.facts.size, run.config.channels)
    check_parity(recognizer, tensors, model.predict(tensors, verbose=0))


def _read(path: Path, held_out: HeldOut) -> list[Result]:
    """Decodes held-out pictures with the calibration of a model file."""
    decode = Recognizer.load(path).decoder.decode
    return [
        Result(sample, decode(probabilities))
        for sample, probabilities in zip(held_out.samples, held_out.clean, strict=True)
    ]


def _test_figures(path: Path, run: Run, dataset: Dataset) -> dict[str, Any]:
    results = read_samples_with(Recognizer.load(path), dataset, run.split("test"))
    return {"split": "test"} | summarize(results)
