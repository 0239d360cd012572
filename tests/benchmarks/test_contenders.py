import re
from pathlib import Path

import pytest

from benchmarks import contenders

PEERS = Path(contenders.__file__).parent / "peers"
MODEL = Path("models/captcha.onnx")


def test_the_peers_lock_is_whole() -> None:
    """Every package is pinned by version and hash, and no host is named."""
    text = (PEERS / "requirements.txt").read_text()
    assert "://" not in text
    pins = re.findall(r"^(\S+)==\S+", text, re.MULTILINE)
    assert {"bentoml", "litserve", "onnxruntime", "ray"} <= set(pins)
    assert len(re.findall(r"^\S+", text, re.MULTILINE)) == len(pins) + text.count("\n#")
    assert text.count("--hash=sha256:") >= len(pins)


def test_peers_run_the_same_runtime() -> None:
    """Otherwise a version, and not a server, would be compared."""
    own, theirs = (
        set(re.findall(r"^onnxruntime==\S+", path.read_text(), re.MULTILINE))
        for path in (PEERS.parents[1] / "requirements/service.txt", PEERS / "requirements.txt")
    )
    assert own == theirs


def test_peers_that_are_not_installed_say_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are skipped with a sentence."""
    monkeypatch.setattr(contenders, "PEERS_PYTHON", tmp_path / "python")
    *apart, keras = contenders.slow_peers(MODEL)
    assert all("make bench-peers" in (peer.absent or "") for peer in apart)
    assert keras.absent is None
