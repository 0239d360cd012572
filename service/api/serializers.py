"""Answers as JSON: the members of `schemas.Prediction` and `schemas.BatchItem`.

Answers are plain dicts. They are valid by construction, and making pydantic models of them would
take as long as parsing the request.
"""

from typing import Any

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.decoding.decoder import Reading
from service.ocr.metadata import ModelMetadata

_DECIMALS = 6
_MATRIX_DECIMALS = 4
_UNSATISFIED = "No text that satisfies the constraints fits this picture."
_NO_TEXT = "no-text"


def prediction(reading: Reading, model: ModelMetadata, min_confidence: float) -> dict[str, Any]:
    """The answer for a reading by this model."""
    confidence = round(reading.confidence, _DECIMALS)
    reason = None if reading.text else _NO_TEXT if reading.satisfied else _UNSATISFIED
    answer = {
        "text": reading.text,
        "confidence": confidence,
        "accepted": reason is None and confidence >= min_confidence,
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
        "reason": reason,
        "model": {"name": model.name, "version": model.version},
    }
    if reading.matrix is not None:
        answer["matrix"] = _matrix(reading.matrix, model)
    return answer


def _matrix(rows: list[list[float]], model: ModelMetadata) -> dict[str, Any]:
    """The members of `schemas.Matrix`, for rows of the shape `(time steps, classes)`."""
    return {
        "symbols": CtcCodec(model.alphabet, model.blank_index).symbols,
        "blank_index": model.blank_index,
        "probabilities": [[round(p, _MATRIX_DECIMALS) for p in row] for row in rows],
    }
