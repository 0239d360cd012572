"""The configuration of Prometheus and Grafana, tested with a real Prometheus."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests import stripes
from tests.server.process import ROOT, serving

FOLDER = ROOT / "observability"
DASHBOARD = json.loads(
    (FOLDER / "grafana" / "dashboards" / "captcha-ocr.json").read_text(encoding="utf-8")
)
EXPRESSIONS = [
    (panel["title"], target["legendFormat"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
TIMEOUT_SECONDS = 60

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool"))
    and os.environ.get("CI_PROMETHEUS") != "1",
    reason="prometheus and promtool are not installed; apt-get install prometheus",
)


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@needs_prometheus
def test_configuration_and_alerts_are_valid() -> None:
    """Every alert fires when it should, and none if all is well or nobody sends requests."""
    promtool("check", "config", "observability/prometheus.yml")
    promtool("test", "rules", "tests/observability/alerts.yml")
    tests = yaml.safe_load((ROOT / "tests/observability/alerts.yml").read_text())["tests"]
    tried = [{each["alertname"] for each in test["alert_rule_test"]} for test in tests]
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    assert all(names == {rule["alert"] for rule in group["rules"]} for names in tried)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a Prometheus that scrapes a service with two workers, which is in use."""
    folder = tmp_path_factory.mktemp("prometheus")
    model = stripes.write_model(folder / "model.onnx")
    with serving(model_path=model, workers=2, max_upload_bytes=10_000) as service:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / "alerts.yml")]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [service.split("//")[1]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            with httpx2.Client(base_url=f"http://{address}", timeout=10) as client:
                use_until_scraped(client, service, folder / "log")
                yield client
        finally:
            process.terminate()
            process.wait(timeout=30)


def use_until_scraped(client: httpx2.Client, service: str, log: Path) -> None:
    """Sends requests with several outcomes until Prometheus knows their rates."""
    kind = {"content-type": "image/png"}
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        for body in (stripes.picture("abc"), b"no picture", bytes(20_000)):
            httpx2.post(f"{service}/predict", content=body, headers=kind)
        if is_ready(client) and query(client, "sum(rate(captcha_ocr_confidence_count[20s])) > 0"):
            return
        time.sleep(0.2)
    raise AssertionError(f"nothing was scraped: {log.read_text()[-2000:]}")


def is_ready(client: httpx2.Client) -> bool:
    """Whether this Prometheus answers queries; while it starts, it answers 503 as text."""
    try:
        return client.get("/-/ready").status_code == 200
    except httpx2.TransportError:
        return False


def query(client: httpx2.Client, expression: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


@needs_prometheus
def test_the_service_is_scraped(prometheus: httpx2.Client) -> None:
    """The target is up, both workers are counted, and refusals have their reasons."""
    assert [row["value"][1] for row in query(prometheus, "up")] == ["1"]
    assert [row["value"][1] for row in query(prometheus, "captcha_ocr_workers")] == ["2"]
    reasons = query(prometheus, 'captcha_ocr_requests_total{route="/predict"}')
    assert {row["metric"].get("reason", "") for row in reasons} == {
        "",
        "unsupported-format",
        "upload-too-large",
    }


@needs_prometheus
@pytest.mark.parametrize(("panel", "legend", "expression"), EXPRESSIONS)
def test_a_panel_shows_data(
    panel: str, legend: str, expression: str, prometheus: httpx2.Client
) -> None:
    """The dashboard's query gives numbers, with the labels that its legend names."""
    rows = query(prometheus, expression.replace("$__rate_interval", "20s"))
    assert rows
    for row in rows:
        assert row["value"][1] != "NaN"
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= set(row["metric"]) | {"reason"}


@needs_prometheus
def test_the_alerts_are_evaluated(prometheus: httpx2.Client) -> None:
    """Prometheus accepts every rule, and no alert fires for a healthy service."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        (group,) = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        if all(rule["health"] == "ok" for rule in group["rules"]):
            break
        time.sleep(0.2)
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert {rule["state"] for rule in group["rules"]} == {"inactive"}


def test_files_that_compose_mounts_exist() -> None:
    """Services other than `captcha-ocr` start only with the profile `observability`."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        mounts = [volume.split(":")[0] for volume in service["volumes"]]
        assert all((ROOT / mount).exists() for mount in mounts if mount.startswith("."))
        assert ("observability" in service.get("profiles", [])) == (name != "captcha-ocr")


def test_dashboard_and_alerts_use_existing_metrics() -> None:
    """Each of their metrics is in the table of docs/operations.md."""
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `(captcha_ocr_\w+)` \|", table, re.MULTILINE))
    alerts = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    asked = re.findall(r"captcha_ocr_\w+", alerts + "".join(e for _, _, e in EXPRESSIONS))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked} <= known
