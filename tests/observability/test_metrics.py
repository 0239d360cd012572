"""The metrics that Prometheus gets, of one process and of several."""

import inspect
import pkgutil
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import pytest
from fastapi.testclient import TestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.api.app import create_app
from service.observability.metrics import Metrics, Snapshot, merge
from service.runtime.batcher import Batcher, OverloadedError
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import post
from tests.server.process import replace, until

ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def value(text: str, metric: str, /, **labels: str) -> float:
    """The sum of the samples of that name with at least these labels."""
    return sum(
        sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name == f"captcha_ocr_{metric}" and labels.items() <= sample.labels.items()
    )


def scrape(client: TestClient) -> str:
    return client.get("/metrics").text


def test_answers_are_counted_by_route_status_and_reason(client: TestClient) -> None:
    """Every answer counts, whichever part gives it. Text that a client invents is never a label."""
    post(client, stripes.picture("ab"))
    post(client, b"no picture", params={"alternatives": 1})
    post(client, stripes.picture("ab"), params={"alternatives": 99})
    client.get("/nothing?secret")
    client.post("/v2/models/nothing/infer")
    with patch.object(Batcher, "admit", side_effect=OverloadedError(1)):
        client.post("/v2/models/stripes/infer")
    client.get("/predict")
    client.get("/model")
    text = scrape(client)
    for route, status, reason in (
        ("/predict", "200", ""),
        ("/predict", "415", "unsupported-format"),
        ("/predict", "422", "invalid-parameter"),
        ("/predict", "405", "method-not-allowed"),
        ("other", "404", "not-found"),
        ("/model", "200", ""),
        ("/v2/models/{name}/infer", "404", "no-such-model"),
        ("/v2/models/{name}/infer", "503", "overloaded"),
    ):
        labels = {"route": route, "status": status, "reason": reason}
        assert value(text, "requests_total", **labels) == 1, labels
    assert value(text, "requests_total") == 8
    assert value(text, "request_seconds_count", route="/predict") == 4
    assert "secret" not in text


def test_readings_are_measured(client: TestClient) -> None:
    """Size, confidence, length and parts of the time, of single pictures and of batches."""
    picture = stripes.picture("abc")
    post(client, picture)
    answer = client.post("/predict/batch", files=[("files", ("x", d)) for d in (picture, b"no")])
    assert answer.status_code == 200
    text = scrape(client)
    assert value(text, "picture_bytes_sum") == 2 * len(picture)
    pixels = stripes.draw("abc").width * stripes.HEIGHT
    assert value(text, "picture_pixels_sum") == 2 * pixels
    assert value(text, "confidence_count") == 2
    assert value(text, "confidence_sum") == pytest.approx(2, abs=0.02)
    assert value(text, "text_length_bucket", le="2.0") == 0
    assert value(text, "text_length_bucket", le="3.0") == 2
    for part in ("receive", "decode", "infer", "respond"):
        assert value(text, "request_part_seconds_count", part=part) == 2
    for part in ("wait", "read"):  # the batch is shared by two threads
        assert value(text, "request_part_seconds_count", part=part) == 3
    assert value(text, "in_flight") == value(text, "queue_depth") == 0
    assert value(text, "workers") == value(text, "worker_starts_total") == 1


def test_requests_and_pictures_are_counted_by_the_name_of_the_key(settings: Settings) -> None:
    """Never by the key itself, and not at all if there are no keys."""
    settings = settings.model_copy(update={"api_keys": "shop:s3cret,other"})
    with TestClient(create_app(settings)) as client:
        files = [("files", ("x", stripes.picture("ab")))] * 3
        client.post("/predict/batch", files=files, headers={"X-API-Key": "s3cret"})
        post(client, b"no picture", headers={"X-API-Key": "s3cret"})
        post(client, stripes.picture("ab"), headers={"X-API-Key": "other"})
        post(client, stripes.picture("ab"), headers={"X-API-Key": "wrong"})
        text = scrape(client)
    assert value(text, "key_requests_total", key="shop", status="200") == 1
    assert value(text, "key_requests_total", key="shop", status="415") == 1
    assert value(text, "key_requests_total", key="key-2", status="200") == 1
    assert value(text, "key_requests_total") == 3
    assert value(text, "key_pictures_total", key="shop") == 4
    assert "s3cret" not in text
    with TestClient(create_app(settings.model_copy(update={"api_keys": ""}))) as client:
        post(client, stripes.picture("ab"))
        assert value(scrape(client), "key_requests_total") == 0


@pytest.mark.parametrize(
    ("slow", "part"),
    [
        ("service.api.handlers.read_picture", "receive"),
        ("service.ocr.recognizer.to_model_input", "decode"),
        ("service.ocr.decoding.decoder.Decoder.decode", "respond"),
    ],
)
def test_time_is_counted_in_the_part_that_takes_it(
    slow: str, part: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes in one part. All parts together are within the time of the request."""
    hour, passed, clock = 3600, 0, time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + passed)
    owner, _, name = slow.rpartition(".")
    holder = pkgutil.resolve_name(owner)
    function = getattr(holder, name)

    def slowly(*arguments: object, **options: object) -> object:
        nonlocal passed
        passed += hour
        return function(*arguments, **options)

    async def slowly_awaited(*arguments: object, **options: object) -> object:
        return await slowly(*arguments, **options)  # type: ignore[misc]

    awaited = inspect.iscoroutinefunction(function)
    monkeypatch.setattr(holder, name, slowly_awaited if awaited else slowly)
    post(client, stripes.picture("ab"))
    text = scrape(client)
    seconds = {
        each: value(text, "request_part_seconds_sum", part=each)
        for each in ("receive", "wait", "decode", "infer", "respond")
    }
    assert [each for each in seconds if seconds[each] >= hour] == [part]
    whole = value(text, "request_seconds_sum", route="/predict")
    assert sum(seconds.values()) < whole


def test_a_refused_picture_is_measured_only_until_it_is_refused(client: TestClient) -> None:
    """Later parts get neither a substitute nor the times of the picture before it."""
    post(client, stripes.picture("ab"))
    for picture in (b"no picture", stripes.picture("ab")[:40]):
        post(client, picture)
        client.post("/predict/batch", files=[("files", ("x", picture))])
    text = scrape(client)
    for part in ("decode", "infer", "respond"):
        assert value(text, "request_part_seconds_count", part=part) == 1
    assert value(text, "request_part_seconds_count", part="receive") == 5


def test_reloads_are_counted(tmp_path: Path) -> None:
    """The served model is named. A model that fails its check is counted and flagged."""
    model = stripes.write_model(tmp_path / "model.onnx")
    settings = Settings(model_path=model, reload_seconds=0.05)
    with TestClient(create_app(settings)) as client:
        assert value(scrape(client), "model_info", name="stripes", version="1") == 1
        replace(model, version="2")
        until(
            lambda: value(scrape(client), "model_info", version="2") == 1, "the new model is served"
        )
        assert value(scrape(client), "model_info", version="1") == 0
        assert value(scrape(client), "reloads_total") == 1
        model.write_bytes(b"broken")
        until(lambda: value(scrape(client), "reload_failures_total") >= 1, "the failure is counted")
        assert value(scrape(client), "reload_failed") == 1
        replace(model, version="3")
        until(lambda: value(scrape(client), "reload_failed") == 0, "the flag is cleared")


def test_applications_count_separately(settings: Settings) -> None:
    """Two applications in one process share no counts."""
    with TestClient(create_app(settings)) as one, TestClient(create_app(settings)) as other:
        post(one, stripes.picture("ab"))
        assert value(scrape(one), "confidence_count") == 1
        assert value(scrape(other), "confidence_count") == 0


def test_the_process_is_measured(client: TestClient) -> None:
    """Its memory, CPU time and files, under the names that all Prometheus clients use."""
    text = scrape(client)
    samples = {one.name: one.value for family in families(text) for one in family.samples}
    assert samples["process_resident_memory_bytes"] > 1 << 20
    assert samples["process_cpu_seconds_total"] > 0
    assert 0 < samples["process_open_fds"] < samples["process_max_fds"]


def test_metrics_of_processes_are_merged() -> None:
    """CPU time still counts when a worker has ended. The start is that of the youngest process."""
    one, other = (Metrics().snapshot() for _ in range(2))
    start = "process_start_time_seconds"
    (metric,) = (metric for metric in other if metric.name == start)
    metric.samples = [metric.samples[0]._replace(value=metric.samples[0].value + 1)]

    def sample(snapshot: Snapshot, name: str) -> float:
        return next(
            each.value for metric in snapshot for each in metric.samples if each.name == name
        )

    both, ended = merge([one, other]), merge([one], ended=True)
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        assert sample(both, name) == pytest.approx(sample(one, name) + sample(other, name))
    assert sample(both, start) == sample(other, start) == sample(one, start) + 1
    assert {metric.name for metric in ended if metric.name.startswith("process")} == {
        "process_cpu_seconds"
    }


def test_one_thread_at_a_time_makes_an_exposition() -> None:
    """Scrapes wait for each other, so that other threads do not wait for them."""
    ready, making = threading.Barrier(8), 0
    seen: list[int] = []

    def others() -> Snapshot:
        nonlocal making
        making += 1
        seen.append(making)
        time.sleep(0.05)  # for the other threads to come, which are all ready
        making -= 1
        return []

    metrics = Metrics(others)

    def scraped(_: int) -> bytes:
        ready.wait(60)
        return metrics.exposition()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(scraped, range(8)))
    assert seen == [1] * 8


def test_waiting_scrapes_share_the_next_exposition() -> None:
    """It is as new as each scrape, and a hundred scrapes do not wait for a hundred expositions."""
    writing, go_on = threading.Event(), threading.Event()
    begun: list[float] = []

    def others() -> Snapshot:
        begun.append(time.monotonic())
        writing.set()
        go_on.wait(60)
        return []

    metrics = Metrics(others)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(metrics.exposition, time.monotonic())
        writing.wait(60)
        asked = time.monotonic()
        waiting = [threads.submit(metrics.exposition, asked) for _ in range(100)]
        go_on.set()
        assert all(one.result() for one in [first, *waiting])
    assert len(begun) == 2
    assert begun[1] >= asked
    metrics.exposition(time.monotonic())
    assert len(begun) == 3


def test_every_metric_is_in_the_table() -> None:
    """The table of docs/operations.md has each metric with its type, and no other metric."""
    document = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:captcha_ocr_)?(\w+)` \| (\w+) \|", document, re.MULTILINE)
    described = [
        (family.name.removeprefix("captcha_ocr_") + "_total" * (family.type == "counter"),
         family.type)
        for family in families(Metrics().exposition().decode())
    ]  # fmt: skip
    assert sorted(rows) == sorted(described)
