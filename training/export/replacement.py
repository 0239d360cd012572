"""Replaces the served model by a new one, unless the new model reads worse."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from service.ocr.exceptions import OcrError
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset, Sample
from training.evaluation.evaluate import read_samples_with
from training.evaluation.metrics import character_error_rate
from training.exceptions import ExportError

_SIGNIFICANT = 0.05
"""Chance of luck below which the new model counts as worse."""

_FEW, _HALF = 20, 0.5
"""With fewer test pictures than `_FEW`, a model reads nothing only if its character error rate is
also `_HALF` or more: a model that reads half of all pictures may read none of five."""


def replace_model(
    candidate: Path, served: Path, dataset: Dataset, test: Sequence[Sample], force: bool = False
) -> Path | None:
    """Replaces the served model by a new one, atomically.

    Args:
        candidate: the file of the new model, which is copied.
        test: samples of the data set that the new model was not trained on.
        force: replace even if the new model reads nothing or worse.

    Returns:
        The file to which the old model is copied; None if there was no old model.

    Raises:
        ExportError: the new model reads nothing, or worse than the old one, on `test`.
    """
    if not force:
        _check_reads(candidate, served, dataset, test)
    served.parent.mkdir(parents=True, exist_ok=True)
    kept = None
    if served.exists():
        kept = served.with_suffix(f".previous{served.suffix}")
        _copy(served, kept)
    _copy(candidate, served)
    return kept


def _check_reads(candidate: Path, served: Path, dataset: Dataset, test: Sequence[Sample]) -> None:
    results = read_samples_with(Recognizer.load(candidate), dataset, test)
    new = [result.is_right for result in results]
    hint = f"{served} is unchanged; FORCE=1 (--force) replaces it anyway."
    wrong = character_error_rate([result.pair for result in results])
    if not any(new) and (len(test) >= _FEW or wrong >= _HALF):
        raise ExportError(f"the new model reads none of {len(test)} test pictures. {hint}")
    try:
        before = read_samples_with(Recognizer.load(served), dataset, test)
    except OcrError:
        return
    old = [result.is_right for result in before]
    chance = chance_of_luck(old, new)
    if chance < _SIGNIFICANT:
        raise ExportError(
            f"the new model reads {sum(new)} of {len(test)} test pictures, the old one "
            f"{sum(old)}; the chance that this is luck is {chance:.2g}. {hint}"
        )


def chance_of_luck(old: Sequence[bool], new: Sequence[bool]) -> float:
    """The chance that two equally good models differ this much in favour of the old one.

    Uses the exact one-sided test of McNemar 1947, over pictures that only one of the two reads.
    """
    lost = sum(before and not after for before, after in zip(old, new, strict=True))
    gained = sum(after and not before for before, after in zip(old, new, strict=True))
    differ = lost + gained
    return sum(math.comb(differ, k) for k in range(lost, differ + 1)) / 2**differ


def _copy(source: Path, destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(destination)
