"""What is answered about a picture: the members of `schemas.Prediction`.

Written out as plain data, since checking what is right by construction would cost as much as
parsing the request.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.decoding.decoder import Reading
from service.ocr.metadata import ModelMetadata

_DECIMALS = 6
_MATRIX_DECIMALS = 4
_UNSATISFIED = "No text that satisfies the constraints fits this picture."


def prediction(reading: Reading, model: ModelMetadata, min_confidence: float) -> dict[str, Any]:
    """The answer for a reading of that model."""
    confidence = round(reading.confidence, _DECIMALS)
    answer = {
        "text": reading.text,
        "confidence": confidence,
        "accepted": reading.satisfied and confidence >= min_confidence,
        "characters": [
            {
                "character": c.character,
                "confidence": round(c.confidence, _DECIMALS),
                "span": [round(c.span[0], 1), round(c.span[1], 1)],
            }
            for c in reading.characters
        ],
        "alternatives": [
            {"text": a.text, "confidence": round(a.confidence, _DECIMALS)}
            for a in reading.alternatives
        ],
        "reason": None if reading.satisfied else _UNSATISFIED,
        "model": {"name": model.name, "version": model.version},
    }
    if reading.matrix is not None:
        answer["matrix"] = _matrix(reading.matrix, model)
    return answer


def _matrix(rows: list[list[float]], model: ModelMetadata) -> dict[str, Any]:
    """The members of `schemas.Matrix`: rows `(time steps, classes)`, and what the classes are."""
    return {
        "symbols": CtcCodec(model.alphabet, model.blank_index).symbols,
        "blank_index": model.blank_index,
        "probabilities": [[round(p, _MATRIX_DECIMALS) for p in row] for row in rows],
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    """The document as JSON."""
    return to_json(document)


def listed(member: str, items: Iterable[bytes]) -> bytes:
    """An object with one member, a list of what is JSON already."""
    return b'{"%b":[%b]}' % (member.encode(), b",".join(items))
