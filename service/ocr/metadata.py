"""What a model says about itself, inside its own file.

The exporter writes these as the string properties (`metadata_props`) of the ONNX file; the
service configures itself from them, so that a model with another alphabet, picture size or
label length drops in without a code change. Structured values are JSON.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.exceptions import ModelMetadataError

FORMAT_VERSION = 1
"""Raised when an older service could not use a newer model."""

_FARTHEST = 100
"""No calibration that was fitted to pictures has a parameter beyond this."""


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """An encoded picture, and the text that the trained model read in it before its export."""

    data: bytes
    text: str


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """All that is known about a model besides its graph.

    Args:
        name, version: the version is different for every export of other weights.
        alphabet: the symbols in the order of their classes, each one character.
        blank_index: the class of CTC's blank, 0 to `len(alphabet)`.
        width, height: the picture size that the model takes, in pixels.
        input_name, output_name: `image`, `(n, width, height, 1)`, and the softmax,
            `(n, time steps, len(alphabet) + 1)`.
        training_run: the name of the run that trained it.
        data_digest: SHA-256 over the labelled pictures that the run was given.
        calibration: of its confidences.
        figures: how well it read pictures that it was not trained on, by name.
        golden: pictures that a sound copy of the model reads as stated.
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
        if not self.golden:
            raise ModelMetadataError("golden holds no picture to check the model with.")

    def to_properties(self) -> dict[str, str]:
        """The metadata as strings, for the ONNX file."""
        return {
            "format_version": str(FORMAT_VERSION),
            "name": self.name,
            "version": self.version,
            "alphabet": self.alphabet,
            "blank_index": str(self.blank_index),
            "width": str(self.width),
            "height": str(self.height),
            "input_name": self.input_name,
            "output_name": self.output_name,
            "training_run": self.training_run,
            "data_digest": self.data_digest,
            "calibration": json.dumps(asdict(self.calibration)),
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
        """Reads the strings of an ONNX file.

        Raises:
            ModelMetadataError: names the property that is missing, malformed or contradictory.
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
        )


def _text(properties: Mapping[str, str], key: str) -> str:
    try:
        return properties[key]
    except KeyError:
        raise ModelMetadataError(
            f"the property {key} is missing; export the model with `make export-onnx`."
        ) from None


def _integer(properties: Mapping[str, str], key: str) -> int:
    text = _text(properties, key)
    try:
        return int(text)
    except ValueError:
        raise ModelMetadataError(f"{key} is {text!r}; it must be a whole number.") from None


def _json(properties: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(_text(properties, key))
    except (ValueError, RecursionError) as error:
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
    if not all(1 / _FARTHEST <= factor <= _FARTHEST for factor in factors) or not all(
        abs(offset) <= _FARTHEST for offset in offsets
    ):
        raise ModelMetadataError(
            f"calibration: temperature and scales must be 1/{_FARTHEST} to {_FARTHEST}, offsets "
            f"-{_FARTHEST} to {_FARTHEST}."
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
