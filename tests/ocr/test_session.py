import subprocess
import sys
from pathlib import Path


def test_onnxruntime_writes_no_telemetry(stripe_model: Path, tmp_path: Path) -> None:
    """Loading and using a model leaves no device id or database in the user's folders."""
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
