from pathlib import Path

import pytest

import training  # noqa: F401  # it sets TensorFlow up, whichever test imports that first
from service.ocr.recognizer import Recognizer
from tests import stripes


@pytest.fixture
def stripe_model(tmp_path: Path) -> Path:
    """The file of a small real model that reads gray stripes; see `tests.stripes`."""
    return stripes.write_model(tmp_path / "stripes.onnx")


@pytest.fixture
def recognizer(stripe_model: Path) -> Recognizer:
    """A recognizer over the stripe model."""
    return Recognizer.load(stripe_model)
