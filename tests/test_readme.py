"""The commands of the README run in a fresh clone, and its tables are complete."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.ocr.formats import FORMATS
from service.query_params import QueryParams
from service.settings import Settings
from training.synthetic.generate import generate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone in a path with a space; uses the virtual environment of this checkout."""
    folder = tmp_path_factory.mktemp("clone") / "captcha ocr"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for drawing in generate(60, "AB7", (2, 3), 48, 16, seed=0):
        (folder / "my-pictures").mkdir(exist_ok=True)
        (folder / "my-pictures" / f"{drawing.text}.png").write_bytes(drawing.png())
    return folder


def environment(port: int, arguments: str = "") -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OCR_")}
    return kept | {"PORT": str(port), "ARGS": arguments, "MAKEFLAGS": ""}


@pytest.fixture(scope="module")
def port(clone: Path) -> Iterator[int]:
    """The port of `make serve`, which runs as the README says."""
    assert any(line == "make serve" for block in BLOCKS for line in block.splitlines())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    with subprocess.Popen(["make", "serve"], cwd=clone, env=environment(number)) as server:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{number}/health/ready").close()
                break
            except OSError:
                assert server.poll() is None, "make serve ended"
                time.sleep(0.1)
        yield number
        server.terminate()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{number}/health/live")


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run(command: str, clone: Path, port: int) -> str:
    """Runs a command, which must succeed; returns its output."""
    # Long work is cut short: the test only checks that the commands work together.
    arguments = "--epochs 1" if command.startswith("make train") else ""
    command = command.replace("--count 2000", "--count 20")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=clone, env=environment(port, arguments), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def rounded(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with rounded confidences, because their last digits depend on the processor."""
    characters = [
        character | {"confidence": round(character["confidence"], 2)}
        for character in answer["characters"]
    ]
    return answer | {"confidence": round(answer["confidence"], 2), "characters": characters}


RUN_ELSEWHERE = {
    "make serve": "by the fixture above",
    "docker compose up": "by .ci/container",
}


def test_the_readme_has_the_commands_that_are_run_elsewhere() -> None:
    assert RUN_ELSEWHERE.keys() <= set(commands())


def test_the_commands_of_the_readme_succeed(clone: Path, port: int) -> None:
    """Runs every command in order. The first answer is the one that the README shows."""
    served = f"127.0.0.1:{port}"
    ran = []
    for command in commands():
        if command in RUN_ELSEWHERE:
            continue
        ran.append((command, run(command.replace("localhost:8000", served), clone, port)))
    shown = json.loads(re.search(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[1])  # type: ignore[index]
    answered = json.loads(next(output for command, output in ran if command.startswith("curl")))
    assert rounded(answered) == rounded(shown)
    names = {command.split()[1] for command, _ in ran if command.startswith("make")}
    assert {"data", "train", "export-onnx", "evaluate"} <= names


def test_every_setting_is_in_the_table() -> None:
    """The table lists each setting with its default and description, and nothing else."""
    rows = re.findall(r"^\| `(OCR_\w+)` \| `(.*?)` \| (.*?) \|$", README, re.MULTILINE)
    expected = [
        (
            f"OCR_{name.upper()}",
            str(field.get_default(call_default_factory=True)),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]
    assert sorted(rows) == sorted(expected)


def test_every_query_parameter_is_in_the_table() -> None:
    """The table lists each parameter with its description, and nothing else."""
    section = README.partition("| parameter | meaning |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", section, re.MULTILINE)
    fields = QueryParams.model_fields.items()
    assert rows == [(name, field.description) for name, field in fields]


def test_documents_name_every_picture_format() -> None:
    """In the README and in the description of `unsupported-format` in docs/api.md."""
    (route,) = re.findall(r"^\| `POST /predict` \|.*$", README, re.MULTILINE)
    (problem,) = re.findall(r"^\| `unsupported-format` \|.*$", API, re.MULTILINE)
    for known in FORMATS:
        for sentence in (route, problem):
            assert known.name in sentence.upper()


def test_docker_compose_passes_every_setting() -> None:
    """From the environment, except the settings that the image fixes."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    fixed_by_the_image = {"OCR_HOST", "OCR_PORT", "OCR_MODEL_PATH"}
    taken = {f"OCR_{name.upper()}": None for name in Settings.model_fields}
    expected = {name: taken[name] for name in taken if name not in fixed_by_the_image}
    given = compose["services"]["captcha-ocr"]["environment"]
    assert {name: given[name] for name in given if name.startswith("OCR_")} == expected


def test_every_route_is_in_the_table() -> None:
    """The table lists each route, and nothing else."""
    rows = set(re.findall(r"^\| `((?:GET|POST) /\S*)` \|", README, re.MULTILINE))
    document = TestClient(create_app()).get("/openapi.json").json()
    described = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert rows == described | {"GET /", "GET /docs"}
