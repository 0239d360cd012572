"""The metadata of a model, which travel inside its ONNX file.

The exporter writes them as the string properties (`metadata_props`) of the file, and the service
configures itself from them. A model with another alphabet, picture size or number of channels
therefore needs no code change. Structured values are JSON.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic_core import from_json

from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.exceptions import ModelMetadataError

FORMAT_VERSION = 1
"""Incremented when older services can no longer use newer models."""

CHANNELS = (1, 3)
"""Gray, or red, green and blue."""

_MAX_VALUE = 100
"""Limit of the calibration's parameters; a fit to real pictures stays far below it."""


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """An encoded picture, and the text that the model read in it before its export."""

    data: bytes
    text: str


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What is known about a model besides its graph.

    Args:
        name, version: the version differs between exports of different weights.
        alphabet: the symbols in the order of their classes, each one character.
        blank_index: the class of CTC's blank, 0 to `len(alphabet)`.
        width, height: the picture size that the model takes, in pixels.
        input_name, output_name: the graph's input, `(n, width, height, channels)`, and its
            softmax output, `(n, time steps, len(alphabet) + 1)`.
        training_run: the name of the run that trained it.
        data_digest: SHA-256 over the labelled pictures of the run.
        calibration: maps its probabilities to confidences.
        figures: its accuracy on pictures that it was not trained on, by name.
        golden: pictures, with the texts that an undamaged copy of the model reads in them.
        channels: 1 for gray, 3 for red, green and blue; 1 where the file does not say.
        min_confidence: the default confidence, 0 to 1, below which a text is not accepted. The
            exporter writes the threshold that 98 % of the clean held-out pictures pass, or 0.5 if
            they are few; 0, which accepts everything, where the file does not say.

    Raises:
        ModelMetadataError: a value is out of its range, or two contradict each other.
    """

    name: str
    version: str
    alphabet: str
    blank_index: int
    width: int
    height: int
    input_name: str
    output_name: str
    training_run: str
    data_digest: str
    calibration: Calibration
    figures: Mapping[str, Any]
    golden: tuple[GoldenPicture, ...]
    channels: int = 1
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise ModelMetadataError("alphabet is empty.")
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ModelMetadataError(f"alphabet {self.alphabet!r} has a symbol twice.")
        if not 0 <= self.blank_index <= len(self.alphabet):
            raise ModelMetadataError(
                f"blank_index is {self.blank_index}; with {len(self.alphabet)} symbols it must "
                f"be 0 to {len(self.alphabet)}."
            )
        if self.width < 1 or self.height < 1:
            raise ModelMetadataError(f"the picture size is {self.width}×{self.height} pixels.")
        if self.channels not in CHANNELS:
            raise ModelMetadataError(f"channels is {self.channels}; it must be 1 or 3.")
        if not 0 <= self.min_confidence <= 1:
            raise ModelMetadataError(f"min_confidence is {self.min_confidence}; it must be 0 to 1.")
        if not self.golden:
            raise ModelMetadataError("golden holds no picture to check the model with.")

    def to_properties(self) -> dict[str, str]:
        """The metadata as the string properties of an ONNX file."""
        return {
            "format_version": str(FORMAT_VERSION),
            "name": self.name,
            "version": self.version,
            "alphabet": self.alphabet,
            "blank_index": str(self.blank_index),
            "width": str(self.width),
            "height": str(self.height),
            "channels": str(self.channels),
            "input_name": self.input_name,
            "output_name": self.output_name,
            "training_run": self.training_run,
            "data_digest": self.data_digest,
            "calibration": json.dumps(asdict(self.calibration)),
            "min_confidence": str(self.min_confidence),
            "figures": json.dumps(dict(self.figures)),
            "golden": json.dumps(
                [
                    {"data": base64.b64encode(picture.data).decode(), "text": picture.text}
                    for picture in self.golden
                ]
            ),
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> Self:
        """Reads the string properties of an ONNX file.

        Raises:
            ModelMetadataError: a property, which the text names, is missing, malformed or
                contradictory.
        """
        found = _integer(properties, "format_version")
        if found != FORMAT_VERSION:
            raise ModelMetadataError(
                f"format_version is {found}; this service reads {FORMAT_VERSION}."
            )
        return cls(
            name=_text(properties, "name"),
            version=_text(properties, "version"),
            alphabet=_text(properties, "alphabet"),
            blank_index=_integer(properties, "blank_index"),
            width=_integer(properties, "width"),
            height=_integer(properties, "height"),
            input_name=_text(properties, "input_name"),
            output_name=_text(properties, "output_name"),
            training_run=_text(properties, "training_run"),
            data_digest=_text(properties, "data_digest"),
            calibration=_calibration(properties),
            figures=_figures(properties),
            golden=_golden(properties),
            channels=_integer(properties, "channels", default="1"),
            min_confidence=_number(properties, "min_confidence", default="0"),
        )


def _text(properties: Mapping[str, str], key: str, default: str | None = None) -> str:
    text = properties.get(key, default)
    if text is None:
        raise ModelMetadataError(
            f"the property {key} is missing; export the model with `make export-onnx`."
        )
    return text


def _integer(properties: Mapping[str, str], key: str, default: str | None = None) -> int:
    text = _text(properties, key, default)
    try:
        return int(text)
    except ValueError:
        raise ModelMetadataError(f"{key} is {text!r}; it must be a whole number.") from None


def _number(properties: Mapping[str, str], key: str, default: str | None = None) -> float:
    text = _text(properties, key, default)
    try:
        return float(text)
    except ValueError:
        raise ModelMetadataError(f"{key} is {text!r}; it must be a number.") from None


def _json(properties: Mapping[str, str], key: str) -> Any:
    try:
        # Unlike `json`, refuses lone surrogates and deep nesting, which no answer can contain.
        return from_json(_text(properties, key))
    except ValueError as error:
        raise ModelMetadataError(f"{key} is not valid JSON: {error}.") from error


def _calibration(properties: Mapping[str, str]) -> Calibration:
    try:
        values = _json(properties, "calibration")
        temperature = float(values["temperature"])
        text, character = (
            Logistic(float(values[kind]["scale"]), float(values[kind]["offset"]))
            for kind in ("text", "character")
        )
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ModelMetadataError(
            "calibration must be a JSON object with temperature, and text and character, each with "
            "scale and offset."
        ) from error
    factors = (temperature, text.scale, character.scale)
    offsets = (text.offset, character.offset)
    if not all(1 / _MAX_VALUE <= factor <= _MAX_VALUE for factor in factors) or not all(
        abs(offset) <= _MAX_VALUE for offset in offsets
    ):
        raise ModelMetadataError(
            f"calibration: temperature and scales must be 1/{_MAX_VALUE} to {_MAX_VALUE}, offsets "
            f"-{_MAX_VALUE} to {_MAX_VALUE}."
        )
    return Calibration(temperature, text, character)


def _figures(properties: Mapping[str, str]) -> Mapping[str, Any]:
    figures = _json(properties, "figures")
    if not isinstance(figures, dict):
        raise ModelMetadataError("figures must be a JSON object.")
    return figures


def _golden(properties: Mapping[str, str]) -> tuple[GoldenPicture, ...]:
    try:
        return tuple(
            GoldenPicture(base64.b64decode(entry["data"], validate=True), str(entry["text"]))
            for entry in _json(properties, "golden")
        )
    except (TypeError, KeyError, ValueError) as error:
        raise ModelMetadataError(
            'golden must be a JSON list of {"data": <base64>, "text": <string>}.'
        ) from error
