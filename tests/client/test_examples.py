"""Runs the examples of docs/clients.md as they are written, with a real service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import ROOT, serving

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"
COMMANDS = {
    "python": ("example.py", f"{sys.executable} example.py"),
    "js": ("example.mjs", "node example.mjs"),
    "java": ("Predict.java", "java Predict.java"),
    "go": ("example.go", "go run example.go"),
    "csharp": ("Predict.cs", "mcs -r:System.Net.Http Predict.cs && mono Predict.exe"),
    "php": ("example.php", "php example.php"),
    "sh": ("example.sh", "bash example.sh"),
}
"""The file of an example and its shell command, by language."""
IN_A_BROWSER = {"html"}
"""Languages whose examples `tests/browser/test_example.py` runs."""


@pytest.fixture(scope="module")
def bundled() -> Iterator[str]:
    """The address of a service with the bundled model."""
    with serving(model_path=ROOT / "models" / "captcha.onnx") as address:
        yield address


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def run(language: str, code: str, address: str, folder: Path) -> list[str]:
    """Runs an example in a folder that has `examples/`, and returns the lines that it prints."""
    file, command = COMMANDS[language]
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (folder / "examples").symlink_to(EXAMPLES)
    (folder / file).write_text(code.replace("http://127.0.0.1:8000", address))
    done = subprocess.run(
        command,
        shell=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_language_of_the_document_is_tested() -> None:
    """An example in a new language must be run, too."""
    languages = set(re.findall(r"^```(\w+)", DOCUMENT, re.MULTILINE))
    assert languages == COMMANDS.keys() | IN_A_BROWSER


@pytest.mark.parametrize("language", sorted(COMMANDS.keys() - {"python", "sh"}))
def test_an_example_reads_the_picture(language: str, bundled: str, tmp_path: Path) -> None:
    (code,) = blocks(language)
    assert "bndyp" in run(language, code, bundled, tmp_path)[0]


def test_the_shell_example_reads_the_picture(bundled: str, tmp_path: Path) -> None:
    code = next(block for block in blocks("sh") if block.startswith("curl"))
    assert '"text":"bndyp"' in run("sh", code, bundled, tmp_path)[0]


def test_the_python_examples_print_the_expected_lines(bundled: str, tmp_path: Path) -> None:
    lines = run("python", "".join(blocks("python")), bundled, tmp_path)
    assert lines[0].startswith("bndyp 0.99")
    assert lines[6].startswith("415 /problems/unsupported-format")
    assert lines[7:9] == ["bndyp", "Not a supported picture"]
    assert lines[9] == str(sorted(path.stem for path in EXAMPLES.glob("*.png")))
