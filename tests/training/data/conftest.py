from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stripes import picture
from training.data.dataset import Sample
from training.data.prepare import prepare

Labels = Mapping[str, str]


def texts(count: int) -> list[str]:
    """Different texts of two or three characters."""
    found: list[str] = [a + b for a in "abcd" for b in "abcd"]
    found += [one + last for one in found for last in "abcd"]
    return found[:count]


def write_pictures(folder: Path, names: Iterable[str]) -> Path:
    """Writes a different picture under each name; a name may contain folders."""
    for name, text in zip(names, texts(80), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(text))
    return folder


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that prepares a source and returns the label of each picture by name."""

    def prepared(source: Path, **options: Any) -> dict[str, str]:
        samples: list[Sample] = prepare(source, tmp_path / "data", **options)
        return {sample.source: sample.label for sample in samples}

    return prepared
