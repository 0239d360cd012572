from pathlib import Path
from unittest.mock import patch

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.observability.metrics import Metrics
from service.ocr.recognizer import Recognizer
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import assert_problem, post


def test_an_application_with_a_checked_model_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_not_ready_before_the_model_is_checked(settings: Settings) -> None:
    """Before its start and after its end, the application is live and refuses pictures with 503."""
    client = TestClient(create_app(settings))
    for _ in range(2):
        for response in (client.get("/health/ready"), post(client, stripes.picture("a"))):
            assert_problem(response, 503, "not-ready", "No model")
            assert response.headers["retry-after"] == "1"
        assert client.get("/health/live").status_code == 200
        with client:
            assert client.get("/health/ready").status_code == 200


def test_a_model_that_fails_its_check_stops_the_start(tmp_path: Path) -> None:
    """The application does not start with a model that reads its golden picture wrong."""
    golden = (stripes.metadata().golden[0].__class__(stripes.picture("ab"), "ba"),)
    path = stripes.write_model(tmp_path / "m.onnx", golden=golden)
    with (
        pytest.raises(Exception, match="'ab' and not 'ba'"),
        TestClient(create_app(Settings(model_path=path))),
    ):
        pass


def test_the_metadata_of_the_model_are_shown(client: TestClient) -> None:
    """The golden pictures are left out."""
    card = client.get("/model").json()
    assert card["name"] == "stripes"
    assert card["alphabet"] == "abcd"
    assert card["blank_index"] == 4
    assert (card["width"], card["height"]) == (stripes.WIDTH, stripes.HEIGHT)
    assert card["figures"] == {"exact_match": 1.0}
    assert "golden" not in card


def test_internal_errors_reveal_nothing(client: TestClient) -> None:
    """The problem contains no word of the exception. The next request is answered."""
    with patch.object(Recognizer, "infer", side_effect=RuntimeError("secret")):
        response = post(client, stripes.picture("a"))
    assert_problem(response, 500, "internal-error", "log")
    assert "secret" not in response.text
    assert post(client, stripes.picture("a")).status_code == 200
    with patch.object(Metrics, "exposition", side_effect=RuntimeError("secret")):
        asked = client.head("/metrics")
    assert (asked.status_code, asked.headers["content-type"]) == (500, "application/problem+json")


@pytest.mark.parametrize(
    ("path", "status", "name", "hint"),
    [
        ("/nothing", 404, "not-found", "/docs lists"),
        ("/model/", 404, "not-found", "/docs lists"),  # no redirect to a host that a client names
        ("/predict", 405, "method-not-allowed", "use POST."),
    ],
)
def test_an_unknown_path_or_method_gets_a_problem(
    path: str, status: int, name: str, hint: str, client: TestClient
) -> None:
    """The problem says what to use instead."""
    answer = client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"/problems/{name}"
    assert answer.status_code == status
    assert f"GET {path}" in answer.json()["detail"]
    assert hint in answer.json()["detail"]


def test_the_openapi_document_describes_predict(client: TestClient) -> None:
    """It has the upload, an example, the meaning of confidence and every error."""
    document = client.get("/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    bodies = predict["requestBody"]["content"]
    assert bodies["multipart/form-data"]["schema"] == {"$ref": "#/components/schemas/PictureForm"}
    assert document["components"]["schemas"]["PictureForm"]["required"] == ["file"]
    assert "application/octet-stream" in bodies
    statuses = {"200", "401", "408", "413", "415", "422", "429", "431", "500", "503"}
    assert set(predict["responses"]) == statuses
    for status in statuses - {"200"}:
        assert list(predict["responses"][status]["content"]) == ["application/problem+json"]
    schemas = document["components"]["schemas"]
    assert schemas["Prediction"]["example"]["text"] == "226md"
    assert "posterior" in schemas["Prediction"]["properties"]["confidence"]["description"]
    assert "surest time step" in schemas["Character"]["properties"]["confidence"]["description"]
    names = {parameter["name"] for parameter in predict["parameters"]}
    assert names == {
        "alternatives",
        "length",
        "alphabet",
        "pattern",
        "min_confidence",
        "matrix",
        "region",
    }


def test_the_openapi_document_is_serialized_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later requests for it cost the service no more than those for any other file."""
    first = client.get("/openapi.json")
    monkeypatch.setattr(client.app, "openapi", dict)
    again = client.get("/openapi.json")
    assert again.content == first.content
    assert again.headers["content-type"] == "application/json"
