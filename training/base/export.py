"""Turns the weights of the base into the two files that the project ships."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from service.ocr.decoding.calibration import Calibration
from service.ocr.decoding.ctc import CtcCodec
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.base.fonts import TABLE
from training.base.pool import load_fonts, split_fonts
from training.base.validation import Validation
from training.export.calibrate import fit_calibration
from training.export.checks import check_graph, check_parity
from training.export.onnx_export import GOLDEN_CANDIDATES, choose_golden, convert, digest_of_weights
from training.export.onnx_file import write_model
from training.fit.base_file import Base, read_base
from training.models.registry import build_model
from training.synthetic.fonts import shipped_fonts
from training.synthetic.generate import Drawing
from training.synthetic.pictures import Style, draw

_CALIBRATING = 400


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
    check_graph(graph, model)
    metadata = ModelMetadata(
        name="base",
        version=f"base-{digest_of_weights(model)}",
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
        golden=choose_golden(model, codec, _golden_candidates(base.alphabet, width, height)),
        channels=base.channels,
    )
    path = folder / "base.onnx"
    write_model(graph, metadata, path)
    recognizer = Recognizer.load(path)
    _, kept = split_fonts(load_fonts(fonts))
    validation = Validation.draw(kept, _CALIBRATING, seed=1)
    tensors = (validation.pictures / np.float32(255)).astype(np.float32)
    expected = model.predict(tensors, verbose=0)
    check_parity(recognizer, tensors, expected)
    calibration = fit_calibration(recognizer, validation.texts, expected, weight=1.0)
    metadata = replace(metadata, calibration=calibration)
    write_model(graph, metadata, path)
    Recognizer.load(path).verify()
    if weights.resolve() != (folder / "base.npz").resolve():
        shutil.copyfile(weights, folder / "base.npz")
    print(f"wrote {path} and {folder / 'base.npz'}")
    return metadata


def _golden_candidates(alphabet: str, width: int, height: int) -> list[Drawing]:
    """Pictures in the fonts that everybody has."""
    rng = np.random.default_rng(0)
    style = Style(shipped_fonts())
    texts = ["".join(rng.choice(list(alphabet[:62]), 5)) for _ in range(GOLDEN_CANDIDATES)]
    return [draw(text, style, width, height, rng) for text in texts]
