"""Which room may know which: `training → service.ocr ← service`, and nothing else."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINING_LIBRARIES = {"keras", "matplotlib", "onnx", "rapidfuzz", "tensorflow", "tf2onnx"}
HTTP_LIBRARIES = {"anyio", "fastapi", "httptools", "pydantic", "starlette", "uvicorn"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", modules("service"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_service_knows_nothing_of_training(path: Path) -> None:
    """Neither the training package nor a library that only training needs."""
    assert roots(path) & (TRAINING_LIBRARIES | {"training", "tests"}) == set()


@pytest.mark.parametrize("path", modules("service/ocr"), ids=lambda p: p.stem)
def test_the_reader_knows_nothing_of_http(path: Path) -> None:
    """`service.ocr` uses no framework and nothing of the service around it."""
    assert roots(path) & HTTP_LIBRARIES == set()
    around = {name for name in imported(path) if name.startswith("service.")}
    assert all(name.startswith("service.ocr.") for name in around)


@pytest.mark.parametrize("path", modules("training"), ids=lambda p: p.stem)
def test_training_uses_only_the_reader(path: Path) -> None:
    """Of the service, training knows `service.ocr` alone."""
    known = {name for name in imported(path) if name.partition(".")[0] == "service"}
    assert all(name.startswith("service.ocr.") for name in known)


@pytest.mark.parametrize("path", modules("training/data"), ids=lambda p: p.stem)
def test_the_data_know_nothing_of_what_is_made_of_them(path: Path) -> None:
    """Of training, `training.data` knows its errors and the distortions alone."""
    known = {".".join(name.split(".")[:2]) for name in imported(path) if "training" in name}
    assert known <= {"training.data", "training.augmentation", "training.exceptions"}


def test_only_one_module_knows_onnxruntime() -> None:
    """Its telemetry is switched off in one place, which must come first."""
    users = [path.name for path in modules("service") if "onnxruntime" in roots(path)]
    assert users == ["session.py"]


def test_the_running_application_loads_no_training_library() -> None:
    """What is imported in fact, by the application and all that it pulls in."""
    code = "import sys, service.server.main; service.server.main.create_app(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"fastapi", "onnxruntime", "service"} <= loaded
    assert loaded & (TRAINING_LIBRARIES | {"training"}) == set()


def test_locks_are_whole() -> None:
    """Every package is pinned by version and hash, no host is named, and the service is slim."""
    for extra in ("service", "traces", "training", "dev"):
        text = (ROOT / "requirements" / f"{extra}.txt").read_text()
        assert "://" not in text
        pins = [line for line in text.splitlines() if line[:1].isalnum()]
        assert all("==" in line for line in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        names = {line.partition("==")[0] for line in pins}
        assert ("tensorflow" in names) is (extra in ("training", "dev"))
        assert ("opentelemetry-sdk" in names) is (extra in ("traces", "dev"))


def test_the_document_names_every_module() -> None:
    """Each in the section of its folder, and no other; the drawing has no other, either."""
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    every: set[str] = set()
    for folder in ("service/ocr", "service", "training"):
        section = document.partition(f"## {folder}/\n")[2].partition("\n## ")[0]
        there = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
        packages = {f"{path.parent.name}/" for path in (ROOT / folder).glob("*/__init__.py")}
        named = set(re.findall(r"`([\w/]+)`", section))
        assert named == there | packages - {"ocr/"}, folder
        every |= there | packages
    drawn = re.findall(r'class="name".*?>(.*?)<', drawing)
    assert set(drawn) - {"captcha.onnx"} <= every
