"""The load shedding middleware refuses requests exactly as the application does."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

import httpx2
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.handlers import Engine
from service.api.middleware.load_shedding import LoadShedding
from service.runtime.batcher import Batcher, OverloadedError
from service.settings import Settings
from tests import stripes

PNG = {"Content-Type": "image/png", "X-Request-ID": "a", "X-API-Key": "a"}


@contextmanager
def overloaded(settings: Settings, with_middleware: bool) -> Iterator[TestClient]:
    """A client of a service that has no room for pictures, with or without the middleware."""
    app = create_app(settings.model_copy(update={"queue_ms": 60_000}))
    if not with_middleware:
        others = [
            other for other in app.user_middleware if other.cls is not cast(Any, LoadShedding)
        ]
        assert len(others) == len(app.user_middleware) - 1
        app.user_middleware = others
    with (
        patch.object(Batcher, "admit", side_effect=OverloadedError(3)),
        TestClient(app) as client,
    ):
        yield client


def contents(response: httpx2.Response) -> tuple[Any, ...]:
    return response.status_code, sorted(response.headers.items()), response.content


@pytest.mark.parametrize("path", ["/predict", "/predict/batch?length=5"])
def test_the_middleware_refuses_as_the_application_does(
    path: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The client, the log and the metrics see no difference."""
    caplog.set_level(logging.INFO, "service.access")
    settings = settings.model_copy(
        update={"api_keys": "shop:a", "cors_origins": "https://example.com"}
    )
    seen: list[tuple[Any, ...]] = []
    for with_middleware in (False, True):
        caplog.clear()
        with overloaded(settings, with_middleware) as client:
            headers = {**PNG, "Origin": "https://example.com"}
            answer = client.post(path, content=stripes.picture("a"), headers=headers)
            exposed = client.get("/metrics").text
        counts = [line for line in exposed.splitlines() if "requests_total{" in line]
        (fields, _) = [record.fields for record in caplog.records if hasattr(record, "fields")]
        seen.append((contents(answer), counts, {**fields, "ms": 0}))
    assert seen[0] == seen[1]
    (status, headers, _), counts, fields = seen[1]
    assert status == 503
    assert {("retry-after", "3"), ("x-request-id", "a")} < set(headers)
    assert len(counts) == 2  # one for all requests, and one for those of the key
    assert (fields["route"], fields["reason"], fields["key"]) == (
        path.partition("?")[0],
        "overloaded",
        "shop",
    )


def test_the_middleware_refuses_before_the_application_runs(settings: Settings) -> None:
    """This makes a refusal cheap."""
    with overloaded(settings, True) as client, patch.object(Engine, "admit", side_effect=OSError):
        assert client.post("/predict", content=b"", headers=PNG).status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("POST", "/predict", "wrong", 401),
        ("POST", "/predict", "limited", 429),
        ("GET", "/predict", "a", 405),
        ("POST", "/no-such-page", "a", 404),
        ("POST", "/v2/models/none/infer", "a", 404),
        ("POST", "/v2/models/stripes/infer", "a", 503),
        ("GET", "/health/ready", "a", 200),
    ],
)
def test_other_errors_come_before_the_overload(
    method: str, path: str, key: str, status: int, settings: Settings
) -> None:
    """Errors of routes, keys and limits are the same as without overload."""
    settings = settings.model_copy(
        update={"api_keys": "a,limited", "key_pictures_per_second": 0.001}
    )
    with overloaded(settings, True) as client:
        if key == "limited":
            with patch.object(Batcher, "admit"):
                headers = PNG | {"X-API-Key": key}
                body = stripes.picture("a")
                assert client.post("/predict", content=body, headers=headers).status_code == 200
        answer = client.request(method, path, headers=PNG | {"X-API-Key": key})
    assert answer.status_code == status


def test_a_refusal_does_not_count_towards_the_limit_of_a_key(settings: Settings) -> None:
    settings = settings.model_copy(update={"api_keys": "a", "key_pictures_per_second": 1})
    with overloaded(settings, True) as client:
        for _ in range(5):
            assert client.post("/predict", content=b"", headers=PNG).status_code == 503
        with patch.object(Batcher, "admit"):
            body = stripes.picture("a")
            assert client.post("/predict", content=body, headers=PNG).status_code == 200


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_request_without_a_valid_key_displaces_no_other(key: str, settings: Settings) -> None:
    """The batcher could refuse another client's picture for this one, so it is not called."""
    settings = settings.model_copy(update={"api_keys": "a"})
    with overloaded(settings, True) as client, patch.object(Batcher, "admit") as admit:
        answer = client.post("/predict", content=b"", headers=PNG | {"X-API-Key": key})
        assert answer.status_code == 401
        admit.assert_not_called()
