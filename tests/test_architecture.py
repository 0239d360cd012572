"""Checks which room (package) may import which, as `docs/architecture.md` describes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = ("ocr", "settings", "runtime", "observability", "api", "bulk", "server", "cli")
"""A room may import the rooms before it. `settings` stands for all modules directly in service/."""
PICTURES_AND_ARCHITECTURES = ("augmentation", "data", "models", "synthetic")
TRAINING_LIBRARIES = {"keras", "matplotlib", "onnx", "rapidfuzz", "tensorflow", "tf2onnx"}
FRAMEWORKS = {"anyio", "fastapi", "httptools", "pydantic", "starlette", "typer", "uvicorn"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported(path)}


def room(dotted: str, rooms: tuple[str, ...]) -> str:
    """The room of a module: `api` for `service.api.routes`, `settings` for `service.errors`."""
    name = dotted.split(".")[1] if "." in dotted else ""
    return name if name in rooms else "settings"


@pytest.mark.parametrize("path", modules("service"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_of_the_service_imports_only_lower_rooms(path: Path) -> None:
    """`cli → server → bulk → api → observability → runtime → settings → ocr`; no training code."""
    assert packages(path) & (TRAINING_LIBRARIES | {"training", "tests"}) == set()
    if path.name == "__main__.py":
        return
    own = SERVICE.index(room(".".join(path.relative_to(ROOT).with_suffix("").parts), SERVICE))
    for name in imported(path):
        if name.partition(".")[0] == "service":
            assert SERVICE.index(room(name, SERVICE)) <= own, name


def test_only_the_command_line_imports_the_bulk_room() -> None:
    """The room's packages, pyarrow and Ray, are an extra. From `service.api` and
    `service.observability`, it imports only the serializer of predictions.
    """
    users = {
        path for path in modules("service") if any("service.bulk" in n for n in imported(path))
    }
    assert {str(path.relative_to(ROOT / "service")).partition("/")[0] for path in users} == {
        "bulk", "cli",
    }  # fmt: skip
    extras = {path: packages(path) & {"pyarrow", "ray"} for path in modules("service")}
    found = {str(path.relative_to(ROOT)): extra for path, extra in extras.items() if extra}
    assert found == {
        "service/bulk/run.py": {"ray"},
        "service/bulk/shards.py": {"pyarrow"},
        "service/bulk/tables.py": {"pyarrow"},
    }
    known = {name for path in modules("service/bulk") for name in imported(path)}
    assert {
        name for name in known if name.startswith(("service.api", "service.observability"))
    } == {"service.api.serializers.prediction"}


@pytest.mark.parametrize(
    "path", [*modules("service/ocr"), ROOT / "service/bulk/rows.py"], ids=lambda p: p.stem
)
def test_reading_pictures_needs_no_framework(path: Path) -> None:
    """Training, and programs without HTTP, can use `service.ocr`."""
    assert packages(path) & FRAMEWORKS == set()


@pytest.mark.parametrize("path", modules("training"), ids=lambda p: str(p.relative_to(ROOT)))
def test_training_imports_only_service_ocr(path: Path) -> None:
    """Training imports no other room of the service."""
    known = {name for name in imported(path) if name.partition(".")[0] == "service"}
    assert all(name.startswith("service.ocr.") for name in known), known


@pytest.mark.parametrize(
    "path",
    [path for room in PICTURES_AND_ARCHITECTURES for path in modules(f"training/{room}")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_rooms_with_pictures_and_architectures_import_no_room_that_trains(path: Path) -> None:
    """These rooms also import no room that evaluates or exports."""
    known = {".".join(name.split(".")[:2]) for name in imported(path)}
    below = {f"training.{name}" for name in (*PICTURES_AND_ARCHITECTURES, "exceptions", "settings")}
    assert {name for name in known if name.startswith("training.")} <= below


def test_only_one_module_imports_onnxruntime() -> None:
    """That module switches telemetry off before the first session."""
    users = [path.name for path in modules("service") if "onnxruntime" in packages(path)]
    assert users == ["session.py"]


def test_the_running_application_loads_no_training_library() -> None:
    """Checks `sys.modules`, so imports by the service's libraries count as well."""
    code = "import sys, service.server.main; service.server.main.create_app(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"fastapi", "onnxruntime", "service"} <= loaded
    assert loaded & (TRAINING_LIBRARIES | {"training"}) == set()


def test_lock_files_pin_every_package_by_version_and_hash() -> None:
    """No line names a host. The service's lock file has no TensorFlow, OpenTelemetry SDK or Ray."""
    for extra in ("service", "bulk", "traces", "training", "dev"):
        text = (ROOT / "requirements" / f"{extra}.txt").read_text()
        assert "://" not in text
        pins = [line for line in text.splitlines() if line[:1].isalnum()]
        assert all("==" in line for line in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        names = {line.partition("==")[0] for line in pins}
        assert ("tensorflow" in names) is (extra in ("training", "dev"))
        assert ("opentelemetry-sdk" in names) is (extra in ("bulk", "traces", "dev"))
        assert ("ray" in names) is (extra == "bulk")
