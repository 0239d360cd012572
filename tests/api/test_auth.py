"""API keys: what needs a key, and how many pictures each key may have read."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from service.api.app import create_app
from service.api.errors import ProblemError
from service.api.rate_limit import RateLimit
from service.settings import PRIVATE_PATHS, Settings, named_keys
from tests import stripes
from tests.api.test_predict import assert_problem, post
from tests.api.test_uploads import text_of


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_pictures_need_an_api_key(path: str, stripe_model: Path) -> None:
    """The key may be in either header. Without a valid key, the answer is 401."""
    settings = Settings(model_path=stripe_model, api_keys="first, second")
    body = {"image": text_of(stripes.picture("a"))}
    if path.endswith("batch"):
        body = {"images": [body["image"]]}  # type: ignore[dict-item]
    with TestClient(create_app(settings)) as client:
        for headers in ({"X-API-Key": "first"}, {"Authorization": "Bearer second"}):
            assert client.post(path, json=body, headers=headers).status_code == 200
        for headers in ({}, {"X-API-Key": "third"}, {"X-API-Key": ""}, {"Authorization": "Bearer"}):
            response = client.post(path, json=body, headers=headers)
            assert_problem(response, 401, "unauthorized", "X-API-Key")
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.get("/health/ready").status_code == 200


def test_a_key_has_the_given_name_or_its_position_as_name() -> None:
    """Several keys may share a name."""
    assert named_keys("one, shop:two,shop: three ,a:b:c") == [
        ("key-1", "one"),
        ("shop", "two"),
        ("shop", "three"),
        ("a", "b:c"),
    ]


def test_printed_settings_contain_no_key() -> None:
    assert "s3cret" not in repr(Settings(api_keys="s3cret"))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (",", "it contains no key"),
        (" , ", "it contains no key"),
        (" ", "it contains no key"),
        ("a,shop:", "entry 2 must be a key"),
        (":s3cret", "entry 1 must be a key"),
        ("my shop:s3cret", "entry 1 must be a key"),
        ("shop:s3cret,other:s3cret", "entry 2 gives a second name to a key"),
    ],
)
def test_malformed_api_keys_are_refused(keys: str, reason: str) -> None:
    """A template with empty variables makes such values. They must not make keys unnecessary."""
    with pytest.raises(ValidationError, match=reason):
        Settings(api_keys=keys)


def retry_after(limit: RateLimit, name: str) -> str | None:
    """The `Retry-After` of a refusal, or None if the request is admitted."""
    try:
        limit.check(name)
    except ProblemError as error:
        return (error.headers or {})["Retry-After"]
    limit.charge(name, 1)
    return None


def test_a_key_may_send_the_pictures_of_one_second_at_once() -> None:
    """This holds after a pause. From then on, the key may send as many a second as its limit."""
    now = [100.0]
    limit = RateLimit(2, lambda: now[0])
    assert [retry_after(limit, "shop") for _ in range(3)] == [None, None, "1"]
    assert retry_after(limit, "other") is None
    now[0] += 0.5
    assert [retry_after(limit, "shop") for _ in range(2)] == [None, "1"]
    now[0] += 3600
    assert [retry_after(limit, "shop") for _ in range(3)] == [None, None, "1"]


def test_a_key_waits_after_a_batch_above_its_limit() -> None:
    """The batch is read. Then the key waits until its average rate is within the limit."""
    now = [100.0]
    limit = RateLimit(0.5, lambda: now[0])
    assert retry_after(limit, "shop") is None
    limit.charge("shop", 9)
    assert retry_after(limit, "shop") == "20"
    now[0] += 19.9
    assert retry_after(limit, "shop") == "1"
    now[0] += 0.1
    assert retry_after(limit, "shop") is None


def test_without_a_limit_nothing_is_refused() -> None:
    limit = RateLimit(0)
    limit.charge("shop", 1000)
    assert retry_after(limit, "shop") is None


@pytest.mark.parametrize("path", ["/predict", "/v2/models/stripes/infer"])
def test_a_key_above_its_limit_is_refused(path: str, settings: Settings) -> None:
    """The answer is 429 and says when to retry. Other keys are served."""
    settings = settings.model_copy(
        update={"api_keys": "shop:a,other:b", "key_pictures_per_second": 0.001}
    )
    with TestClient(create_app(settings)) as client:
        assert post(client, stripes.picture("a"), headers={"X-API-Key": "a"}).status_code == 200
        refused = client.post(path, content=b"", headers={"X-API-Key": "a"})
        assert refused.status_code == 429
        assert 500 < int(refused.headers["retry-after"]) <= 1000
        if path == "/predict":
            assert_problem(refused, 429, "rate-limited", "0.001 pictures read a second")
        assert post(client, stripes.picture("a"), headers={"X-API-Key": "b"}).status_code == 200
        assert client.get("/model").status_code == 200


def test_every_picture_of_a_tensor_counts_towards_the_limit(settings: Settings) -> None:
    """The tensor of one request of the Open Inference Protocol may hold many pictures."""
    settings = settings.model_copy(update={"api_keys": "a", "key_pictures_per_second": 1})
    shape = [3, stripes.WIDTH, stripes.HEIGHT, 1]
    data = [0.5] * (3 * stripes.WIDTH * stripes.HEIGHT)
    with TestClient(create_app(settings), headers={"X-API-Key": "a"}) as client:
        name = client.get("/v2/models/stripes").json()["inputs"][0]["name"]
        tensor = {"name": name, "datatype": "FP32", "shape": shape, "data": data}
        answers = [
            client.post("/v2/models/stripes/infer", json={"inputs": [tensor]}) for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) > 1


def test_a_batch_without_any_valid_picture_counts_as_one_picture(settings: Settings) -> None:
    """The batch was admitted as one picture."""
    settings = settings.model_copy(update={"api_keys": "a", "key_pictures_per_second": 0.001})
    with TestClient(create_app(settings), headers={"X-API-Key": "a"}) as client:
        answers = [client.post("/predict/batch", json={"images": ["no base64!"]}) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [200, 429]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_private_paths_need_a_key(method: str, settings: Settings) -> None:
    """If all these paths are private, so is the API document. All other paths stay open."""
    closed = settings.model_copy(
        update={"api_keys": "a", "private_paths": ", ".join(PRIVATE_PATHS)}
    )
    with TestClient(create_app(closed)) as client:
        for path in (*PRIVATE_PATHS, "/openapi.json"):
            assert client.request(method, path).status_code == 401
            key = {"X-API-Key": "a"}
            assert client.request(method, path, headers=key).status_code == 200
        for path in ("/", "/model", "/health/ready", "/v2"):
            assert client.request(method, path).status_code == 200


def test_paths_are_not_private_by_default(settings: Settings) -> None:
    """API keys alone make no path private."""
    with TestClient(create_app(settings.model_copy(update={"api_keys": "a"}))) as client:
        assert [client.get(path).status_code for path in PRIVATE_PATHS] == [200, 200, 200]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"private_paths": "/info"}, "it needs OCR_API_KEYS"),
        ({"key_pictures_per_second": 5}, "it needs OCR_API_KEYS"),
        ({"api_keys": "a", "private_paths": "/info,/health/ready"}, "/health/ready cannot be"),
        ({"trusted_proxies": "10.0.0.1/8"}, "10.0.0.0/8 are right"),
        ({"trusted_proxies": "proxy"}, "10.0.0.0/8 are right"),
    ],
)
def test_settings_that_protect_nothing_are_refused(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(**given)  # type: ignore[arg-type]
