"""The committed OpenAPI document is the served one, and the service conforms to it."""

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

# Requests that match a schema may be refused: no schema says that bytes are a picture, or that a
# pattern fits the model's alphabet.
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


def test_the_committed_document_is_current() -> None:
    """After a change of the interface, `make openapi` writes the document again."""
    assert openapi.PATH.read_text(encoding="utf-8") == openapi.text()


def test_code_generators_can_use_the_document() -> None:
    """Operations have unique names, every reference resolves, and every error is described."""
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
        # The server refuses late and too large requests before any route runs.
        assert {"408", "431"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            assert response["content"], (operation["operationId"], status)
            assert all(content["schema"] for content in response["content"].values())


def test_the_document_names_the_prefix_that_a_proxy_strips() -> None:
    """A setting gives the prefix. Without it, the service is at the root of its host."""
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
def test_a_trusted_proxy_can_name_the_prefix_that_it_strips(
    trusted: str, sent: str, url: str
) -> None:
    """The header is ignored if another client sends it, or if its value is no path."""
    settings = Settings(root_path="/set")
    app = create_app(settings)
    if trusted:
        app.add_middleware(ProxyHeaders, trusted_hosts=[trusted])
    client = TestClient(app)
    for _ in range(2):
        document = client.get("/openapi.json", headers={"X-Forwarded-Prefix": sent}).json()
        assert document == {**app.openapi(), "servers": [{"url": url}]}


def test_the_document_is_generated_once_for_all_prefixes() -> None:
    """Generating it takes as long as reading a picture."""
    app = create_app()
    app.add_middleware(ProxyHeaders, trusted_hosts=["testclient"])
    client = TestClient(app)
    with patch.object(
        PictureForm, "model_json_schema", wraps=PictureForm.model_json_schema
    ) as generate:
        for number in range(20):
            client.get("/openapi.json", headers={"X-Forwarded-Prefix": f"/{number}"})
    assert generate.call_count == 1


def test_the_document_says_which_operations_may_need_a_key() -> None:
    """Every POST may need a key, and so may the paths that can be private."""
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
    """The address of a service with the bundled model."""
    with serving() as address:
        yield address


def test_the_service_conforms_to_the_document(address: str, tmp_path: Path) -> None:
    """The document covers all answers to hundreds of valid and invalid requests made from it."""
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


def test_the_inference_example_in_the_document_is_answered(address: str) -> None:
    schemas = json.loads(openapi.text())["components"]["schemas"]
    answer = httpx2.post(
        f"{address}/v2/models/captcha/infer", json=schemas["InferenceBody"]["example"]
    )
    assert answer.status_code == 200, answer.text
    assert [output["name"] for output in answer.json()["outputs"]] == ["text", "confidence"]
