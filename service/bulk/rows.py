"""Turns pictures into rows of the table, and counts them. Needs neither Arrow nor Ray."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from service.api.serializers import prediction
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import (
    PictureError,
    PictureTooLargeError,
    RegionError,
    UndecodableError,
    UnsupportedFormatError,
)
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer

Row = dict[str, Any]
"""The values of one picture, by the names of the columns in `service.bulk.tables.SCHEMA`."""

Picture = tuple[str, bytes | OSError]
"""A path, and the content of the file or the error that prevents reading it."""

UNREADABLE_FILE = "unreadable-file"

ERROR_KINDS: Mapping[type[Exception], str] = {
    UnsupportedFormatError: "unsupported-format",
    UndecodableError: "undecodable-picture",
    PictureTooLargeError: "picture-too-large",
    RegionError: "invalid-parameter",
}
"""Values of the column `error_kind`, named as in the `type` of the service's problems."""

_BINS = 10


@dataclass
class Counts:
    """Counts over some rows.

    Attributes:
        rows: all rows, including errors.
        accepted: rows whose text is accepted.
        errors: rows without a reading, by the kind of error.
        confidence: the histogram of the confidences of the other rows, in ten bins of equal width.
    """

    rows: int = 0
    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    confidence: list[int] = field(default_factory=lambda: [0] * _BINS)

    def add(self, row: Row) -> None:
        """Counts one row."""
        self.rows += 1
        if row["error_kind"] is not None:
            self.errors[row["error_kind"]] += 1
            return
        self.accepted += row["accepted"]
        self.confidence[min(int(row["confidence"] * _BINS), _BINS - 1)] += 1

    def __iadd__(self, other: Self) -> Self:
        self.rows += other.rows
        self.accepted += other.accepted
        self.errors += other.errors
        self.confidence = [a + b for a, b in zip(self.confidence, other.confidence, strict=True)]
        return self

    def as_json(self) -> dict[str, Any]:
        """The counts as plain data, which `from_json` takes."""
        return asdict(self) | {"errors": dict(self.errors)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The counts that `as_json` gave."""
        return cls(**data | {"errors": Counter(data["errors"])})


def read_rows(
    recognizer: Recognizer,
    pictures: Iterable[Picture],
    question: Question,
    min_confidence: float,
    batch: int,
) -> Iterator[Row]:
    """Yields the row of every picture, in order; a picture that cannot be read has a row, too.

    Args:
        min_confidence: 0 to 1; below it, texts are not accepted.
        batch: pictures per call of the model. No more pictures are held in memory.
    """
    remaining = iter(pictures)
    while group := list(itertools.islice(remaining, batch)):
        sound = [content for _, content in group if isinstance(content, bytes)]
        outcomes = iter(recognizer.read_all(sound, question))
        for path, content in group:
            outcome = next(outcomes) if isinstance(content, bytes) else content
            yield _row(path, outcome, recognizer.metadata, min_confidence)


def _row(
    path: str,
    outcome: Reading | PictureError | OSError,
    model: ModelMetadata,
    min_confidence: float,
) -> Row:
    row: Row = {
        "path": path.encode(errors="backslashreplace").decode(),  # names need not be UTF-8
        "text": None,
        "confidence": None,
        "accepted": False,
        "characters": [],
        "alternatives": [],
        "reason": None,
        "error_kind": None,
        "error": None,
        "model_name": model.name,
        "model_version": model.version,
    }
    if not isinstance(outcome, Reading):
        row["error_kind"] = ERROR_KINDS.get(type(outcome), UNREADABLE_FILE)
        row["error"] = (isinstance(outcome, OSError) and outcome.strerror) or str(outcome)
        return row
    answer = prediction(outcome, model, min_confidence)
    for name in ("text", "confidence", "accepted", "alternatives", "reason"):
        row[name] = answer[name]
    row["characters"] = [
        {
            "character": c["character"],
            "confidence": c["confidence"],
            "left": c["span"][0],
            "right": c["span"][1],
        }
        for c in answer["characters"]
    ]
    return row
