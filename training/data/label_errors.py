"""Finds labels that a model contradicts with confidence: often the label is wrong."""

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset, Sample
from training.exceptions import DataError

CONFIDENT = 0.9
"""Least confidence of a reading that makes a label suspicious."""

_COLUMNS = {"sha256", "text", "confidence"}


@dataclass(frozen=True, slots=True)
class Opinion:
    """The text that a model read in a picture, and its confidence, 0 to 1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A sample, and an opinion that contradicts its label."""

    sample: Sample
    opinion: Opinion


def opinions_of(
    recognizer: Recognizer, dataset: Dataset, samples: Sequence[Sample]
) -> dict[str, Opinion]:
    """The model's opinion, by the sample's digest, of every sample whose label it can emit."""
    known = set(recognizer.metadata.alphabet)
    readable = [sample for sample in samples if known.issuperset(sample.label)]

    def read(sample: Sample) -> Opinion:
        reading = recognizer.read(dataset.read(sample))
        return Opinion(reading.text, reading.confidence)

    print(f"reading {len(readable)} pictures with the model", flush=True)
    with ThreadPoolExecutor() as pool:
        opinions = track(pool.map(read, readable), "reading pictures", total=len(readable))
        return {sample.sha256: one for sample, one in zip(readable, opinions, strict=True)}


def read_opinions(path: Path) -> dict[str, Opinion]:
    """The opinions in a table with the columns sha256, text and confidence, by digest.

    `make evaluate` writes such tables into the run.

    Raises:
        DataError: the file cannot be read as such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = _COLUMNS - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"{path} lacks the column {' and '.join(sorted(missing))}.")
            return {row["sha256"]: Opinion(row["text"], float(row["confidence"])) for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of readings: {error}") from error


def find_suspicious(samples: Sequence[Sample], opinions: Mapping[str, Opinion]) -> list[Suspicion]:
    """The samples whose label is contradicted, by falling confidence."""
    suspicions = [
        Suspicion(sample, opinion)
        for sample in samples
        if (opinion := opinions.get(sample.sha256)) is not None
        and opinion.text != sample.label
        and opinion.confidence >= CONFIDENT
    ]
    return sorted(suspicions, key=lambda suspicion: -suspicion.opinion.confidence)
