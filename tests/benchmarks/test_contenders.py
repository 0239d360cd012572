import re
from pathlib import Path

import pytest

from benchmarks import contenders

PEERS = Path(contenders.__file__).parent / "peers"
MODEL = Path("models/captcha.onnx")


def test_the_lock_file_of_the_peers_pins_every_package() -> None:
    """Every package is pinned by version and hash, and the file names no host."""
    text = (PEERS / "requirements.txt").read_text()
    assert "://" not in text
    pins = re.findall(r"^(\S+)==\S+", text, re.MULTILINE)
    assert {"bentoml", "litserve", "onnxruntime", "ray"} <= set(pins)
    assert len(re.findall(r"^\S+", text, re.MULTILINE)) == len(pins) + text.count("\n#")
    assert text.count("--hash=sha256:") >= len(pins)


def test_the_peers_use_the_same_version_of_onnxruntime() -> None:
    """Otherwise, the benchmark would compare versions instead of servers."""
    own, theirs = (
        set(re.findall(r"^onnxruntime==\S+", path.read_text(), re.MULTILINE))
        for path in (PEERS.parents[1] / "requirements/service.txt", PEERS / "requirements.txt")
    )
    assert own == theirs


def test_a_peer_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark skips such a peer and prints the advice."""
    monkeypatch.setattr(contenders, "PEERS_PYTHON", tmp_path / "python")
    *apart, keras = contenders.slow_peers(MODEL)
    assert all("make bench-peers" in (peer.absent or "") for peer in apart)
    assert keras.absent is None
