"""The model that is used where `OCR_MODEL_PATH` names none."""

from pathlib import Path

import pytest

from service import default_model
from service.settings import Settings


def test_an_exported_model_goes_before_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a checkout the newest export is used; elsewhere, what the wheel carries."""
    packaged = tmp_path / "captcha.onnx"
    monkeypatch.setattr(default_model, "PACKAGED", packaged)
    monkeypatch.delenv("OCR_MODEL_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Settings().model_path == Path("models/captcha.onnx")  # so that an error names it
    packaged.write_bytes(b"packaged")
    assert Settings().model_path == packaged
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "captcha.onnx").write_bytes(b"exported")
    assert Settings().model_path == Path("models/captcha.onnx")
