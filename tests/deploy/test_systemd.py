"""The systemd unit is valid and hardened."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.settings import Settings
from tests.server.process import ROOT

UNIT = ROOT / "deploy" / "captcha-ocr.service"
MOST_EXPOSURE = 20
"""In tenths, of 100. systemd rates less than 20 as OK, and an unhardened service, 96, as UNSAFE."""

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"),
    reason="systemd-analyze is missing; apt-get install systemd",
)


def analyze(tmp_path: Path, *arguments: str) -> str:
    """The output of systemd-analyze for the unit, with a program that exists."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/captcha-ocr/bin/captcha-ocr serve", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", *arguments, str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_is_valid(tmp_path: Path) -> None:
    """No line is unknown or ignored."""
    assert analyze(tmp_path, "verify") == ""


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    analyze(tmp_path, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}")


def test_the_stop_timeout_covers_drain_and_shutdown() -> None:
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert seconds
    fields = Settings.model_fields
    assert int(seconds[1]) > fields["drain_seconds"].default + fields["shutdown_seconds"].default
