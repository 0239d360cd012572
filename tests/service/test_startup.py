from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from service.ocr.metadata import GoldenPicture
from tests import stripes
from tests.service.server import fails_to_start, serving


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
        "import sys, service.__main__ as main; check = main.load_recognizer;"
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


def test_a_port_that_is_taken_ends_the_service(stripe_model: Path) -> None:
    """Two services cannot have one port; the second says so and ends."""
    with serving(model_path=stripe_model) as address:
        port = address.rpartition(":")[2]
        status, output = fails_to_start(model_path=stripe_model, port=port)
    assert status != 0
    assert "address already in use" in output
