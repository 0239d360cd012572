import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import pytest

from service import __version__
from service.cli.commands import create_cli
from tests import stripes
from tests.cli.command import COMMAND, ROOT, environment, run
from tests.server.process import START_SECONDS, address_of, until

DOCUMENT = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
CLI = create_cli()
NAMES = [command.callback.__name__ for command in CLI.registered_commands] + [  # type: ignore[union-attr]
    f"{group.typer_instance.info.name} {command.callback.__name__}"  # type: ignore[union-attr]
    for group in CLI.registered_groups
    for command in group.typer_instance.registered_commands  # type: ignore[union-attr]
]


def test_help_imports_no_slow_modules() -> None:
    """Help texts and completions do not need the modules that take long to import."""
    code = """
import sys
from service.cli import main
sys.argv = ["captcha-ocr", "predict", "--help"]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Usage: captcha-ocr predict" in done.stdout
    loaded = set(done.stderr.split())
    assert "service.cli.predict" in loaded
    assert loaded & {"onnxruntime", "fastapi", "numpy", "PIL", "rich.progress"} == set()


def test_version_and_short_help_are_printed() -> None:
    """`--version` and `-h` work as in other commands."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["hatch"]["version"] == {"path": "service/__init__.py"}
    assert run("--version").stdout.decode() == f"captcha-ocr {__version__}\n"
    assert run("-h").stdout == run("--help").stdout
    assert run("predict", "-h").stdout == run("predict", "--help").stdout != b""


@pytest.mark.parametrize("name", NAMES)
def test_the_document_contains_every_help_text(name: str) -> None:
    """It is there word for word, under a heading with the command's name."""
    section = DOCUMENT.partition(f"## captcha-ocr {name}\n")[2]
    shown = re.match(r"\n```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] == run(*name.split(), "--help").stdout.decode()


def test_the_document_lists_exactly_the_commands() -> None:
    assert re.findall(r"^## captcha-ocr (\w+(?: \w+)?)$", DOCUMENT, re.MULTILINE) == NAMES


def test_the_commands_in_the_document_run() -> None:
    """They run as they are written, where `captcha-ocr` is on the path."""
    command = " ".join(COMMAND)
    for block in re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL):
        script = block.replace("captcha-ocr", command).replace("> texts.csv", "| sed -n 1p")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        header, answer = done.stdout.splitlines()
        named = set(re.findall(r"`(\w+)`", DOCUMENT)) | {
            "alternative_2",
            "alternative_2_confidence",
        }
        assert set(header.split(",")) <= named
        assert json.loads(answer)["text"] == "bndyp"


def test_the_package_installs_the_command() -> None:
    """Its entry point is this command line; `make release-check` installs and runs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"captcha-ocr": "service.cli:main"}


@pytest.mark.parametrize("command", ["predict", "info", "bench"])
def test_a_missing_model_is_explained(command: str, tmp_path: Path) -> None:
    """The error says what is missing, and how to name or make a model."""
    arguments = ["x.png"] if command == "predict" else []
    done = run(command, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    error, advice = done.stderr.decode().splitlines()
    assert error == "error: there is no model file at models/captcha.onnx."
    assert "OCR_MODEL_PATH" in advice
    assert "make export-onnx" in advice


def test_info_shows_the_metadata_and_size_of_a_model(tmp_path: Path) -> None:
    """It prints a table or JSON. Markup in the metadata stays text."""
    file = stripes.write_model(tmp_path / "m.onnx", name="[red]stripes", figures={"cer": 0.25})
    facts = json.loads(run("info", file, "--json").stdout)
    assert facts["name"] == "[red]stripes"
    assert facts["alphabet"] == stripes.ALPHABET
    assert facts["figures"] == {"cer": 0.25}
    assert facts["golden"] == 1
    assert facts["bytes"] == file.stat().st_size
    table = run("info", file).stdout.decode()
    assert "[red]stripes" in table
    assert re.search(r"figures\.cer +0\.25", table)


def test_bench_measures_every_stage(stripe_model: Path) -> None:
    """It prints each stage's CPU time and its share of the model's, and pictures a second."""
    arguments = ("bench", "--model", stripe_model, "--pictures", 20)
    figures = json.loads(run(*arguments, "--json").stdout)
    assert set(figures["cpu_ms"]) == {"preprocessing", "session.run", "decoding"}
    for stage, value in figures["cpu_ms"].items():
        assert value > 0
        share = value / figures["cpu_ms"]["session.run"]
        assert figures["of_session_run"][stage] == pytest.approx(share, rel=0.05)
    assert figures["pictures_per_second"] > 0
    assert b"pictures a second" in run(*arguments).stdout


def test_bench_measures_models_of_colour_pictures(tmp_path: Path) -> None:
    """The benchmark gives these models the input that they take."""
    model = stripes.write_model(tmp_path / "colour.onnx", channels=3)
    figures = json.loads(run("bench", "--model", model, "--pictures", 5, "--json").stdout)
    assert figures["cpu_ms"]["preprocessing"] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_options_of_serve_override_variables(workers: int, stripe_model: Path) -> None:
    """The service has the model that the option names, and ends with exit status 0."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--model", str(stripe_model), "--port", "0", "--workers", str(workers)],
        cwd=ROOT, env=environment(OCR_MODEL_PATH="nowhere.onnx", OCR_PORT="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        transport = httpx2.HTTPTransport(retries=5)
        with httpx2.Client(base_url=address_of(process), transport=transport, timeout=60) as client:
            until(lambda: client.get("/health/ready").is_success, "ready", START_SECONDS)
            assert client.get("/model").json()["name"] == "stripes"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()


def test_serve_explains_an_invalid_setting() -> None:
    """As in the service, the error is one sentence on the setting, with exit status 1."""
    done = run("serve", "--port", 99999)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: OCR_PORT is '99999'")
