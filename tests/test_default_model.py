"""The model that is used if `OCR_MODEL_PATH` is not set."""

from pathlib import Path

import pytest

from service import default_model
from service.settings import Settings


def test_an_exported_model_takes_precedence_over_the_packaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout uses the newest export; other installations use the model in the wheel."""
    packaged = tmp_path / "captcha.onnx"
    monkeypatch.setattr(default_model, "PACKAGED", packaged)
    monkeypatch.delenv("OCR_MODEL_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Settings().model_path == Path("models/captcha.onnx")  # so that an error names this path
    packaged.write_bytes(b"packaged")
    assert Settings().model_path == packaged
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "captcha.onnx").write_bytes(b"exported")
    assert Settings().model_path == Path("models/captcha.onnx")
