"""The OpenAPI document: the committed one is the served one, and the service keeps to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from service.api.app import create_app
from service.api.middleware.proxy_headers import ProxyHeaders
from service.api.schemas import PictureForm
from service.settings import Settings
from tests.api import openapi
from tests.server.process import serving

# What a schema cannot say: that bytes are a picture, or that a pattern fits the model's alphabet.
CONFIGURATION = """
[parameters]
"path.name" = "captcha"

[checks]
positive_data_acceptance.enabled = false
"""


def references(part: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == "$ref")
        part = list(part.values())
    if isinstance(part, list):
        for member in part:
            yield from references(member)


def test_the_committed_document_is_that_of_the_application() -> None:
    """`make openapi` writes it anew when the interface has changed."""
    assert openapi.PATH.read_text(encoding="utf-8") == openapi.text()


def test_generators_can_use_it() -> None:
    """Operations have names of their own, every reference leads somewhere, errors are described."""
    document = json.loads(openapi.text())
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for reference in references(document):
        found = document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            found = found[step]
    for operation in operations:
        assert operation["summary"]
        # Before any route comes the server, which refuses what arrives too late or too large.
        assert {"408", "431"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            assert response["content"], (operation["operationId"], status)
            assert all(content["schema"] for content in response["content"].values())


def test_a_stripped_prefix_is_in_the_addresses() -> None:
    """As the setting says; without it, the service is at the root of its host."""
    assert json.loads(openapi.text())["servers"] == [{"url": "/"}]
    settings = Settings(root_path="/ocr/v1")
    assert create_app(settings).openapi()["servers"] == [{"url": "/ocr/v1"}]
    for wrong in ("ocr", "/ocr/", "//host", "https://host"):
        with pytest.raises(ValidationError, match="like /ocr"):
            Settings(root_path=wrong)


@pytest.mark.parametrize(
    ("trusted", "sent", "url"),
    [
        ("testclient", "/ocr/v1", "/ocr/v1"),
        ("testclient", "/ocr/", "/ocr"),
        ("testclient", "//host", "/set"),
        ("testclient", "/", "/set"),
        ("10.0.0.1", "/ocr", "/set"),
        ("", "/ocr", "/set"),
    ],
)
def test_a_trusted_proxy_says_which_prefix_it_strips(trusted: str, sent: str, url: str) -> None:
    """Of others, it is not believed, nor what is no path."""
    settings = Settings(root_path="/set")
    app = create_app(settings)
    if trusted:
        app.add_middleware(ProxyHeaders, trusted_hosts=[trusted])
    client = TestClient(app)
    for _ in range(2):
        document = client.get("/openapi.json", headers={"X-Forwarded-Prefix": sent}).json()
        assert document == {**app.openapi(), "servers": [{"url": url}]}


def test_another_prefix_is_no_other_document() -> None:
    """It is described once, since that takes as long as a picture."""
    app = create_app()
    app.add_middleware(ProxyHeaders, trusted_hosts=["testclient"])
    client = TestClient(app)
    with patch.object(
        PictureForm, "model_json_schema", wraps=PictureForm.model_json_schema
    ) as made:
        for number in range(20):
            client.get("/openapi.json", headers={"X-Forwarded-Prefix": f"/{number}"})
    assert made.call_count == 1


def test_keys_are_described() -> None:
    """A POST may need a key, and so may what can be closed."""
    document = json.loads(openapi.text())
    schemes = document["components"]["securitySchemes"]
    assert schemes["ApiKey"]["name"] == "X-API-Key"
    for methods in document["paths"].values():
        for operation in methods.values():
            needed = "401" in operation["responses"]
            assert operation.get("security") == ([{}, {"ApiKey": []}] if needed else None)
    assert {path for path, methods in document["paths"].items() if "401" in str(methods)} == {
        "/predict",
        "/predict/batch",
        "/info",
        "/metrics",
        "/v2/models/{name}/infer",
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A service with the bundled model."""
    with serving() as address:
        yield address


def test_the_service_keeps_to_it(address: str, tmp_path: Path) -> None:
    """Hundreds of requests made from it, sound and unsound, get only answers that it describes."""
    assert httpx2.get(f"{address}/openapi.json").json() == json.loads(openapi.text())
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", configuration),
            *("run", f"{address}/openapi.json", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "40", "--continue-on-failure", "--seed", "1"),
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Unresolvable" not in done.stdout
    assert f"Tested: {len(json.loads(openapi.text())['paths'])}" in done.stdout


def test_the_example_of_inference_is_answered(address: str) -> None:
    """What the document shows can be sent."""
    schemas = json.loads(openapi.text())["components"]["schemas"]
    answer = httpx2.post(
        f"{address}/v2/models/captcha/infer", json=schemas["InferenceBody"]["example"]
    )
    assert answer.status_code == 200, answer.text
    assert [output["name"] for output in answer.json()["outputs"]] == ["text", "confidence"]
