"""The Makefile passes its arguments unchanged to the commands."""

import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands(*arguments: str) -> list[list[str]]:
    """The words of each command that make would run."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [shlex.split(line) for line in done.stdout.splitlines() if "$(" not in line]


@pytest.mark.parametrize(
    ("target", "variable"),
    [
        ("calibrate", "MODEL"),
        ("compare", "MODEL"),
        ("data", "DATA"),
        ("evaluate", "MODEL"),
        ("evaluate-rejection", "MODEL"),
        ("export-onnx", "MODEL"),
        ("export-onnx", "RUN"),
        ("inspect", "READINGS"),
        ("preview", "DATA"),
        ("synthetic", "OUT"),
        ("train", "FINETUNE"),
    ],
)
def test_paths_may_have_spaces(target: str, variable: str) -> None:
    words = [word for command in commands(target, f"{variable}=my files/a b") for word in command]
    assert "my files/a b" in words


def test_the_path_of_the_served_model_may_have_spaces() -> None:
    words = [word for command in commands("serve", "MODEL=my files/a b") for word in command]
    assert "OCR_MODEL_PATH=my files/a b" in words


def test_charts_and_card_are_written_beside_the_model() -> None:
    for target in ("card", "evaluate-robustness", "label-curve"):
        done = subprocess.run(
            ["make", "--dry-run", target, "MODEL=my files/a.onnx"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert '"$(dirname "my files/a.onnx")' in done.stdout, target
