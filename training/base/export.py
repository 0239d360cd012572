"""Turns the weights of the base into the two files that the project ships."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.calibration import Calibration
from service.ocr.decoding.ctc import CtcCodec
from service.ocr.metadata import GoldenPicture, ModelMetadata
from service.ocr.preprocessing import preprocess
from service.ocr.recognizer import Recognizer
from training.base.fonts import TABLE
from training.base.pool import load_fonts, split_fonts
from training.base.validation import Validation
from training.export.calibrate import fit_calibration
from training.export.checks import BATCH_SIZES, check_graph, check_parity, count_bidirectional
from training.export.onnx_export import convert
from training.export.onnx_file import write_model
from training.fit.base_file import Base, read_base
from training.models.registry import build_model
from training.synthetic.fonts import shipped_fonts
from training.synthetic.pictures import Style, draw

_CALIBRATING = 400
_CANDIDATES, _GOLDEN = 32, 3


def build(base: Base, width: int, height: int) -> keras.Model:
    """The base as a Keras model for pictures of any width; the height must be the base's."""
    model = build_model(
        base.architecture, width, height, len(base.alphabet) + 1, channels=base.channels
    )
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(base.layers[layer.name])
    return model


def export(weights: Path, fonts: Path, folder: Path) -> ModelMetadata:
    """Copies the weights to base.npz in `folder`, and writes base.onnx there.

    Args:
        weights: as `training.base.weights` writes them.
        fonts: the folder of fonts; the held-out fonts calibrate the confidences.

    Raises:
        ExportError: the graph and the Keras model give different results.
    """
    base = read_base(weights)
    with np.load(weights) as file:
        facts: dict[str, Any] = json.loads(str(file["facts"]))
    width, height = facts["width"], facts["height"]
    model = build(base, width, height)
    codec = CtcCodec(base.alphabet, len(base.alphabet))
    graph = convert(model)
    check_graph(graph, count_bidirectional(model))
    digest = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
    metadata = ModelMetadata(
        name="base",
        version=f"base-{digest[:8]}",
        alphabet=base.alphabet,
        blank_index=codec.blank_index,
        width=width,
        height=height,
        input_name=graph.graph.input[0].name,
        output_name=graph.graph.output[0].name,
        training_run="base",
        data_digest=hashlib.sha256(TABLE.read_bytes()).hexdigest(),
        calibration=Calibration(),
        figures={"split": "fonts held out", "exact": facts["figures"]},
        golden=_golden(model, codec, width, height),
        channels=base.channels,
    )
    path = folder / "base.onnx"
    write_model(graph, metadata, path)
    recognizer = Recognizer.load(path)
    _, kept = split_fonts(load_fonts(fonts))
    validation = Validation.draw(kept, _CALIBRATING, seed=1)
    tensors = (validation.pictures / np.float32(255)).astype(np.float32)
    expected = model.predict(tensors, verbose=0)
    for size in BATCH_SIZES:
        check_parity(recognizer, tensors, expected, size)
    calibration = fit_calibration(recognizer, validation.texts, expected, weight=1.0)
    metadata = replace(metadata, calibration=calibration)
    write_model(graph, metadata, path)
    Recognizer.load(path).verify()
    if weights.resolve() != (folder / "base.npz").resolve():
        shutil.copyfile(weights, folder / "base.npz")
    print(f"wrote {path} and {folder / 'base.npz'}")
    return metadata


def _golden(
    model: keras.Model, codec: CtcCodec, width: int, height: int
) -> tuple[GoldenPicture, ...]:
    """The pictures that the model reads with most certainty, of a few drawn in shipped fonts."""
    rng = np.random.default_rng(0)
    style = Style(shipped_fonts())
    texts = ["".join(rng.choice(list(codec.alphabet[:62]), 5)) for _ in range(_CANDIDATES)]
    pictures = [draw(text, style, width, height, rng).png() for text in texts]
    tensors = np.stack([preprocess(picture, width, height, 3) for picture in pictures])
    probabilities = model.predict(tensors, verbose=0)
    read = [codec.decode(steps) for steps in probabilities]
    best = _surest(texts, read, probabilities)
    return tuple(GoldenPicture(pictures[i], read[i]) for i in best[:_GOLDEN])


def _surest(
    texts: Sequence[str], read: Sequence[str], probabilities: NDArray[np.float32]
) -> list[int]:
    def key(i: int) -> tuple[bool, float]:
        return texts[i] == read[i], float(probabilities[i].max(axis=1).min())

    return sorted(range(len(texts)), key=key, reverse=True)
