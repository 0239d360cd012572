import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from service.ocr.metadata import GoldenPicture
from tests import stripes
from tests.service.server import address_of, fails_to_start, serving, start


@pytest.mark.parametrize("workers", [1, 2])
def test_serves_over_a_socket(workers: int, stripe_model: Path) -> None:
    """The service answers real requests, with one worker and with several."""
    with serving(model_path=stripe_model, workers=workers) as address:
        answers = [
            httpx2.post(f"{address}/predict", files={"file": stripes.picture(text)}).json()["text"]
            for text in ("abcd", "bd", "", "dcba")
        ]
    assert answers == ["abcd", "bd", "", "dcba"]


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def not_onnx(path: Path) -> None:
    path.write_bytes(b"this is no model")


def without_metadata(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: {})


def contradictory(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: properties | {"blank_index": "9"})


def of_another_shape(path: Path) -> None:
    stripes.write_model(path, change=lambda properties: properties | {"width": "44"})


def misreading(path: Path) -> None:
    stripes.write_model(path, golden=(GoldenPicture(stripes.picture("ab"), "ba"),))


BREAKAGES = {
    missing: "no model file",
    truncated: "cut short",
    not_onnx: "cannot be loaded as an ONNX model",
    without_metadata: "format_version is missing",
    contradictory: "blank_index is 9",
    of_another_shape: "has the shape",
    misreading: "golden picture",
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_ends_the_service(
    breakage: Callable[[Path], None], workers: int, stripe_model: Path
) -> None:
    """A sentence that says what is wrong with the model, and an exit status other than 0."""
    breakage(stripe_model)
    status, output = fails_to_start(model_path=stripe_model, workers=workers)
    assert status != 0
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert BREAKAGES[breakage] in errors[0]


def test_a_worker_that_cannot_start_ends_the_service(stripe_model: Path) -> None:
    """Where only the workers cannot load the model, the whole service still ends, not with 0."""
    # The model vanishes between the check before the start and the workers' own loading.
    code = (
        "import sys, service.server.main as main; check = main.load_recognizer;"
        "main.load_recognizer = lambda s: (check(s), s.model_path.unlink())[0];"
        "sys.exit(main.main())"
    )
    status, output = fails_to_start(code=code, model_path=stripe_model, workers=2)
    assert status != 0, output


@pytest.mark.parametrize(
    ("name", "value"), [("port", "99999"), ("workers", "0"), ("log_level", "loud")]
)
def test_a_bad_setting_ends_the_service(name: str, value: str, stripe_model: Path) -> None:
    """A setting that cannot be is named with its value."""
    status, output = fails_to_start(**{"model_path": stripe_model, name: value})
    assert status != 0
    assert f"OCR_{name.upper()} is '{value}'" in output
    assert "Traceback" not in output


def test_a_misspelt_setting_is_named() -> None:
    """Not to be taken for one that has an effect."""
    _, output = fails_to_start(model_path="missing.onnx", thredas=3)
    assert "OCR_THREDAS is no setting and changes nothing; OCR_THREADS is one" in output


def test_a_port_that_is_taken_ends_the_service(stripe_model: Path) -> None:
    """Two services cannot have one port; the second says so and ends."""
    with serving(model_path=stripe_model) as address:
        port = address.rpartition(":")[2]
        status, output = fails_to_start(model_path=stripe_model, port=port)
    assert status != 0
    assert "address already in use" in output


def test_hanging_up_is_no_failure(stripe_model: Path) -> None:
    """A client that goes away in mid-upload leaves no traceback in the log."""
    process = start(port=0, model_path=stripe_model)
    try:
        host, port = address_of(process).removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                )
        answer = httpx2.post(f"http://{host}:{port}/predict", files={"file": stripes.picture("ab")})
        assert answer.json()["text"] == "ab"
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in output


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
def test_healthcheck(proxy: str | None, stripe_model: Path) -> None:
    """The container's check answers for this machine, past any proxy."""
    command = [sys.executable, "-m", "service.server.healthcheck"]
    with serving(model_path=stripe_model) as address:
        environment = os.environ | {"OCR_PORT": address.rpartition(":")[2]}
        if proxy:
            environment |= {"http_proxy": proxy}
        assert subprocess.run(command, env=environment, check=False).returncode == 0
    for port in (environment["OCR_PORT"], "nonsense"):
        done = subprocess.run(
            command, env=environment | {"OCR_PORT": port}, capture_output=True, check=False
        )
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("length", "abc"), ("alphabet", "xyz"), ("pattern", "a(")]
)
def test_defaults_that_do_not_fit_the_model_end_the_service(
    name: str, value: str, stripe_model: Path
) -> None:
    """A default of a parameter that no request could use is named."""
    status, output = fails_to_start(**{"model_path": stripe_model, name: value})
    assert status != 0
    assert f"error: OCR_{name.upper()}: " in output
    assert "Traceback" not in output


def test_an_empty_setting_is_none(stripe_model: Path) -> None:
    """A variable that is set to nothing, as Compose files do, leaves the default."""
    with serving(model_path=stripe_model, pattern="", length="") as address:
        answer = httpx2.post(f"{address}/predict", files={"file": stripes.picture("ab")})
    assert answer.json()["text"] == "ab"
