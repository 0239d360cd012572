"""The headers of a client's trace (W3C Trace Context, and Baggage), which may be malformed."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.observability.collector import Collector, collecting
from tests.server.process import address_of, start, wait

PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
BAGGAGE = [{"baggage": "s3cret=" + "x" * 8500}, {"baggage": ",".join(["s3cret"] * 200)}]
MALFORMED = [
    *BAGGAGE,
    {"traceparent": "s3cret" * 100},
    PARENT | {"tracestate": "s3cret=" + "x" * 8500},
    PARENT | {"tracestate": ",".join(f"s3cret{i}=1" for i in range(40))},
    PARENT | {"tracestate": "s3cret=1,s3cret=2"},
    PARENT | {"tracestate": "S3CRET=1"},
]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment variables name."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        yield collector


def test_malformed_headers_are_not_logged(collector: Collector, stripe_model: Path) -> None:
    """Nobody who reads the log could correct them. The requests are traced nevertheless."""
    process = start(port=0, model_path=stripe_model)
    try:
        wait(address := address_of(process))
        for headers in MALFORMED:
            assert httpx2.get(f"{address}/model", headers=headers).is_success
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    traced = [span for span in collector.spans if span.name == "GET /model"]
    assert len(traced) == len(MALFORMED)
    assert "s3cret" not in output.lower()
    loggers = [json.loads(line)["logger"] for line in output.splitlines()]
    assert not [name for name in loggers if name.startswith("opentelemetry")]


def test_baggage_is_not_read(
    collector: Collector, stripe_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The service does not use it, and so does not complain of it."""
    with TestClient(create_app(Settings(model_path=stripe_model))) as client:
        for headers in BAGGAGE:
            client.get("/model", headers=headers)
    assert len(collector.roots(len(BAGGAGE))) == len(BAGGAGE)
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]
