import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from service.ocr.exceptions import ProviderError
from service.ocr.session import CPU, open_session


def test_onnxruntime_writes_no_telemetry(stripe_model: Path, tmp_path: Path) -> None:
    """Loading and running a model leaves no device id or database in the user's folders."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys, pathlib; from service.ocr.recognizer import Recognizer;"
        f"Recognizer.load(pathlib.Path({str(stripe_model)!r})).verify()"
    )
    folders = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=folders, capture_output=True, text=True, check=True
    )
    assert list(home.rglob("*")) == []
    assert done.stderr == ""


def test_a_missing_execution_provider_is_an_error(stripe_model: Path) -> None:
    """The error names it and the available providers. No other provider is used instead."""
    with pytest.raises(ProviderError, match=r"no execution provider TpuExecution.*has .*CPUExec"):
        open_session(stripe_model, providers=["TpuExecutionProvider", *CPU])


def test_an_execution_provider_that_cannot_start_is_an_error(
    stripe_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime itself would continue with the CPU."""
    build = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: build)
    opened = onnxruntime.InferenceSession(str(stripe_model), providers=list(CPU))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: opened)
    with pytest.raises(ProviderError, match="CUDAExecutionProvider cannot start"):
        open_session(stripe_model, providers=["CUDAExecutionProvider", *CPU])
