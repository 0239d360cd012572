"""The RayJob agrees with the command and the lock file; its pods match the schemas of Kubernetes.

There is no control plane here, and no schema of KubeRay, so the tests do not show that a cluster
accepts the RayJob.
"""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import run
from tests.server.process import ROOT

VALIDATE = ROOT / ".venv-manifests" / "bin" / "kubernetes-validate"


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    text = (ROOT / "deploy" / "kubernetes" / "rayjob.yaml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]
    return spec


@pytest.fixture(scope="module")
def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod of the head, and the pod of the workers."""
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_ray_version_is_that_of_the_lock_file(spec: dict[str, Any]) -> None:
    lock = (ROOT / "requirements" / "bulk.txt").read_text()
    assert re.findall(r"^ray==(\S+)", lock, re.MULTILINE) == [spec["rayClusterSpec"]["rayVersion"]]


def test_the_entrypoint_is_a_command_that_exists(spec: dict[str, Any]) -> None:
    """Its options exist, and there is an actor for each core of the workers."""
    words = shlex.split(spec["entrypoint"])
    assert words[:5] == ["python3", "-m", "service.cli", "bulk", "read"]
    options = {word for word in words if word.startswith("--")}
    assert options <= set(re.findall(r"--[\w-]+", run("bulk", "read", "--help").stdout.decode()))
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    cores = workers["replicas"] * int(container["resources"]["limits"]["cpu"])
    assert words[words.index("--actors") + 1] == str(cores)


def test_head_and_worker_pods_are_alike(pods: list[dict[str, Any]]) -> None:
    """Both have the image with code and model, and the variables that Ray reads at its start."""
    head, worker = ([dict(one) for one in pod["containers"]] for pod in pods)
    assert head[0]["image"] == worker[0]["image"]
    variables = {one["name"]: one["value"] for one in worker[0]["env"]}
    assert head[0]["env"] == worker[0]["env"]
    assert variables["RAY_USAGE_STATS_ENABLED"] == variables["RAY_worker_niceness"] == "0"
    folder = re.findall(r"^WORKDIR (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert folder == [variables["PYTHONPATH"]]
    assert variables["OCR_MODEL_PATH"] == f"{folder[0]}/models/captcha.onnx"


@pytest.mark.skipif(not VALIDATE.exists(), reason="kubernetes-validate is missing; make manifests")
def test_pods_match_their_schemas(pods: list[dict[str, Any]], tmp_path: Path) -> None:
    for number, pod in enumerate(pods):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(wrapped))
        done = subprocess.run(
            [str(VALIDATE), "--strict", str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
