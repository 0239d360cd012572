"""The manifests can be rendered, match their schemas, and agree with each other and the service.

There is no control plane here, so the tests do not show that a cluster accepts the manifests.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from service.settings import Settings
from tests.server.process import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
KUBECTL, VALIDATE = (
    ROOT / ".venv-manifests" / "bin" / name for name in ("kubectl", "kubernetes-validate")
)

pytestmark = pytest.mark.skipif(
    not (KUBECTL.exists() and VALIDATE.exists()),
    reason="kubectl and kubernetes-validate are missing; make manifests",
)


def rendered(overlay: str) -> dict[str, dict[str, Any]]:
    """The objects of an overlay by kind."""
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(FOLDER / overlay)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    by_kind = {one["kind"]: one for one in objects}
    assert len(by_kind) == len(objects)
    return by_kind


@pytest.fixture(scope="module")
def base() -> dict[str, dict[str, Any]]:
    return rendered("base")


def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("overlay", ["base", "keda"])
def test_objects_match_their_schemas(overlay: str, tmp_path: Path) -> None:
    """No field is unknown. The schemas of Kubernetes do not cover the objects of KEDA."""
    objects = [one for kind, one in rendered(overlay).items() if kind != "ScaledObject"]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = subprocess.run(
        [str(VALIDATE), "--strict", str(file)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count(" passed ") == len(objects)


def test_every_selector_matches_the_pods(base: dict[str, dict[str, Any]]) -> None:
    """An empty selector would mean all pods of the namespace, or none."""
    labels = base["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        base["Service"]["spec"]["selector"],
        base["Deployment"]["spec"]["selector"]["matchLabels"],
        base["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        base["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod(base)["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 6
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_the_service_object_sets_no_setting_by_its_name(base: dict[str, dict[str, Any]]) -> None:
    """Kubernetes names environment variables in other pods after a Service."""
    name = base["Service"]["metadata"]["name"]
    assert not f"{name.upper().replace('-', '_')}_PORT".startswith("OCR_")
    assert pod(base)["enableServiceLinks"] is False


def test_the_config_map_has_only_settings_of_the_service(base: dict[str, dict[str, Any]]) -> None:
    names = {f"OCR_{name.upper()}" for name in Settings.model_fields}
    assert base["ConfigMap"]["data"].keys() <= names
    (container,) = pod(base)["containers"]
    given = container["envFrom"][0]["configMapRef"]["name"]
    assert given == base["ConfigMap"]["metadata"]["name"]


def test_a_pod_has_enough_time_to_end(base: dict[str, dict[str, Any]]) -> None:
    """The grace period covers the sleep, the drain and the shutdown, as configured."""
    (container,) = pod(base)["containers"]
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    settings = base["ConfigMap"]["data"]
    ends = float(settings["OCR_DRAIN_SECONDS"]) + float(settings["OCR_SHUTDOWN_SECONDS"])
    assert pod(base)["terminationGracePeriodSeconds"] >= sleep + ends


def test_a_pod_has_enough_time_to_start(base: dict[str, dict[str, Any]]) -> None:
    """At least as long as the service gives a worker."""
    (container,) = pod(base)["containers"]
    probe = container["startupProbe"]
    seconds = probe["periodSeconds"] * probe["failureThreshold"]
    assert seconds >= Settings.model_fields["worker_start_seconds"].default
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_keda_queries_a_metric_that_exists(client: TestClient) -> None:
    """KEDA is also the only autoscaler."""
    objects = rendered("keda")
    assert "HorizontalPodAutoscaler" not in objects
    spec = objects["ScaledObject"]["spec"]
    assert spec["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    (query,) = [one["metadata"]["query"] for one in spec["triggers"] if one["type"] == "prometheus"]
    asked = set(re.findall(r"captcha_ocr_\w+", query))
    assert asked
    samples = client.get("/metrics").text.splitlines()
    assert asked <= {sample.split()[0] for sample in samples}
