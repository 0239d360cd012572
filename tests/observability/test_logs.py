"""What the log says about a request, and what it never says."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import httpx2
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.middleware import access_log
from service.observability.logs import JsonFormatter, log_config
from service.ocr.preprocessing import FloatArray
from service.ocr.recognizer import Recognizer
from service.runtime.batcher import Batcher, OverloadedError
from service.runtime.predictor import load_predictor
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import post
from tests.server.process import ROOT, address_of, start, until, wait, workers_of


def records(log: pytest.LogCaptureFixture, count: int) -> list[logging.LogRecord]:
    """The records of requests, once there are so many or after 10 s."""
    end = time.monotonic() + 10
    while True:
        found = [record for record in log.records if hasattr(record, "fields")]
        if len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.01)


def fields(log: pytest.LogCaptureFixture, count: int) -> list[dict[str, object]]:
    return [record.fields for record in records(log, count)]  # type: ignore[attr-defined]


def test_a_request_is_one_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the route, the status, the reason, the model, the time and the request's id."""
    caplog.set_level(logging.INFO, "service.access")
    answers = [post(client, stripes.picture("ab")), post(client, b"no"), client.get("/nothing?a")]
    lines = fields(caplog, 3)
    assert [(line["route"], line["status"], line["reason"]) for line in lines] == [
        ("/predict", 200, ""),
        ("/predict", 415, "unsupported-format"),
        ("other", 404, "not-found"),
    ]
    assert [line["request_id"] for line in lines] == [a.headers["x-request-id"] for a in answers]
    assert len({line["request_id"] for line in lines}) == 3
    for line in lines:
        assert line["model_version"] == "1"
        assert isinstance(line["ms"], float)


def test_the_method_of_the_client_is_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Although a HEAD request is handled as a GET request."""
    caplog.set_level(logging.INFO, "service.access")
    client.head("/health/live")
    client.get("/health/live")
    assert [line["method"] for line in fields(caplog, 2)] == ["HEAD", "GET"]


def test_the_time_of_a_line_is_that_of_the_answer(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Although the line is written a little later."""
    caplog.set_level(logging.INFO, "service.access")
    asked = time.time()
    post(client, stripes.picture("ab"))
    answered = time.time()
    (record,) = records(caplog, 1)
    assert asked < record.created < answered


def test_the_model_that_answered_is_logged(
    client: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if another model takes its place before the request ends."""
    caplog.set_level(logging.INFO, "service.access")
    model = stripes.write_model(tmp_path / "newer.onnx", version="2")
    newer = load_predictor(Settings(model_path=model))
    infer = Recognizer.infer

    def switching(recognizer: Recognizer, tensors: FloatArray) -> FloatArray:
        client.app.state.engine.switch(newer)  # type: ignore[attr-defined]
        return infer(recognizer, tensors)

    with patch.object(Recognizer, "infer", switching):
        answer = post(client, stripes.picture("ab"))
    later = post(client, stripes.picture("ab"))
    answered = [one.json()["model"]["version"] for one in (answer, later)]
    assert [line["model_version"] for line in fields(caplog, 2)] == answered == ["1", "2"]


def test_the_last_lines_before_shutdown_name_the_model(
    stripe_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even those of requests that need no model."""
    caplog.set_level(logging.INFO, "service.access")
    with TestClient(create_app(Settings(model_path=stripe_model))) as client:
        client.get("/nothing")
    assert [line["model_version"] for line in fields(caplog, 1)] == ["1"]


@pytest.mark.parametrize("given", ["a", "Root=1-67-ab/c:d@e.f_g", "x" * 128])
def test_a_valid_request_id_is_kept(given: str, client: TestClient) -> None:
    """A client finds its own id in the answer."""
    assert client.get("/model", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a\tb", "é".encode("latin-1")])
def test_an_invalid_request_id_is_replaced(given: str | bytes, client: TestClient) -> None:
    """An id that could break or fill the log is not logged."""
    answer = client.get("/model", headers={"X-Request-ID": given})  # type: ignore[arg-type]
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


def test_an_internal_error_has_a_request_id(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The id in the answer is that of the line in the log."""
    caplog.set_level(logging.INFO, "service.access")
    with patch.object(Recognizer, "infer", side_effect=RuntimeError("secret")):
        answer = post(client, stripes.picture("a"), headers={"X-Request-ID": "mine"})
    assert answer.status_code == 500
    assert answer.headers.get_list("x-request-id") == ["mine"]
    (line,) = fields(caplog, 1)
    assert (line["request_id"], line["status"], line["reason"]) == ("mine", 500, "internal-error")


def test_nothing_private_is_logged(stripe_model: Path) -> None:
    """Neither the picture nor its file name, the query, an unknown path, or the key."""
    process = start(port=0, model_path=stripe_model, api_keys="shop:key-s3cret", access_log=True)
    try:
        address = address_of(process)
        wait(address)
        httpx2.post(
            f"{address}/predict?alphabet=abcd",
            files={"file": ("name-s3cret.png", stripes.picture("ab"))},
            headers={"X-API-Key": "key-s3cret"},
        )
        httpx2.get(f"{address}/s3cret?s3cret=s3cret")
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    lines = [json.loads(line) for line in output.splitlines()]
    requests = [line for line in lines if line["logger"] == "service.access"]
    assert ("/predict", 200) in [(line["route"], line["status"]) for line in requests]
    assert ("other", 404) in [(line["route"], line["status"]) for line in requests]
    assert "s3cret" not in output
    assert "alphabet" not in output
    assert [(line["key"], line["client"]) for line in requests if line["route"] == "/predict"] == [
        ("shop", "127.0.0.1")
    ]


@pytest.mark.parametrize(
    ("trusted", "forwarded", "logged"),
    [
        ("", "203.0.113.7", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.7", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "192.0.2.1, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.0/8, 203.0.113.7", "192.0.2.1, 203.0.113.7", "192.0.2.1"),
        ("*", "2001:db8::1", "2001:db8::1"),
        ("*", "192.0.2.1, 203.0.113.7", "203.0.113.7"),
        ("*", "no address, at all", ""),
        ("127.0.0.0/8", "192.0.2.1" + ", 127.0.0.1" * 90, "192.0.2.1"),
        ("127.0.0.0/8", "192.0.2.1" + ", 127.0.0.1" * 1000, "127.0.0.1"),
    ],
)
def test_the_address_of_the_client_is_logged(
    trusted: str, forwarded: str, logged: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Trusted proxies give it in X-Forwarded-For. From others, this header is ignored."""
    caplog.set_level(logging.INFO, "service.access")
    settings = settings.model_copy(update={"trusted_proxies": trusted})
    with TestClient(create_app(settings), client=("127.0.0.1", 5)) as client:
        client.get("/health/live", headers={"X-Forwarded-For": forwarded})
    assert [line["client"] for line in fields(caplog, 1)] == [logged]


def test_if_every_proxy_is_trusted_the_last_field_counts(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy may add a header field to those that the client sends."""
    caplog.set_level(logging.INFO, "service.access")
    settings = settings.model_copy(update={"trusted_proxies": "*"})
    sent = [("X-Forwarded-For", value) for value in ("192.0.2.1, 192.0.2.2", "203.0.113.7")]
    with TestClient(create_app(settings), client=("127.0.0.1", 5)) as client:
        client.get("/health/live", headers=sent)
    assert [line["client"] for line in fields(caplog, 1)] == ["203.0.113.7"]


@pytest.mark.parametrize(
    ("peer", "logged"),
    [
        ("::ffff:10.1.2.3", "192.0.2.7"),
        ("::ffff:11.1.2.3", "::ffff:11.1.2.3"),
        ("10.1.2.3", "192.0.2.7"),
    ],
)
def test_a_proxy_is_trusted_in_both_forms_of_its_address(
    peer: str, logged: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """With `OCR_HOST=::` it has an IPv6 address, and another proxy may list it with one."""
    caplog.set_level(logging.INFO, "service.access")
    settings = settings.model_copy(update={"trusted_proxies": "10.0.0.0/8, 127.0.0.1"})
    with TestClient(create_app(settings), client=(peer, 5)) as client:
        forwarded = {"X-Forwarded-For": "192.0.2.7, ::ffff:127.0.0.1"}
        client.get("/health/live", headers=forwarded)
    assert [line["client"] for line in fields(caplog, 1)] == [logged]


def test_text_lines_have_times(stripe_model: Path) -> None:
    """The line of a request also has the client and the name of its key."""
    process = start(
        port=0, model_path=stripe_model, api_keys="shop:s3cret", log_format="text", access_log=True
    )
    try:
        address = address_of(process)
        headers = {"X-API-Key": "s3cret", "Content-Type": "image/png"}
        httpx2.post(f"{address}/predict", content=stripes.picture("a"), headers=headers)
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    time_of_day = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "
    assert all(re.match(time_of_day, line) for line in output.splitlines()), output
    assert re.search(r"POST /predict 200 .* 127\.0\.0\.1 shop [0-9a-f]{16} model 1$", output, re.M)


def test_the_access_log_can_be_switched_off(
    stripe_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers still have a request id."""
    caplog.set_level(logging.INFO, "service.access")
    with TestClient(create_app(Settings(model_path=stripe_model, access_log=False))) as client:
        assert client.get("/model").headers["x-request-id"]
    assert fields(caplog, 0) == []


def test_a_flood_of_refusals_is_summed_up(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal has a line of its own or is counted in one. Every other request has its line."""
    caplog.set_level(logging.INFO, "service.access")
    monkeypatch.setattr(access_log, "_REFUSALS_LOGGED", 1)
    with patch.object(Batcher, "admit", side_effect=OverloadedError(1)):
        for _ in range(40):
            assert post(client, stripes.picture("a")).status_code == 503
    assert post(client, stripes.picture("a")).status_code == 200

    def counts() -> tuple[int, int]:
        alone = [one for one in records(caplog, 1) if one.fields["status"] == 503]  # type: ignore[attr-defined]
        more = re.findall(r"(\d+) more requests were refused in a second: overloaded", caplog.text)
        return len(alone), sum(map(int, more))

    until(lambda: sum(counts()) == 40, "all refusals are counted")
    assert 0 < counts()[0] < 40
    assert [line["status"] for line in fields(caplog, 2)][-1] == 200


def test_an_exception_is_one_line_of_json() -> None:
    """The traceback is a member, so that collectors of lines get it."""
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "it failed"
    assert json.loads(line)["exception"].endswith("ValueError: why")


def test_the_parser_of_uploads_logs_no_lines_of_its_own(stripe_model: Path) -> None:
    """Its errors are in the answer, and the request is one line."""
    process = start(port=0, model_path=stripe_model, access_log=True)
    try:
        address = address_of(process)
        answer = httpx2.post(
            f"{address}/predict",
            content=b"--BX\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=B"},
        )
        assert 400 <= answer.status_code < 500
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    loggers = {json.loads(line)["logger"] for line in output.splitlines()}
    assert "service.access" in loggers
    assert all(name.startswith(("service", "uvicorn")) for name in loggers)


def test_the_log_is_text_on_a_terminal_and_json_elsewhere() -> None:
    """People read lines, programs JSON; a setting gives either anywhere."""
    show = (
        "import logging.config as c; from service.observability.logs import log_config;"
        "from service.settings import Settings; c.dictConfig(log_config(Settings())); "
        "c.logging.getLogger('service').info('hello')"
    )
    readable, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", show], cwd=ROOT, stderr=terminal, check=True)
    assert "hello" in (text := os.read(readable, 1000).decode())
    assert "{" not in text
    os.close(readable)
    os.close(terminal)
    piped = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(piped.stderr)["message"] == "hello"
    text_anywhere = log_config(Settings(log_format="text"))["formatters"]["default"]
    assert text_anywhere != log_config(Settings(log_format="json"))["formatters"]["default"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_log_is_complete_at_shutdown(workers: int, stripe_model: Path) -> None:
    """It has the last line, and the request before it. A signal ends the process."""
    process = start(port=0, model_path=stripe_model, workers=workers, access_log=True)
    try:
        wait(address := address_of(process))
        # A worker that ends before it serves does not log its end.
        until(lambda: len(workers_of(address)) == workers, "all workers answer")
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    messages = [json.loads(line).get("message", "a request") for line in output.splitlines()]
    assert sum(text.startswith("Finished server process") for text in messages) == workers
    assert "a request" in messages
