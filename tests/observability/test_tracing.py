"""Traces are exported if the environment asks for them, and cost nothing otherwise."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import httpx2
import pytest
from fastapi.testclient import TestClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace.export import SpanExportResult

from service.api.app import create_app
from service.observability.request_timing import RequestTiming
from service.observability.tracing import Traces, asked_for
from service.ocr.recognizer import Recognizer
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import post
from tests.observability.collector import Collector, attributes, collecting
from tests.server.process import (
    ROOT,
    address_of,
    fails_to_start,
    lines_until,
    serving,
    start,
    wait,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
PARTS = ["receive", "wait", "decode", "infer", "respond"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment variables name."""
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture
def client(collector: Collector, stripe_model: Path) -> Iterator[TestClient]:
    """A client of an application that traces."""
    app = create_app(Settings(model_path=stripe_model, threads=2))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_request_to_a_real_service_is_traced(collector: Collector, stripe_model: Path) -> None:
    """Its span is below the client's span, with its parts in order. The log names the trace."""
    process = start(port=0, model_path=stripe_model, access_log=True)
    try:
        address = address_of(process)
        wait(address)
        answer = httpx2.post(
            f"{address}/predict?alphabet=abcd",
            files={"file": ("name-s3cret.png", stripes.picture("ab"))},
            headers=TRACEPARENT,
        )
        assert answer.json()["text"] == "ab"
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    (root,) = [span for span in collector.roots(1) if span.name == "POST /predict"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "captcha_ocr.model_version": "1",
    }
    parts = collector.parts(root)
    assert [part.name for part in parts] == PARTS
    moments = [moment for p in parts for moment in (p.start_time_unix_nano, p.end_time_unix_nano)]
    assert moments == sorted(moments)
    assert root.start_time_unix_nano < moments[0] < moments[-1] == root.end_time_unix_nano
    assert abs(root.end_time_unix_nano / 1e9 - time.time()) < 60
    assert all(part.trace_id == root.trace_id for part in parts)
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "captcha-ocr"
    assert not any(word in body for body in collector.bodies for word in (b"s3cret", b"alphabet"))
    lines = [json.loads(line) for line in output.splitlines()]
    (line,) = [line for line in lines if line.get("route") == "/predict"]
    assert line["trace_id"] == TRACE


def test_the_documented_command_exports_traces(collector: Collector) -> None:
    """It serves, and exports traces to the collector that it names."""
    document = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(OTEL_.*)\n```", document, re.MULTILINE)
    command = command.replace("http://localhost:4318", collector.address)
    arguments = command.replace("captcha-ocr", f"{sys.executable} -m service.cli").split()
    process = start(f"import os; os.execvp('env', {['env', *arguments]!r})", port=0)
    try:
        wait(address_of(process))
        assert collector.roots(1)[0].name == "GET /health/ready"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_every_worker_traces(
    collector: Collector, stripe_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each exports its own traces, under the service name from the environment variables."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "codes")
    with serving(model_path=stripe_model, workers=2) as address:
        picture, headers = stripes.picture("ab"), {"content-type": "image/png"}
        for _ in range(40):
            assert httpx2.post(f"{address}/predict", content=picture, headers=headers).is_success
    traced = [span for span in collector.roots(40) if span.name == "POST /predict"]
    assert len(traced) == len({span.trace_id for span in traced}) == 40
    assert {resource["service.name"] for resource in collector.resources} == {"codes"}
    assert all(len(collector.parts(span)) == len(PARTS) for span in traced)


def test_every_part_of_a_batch_is_traced(client: TestClient, collector: Collector) -> None:
    """The model reads a few pictures at a time, and each such group waits."""
    client.post("/predict/batch", files=[("files", ("x", stripes.picture("ab")))] * 6)
    (root,) = collector.roots(1)
    names = [part.name for part in collector.parts(root)]
    assert sorted(names) == sorted(["receive", *["wait", "decode", "infer"] * 2, "respond"])


def test_problems_are_traced_by_name(client: TestClient, collector: Collector) -> None:
    """Only a failure of the service is an error of the span. Text of clients is in no span."""
    client.get("/s3cret?s3cret=s3cret")
    post(client, b"no picture")
    with patch.object(Recognizer, "infer", side_effect=RuntimeError("s3cret")):
        post(client, stripes.picture("a"))
    missing, refused, failed = collector.roots(3)
    assert (missing.name, attributes(missing)["http.response.status_code"]) == ("GET", 404)
    assert attributes(refused)["captcha_ocr.reason"] == "unsupported-format"
    assert [part.name for part in collector.parts(refused)] == ["receive"]
    assert "error.type" not in attributes(refused)
    assert attributes(failed)["error.type"] == "internal-error"
    codes = [span.status.code for span in (missing, refused, failed)]
    assert codes == [Status.STATUS_CODE_UNSET] * 2 + [Status.STATUS_CODE_ERROR]
    assert not any(b"s3cret" in body for body in collector.bodies)


@pytest.mark.parametrize("given", ["", "00-xyz-1-01", "00-" + "0" * 32 + f"-{PARENT}-01", "é"])
def test_an_invalid_parent_is_ignored(given: str, client: TestClient, collector: Collector) -> None:
    """The request begins a trace of its own."""
    client.get("/model", headers={"traceparent": given.encode("latin-1")})  # type: ignore[arg-type]
    (root,) = collector.roots(1)
    assert root.parent_span_id == b""


def test_the_client_decides_what_is_sampled(client: TestClient, collector: Collector) -> None:
    """If the parent is not recorded, the request is not either, as is OpenTelemetry's default."""
    client.get("/model", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    client.get("/info")
    (root,) = collector.roots(1)
    assert root.name == "GET /info"


def test_the_service_runs_and_ends_without_its_collector(
    stripe_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log gives the error, then a request is answered, and the service ends."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    process = start(port=0, model_path=stripe_model)
    try:
        address = address_of(process)
        wait(address)
        lines_until(process, '"logger": "opentelemetry.exporter')
        assert httpx2.get(f"{address}/model", timeout=30).is_success
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def test_the_service_does_not_wait_for_a_collector_that_hangs(collector: Collector) -> None:
    """Otherwise the shutdown would take as long as the collector likes."""
    answers, exported = threading.Event(), threading.Event()

    def export(*arguments: object) -> SpanExportResult:
        answers.wait(20)
        exported.set()
        return SpanExportResult.SUCCESS

    with patch.object(OTLPSpanExporter, "export", export):
        traces = Traces()
        scope = {"type": "http", "method": "GET", "scheme": "http", "headers": []}
        traces.answered(scope, RequestTiming())
        traces.close()
        assert not exported.is_set()
        answers.set()
        assert exported.wait(20)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_traces_are_off_unless_asked_for(environment: dict[str, str]) -> None:
    """Nothing of what exports them is then imported."""
    assert not asked_for(environment)
    code = "import sys, service.server.main; service.server.main.create_app(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "service.observability.tracing" in loaded
    assert not any(name.startswith(("opentelemetry.sdk", "opentelemetry.exp")) for name in loaded)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "console")],
)
def test_unsupported_ways_to_export_are_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, one sentence names the variable, its value, and what is supported."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    status, output = fails_to_start()
    assert status == 1
    assert output.startswith(f"error: {variable} is '{value}'; traces are exported by ")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_BSP_MAX_QUEUE_SIZE", "0"), ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")],
)
def test_invalid_opentelemetry_variables_are_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, in one sentence with OpenTelemetry's own words, also with several workers."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    status, output = fails_to_start(workers=2)
    assert status == 1
    assert output.startswith("error: an OTEL_ variable is invalid: ")
    assert variable.removeprefix("OTEL_BSP_").lower() in output.lower()
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("missing", ["opentelemetry.exporter", "opentelemetry.exporter.otlp"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If traces are asked for without the exporter, the error says how to install it."""
    monkeypatch.setenv(ENDPOINT, "http://x")
    process = start(
        f"import sys; sys.modules[{missing!r}] = None; from service.server.main import main; "
        "sys.exit(main())"
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith(f"error: {ENDPOINT} is set, but the exporter of traces is not ")
    assert "pip install .[traces]" in output
    assert len(output.splitlines()) == 1
