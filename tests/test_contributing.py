"""Workflows run commands that exist, and every command of `.ci/run`."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = content["jobs"]
    return found


def commands(workflow: Path) -> list[str]:
    return [
        step["run"] for job in jobs(workflow).values() for step in job["steps"] if "run" in step
    ]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_of_workflows_exist(workflow: Path) -> None:
    """Checks make targets and scripts of this repository."""
    for command in commands(workflow):
        program, *arguments = command.split()
        if program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True)
        elif program.startswith("."):
            assert os.access(ROOT / program, os.X_OK), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_has_a_timeout(workflow: Path) -> None:
    assert all(job["timeout-minutes"] > 0 for job in jobs(workflow).values())


def test_the_workflow_runs_every_step_of_ci_run() -> None:
    """Every change must pass `.ci/run`."""
    local = re.findall(r"^(make .*|\.ci/.*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert local
    assert set(local) <= set(commands(ROOT / ".github" / "workflows" / "ci.yml"))


def test_the_tests_run_with_the_oldest_supported_python() -> None:
    """`pyproject.toml` states the oldest version. The tests also run with a newer one."""
    versions = jobs(ROOT / ".github/workflows/ci.yml")["tests"]["strategy"]["matrix"]["python"]
    oldest = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert oldest is not None
    assert versions[0] == oldest[1]
    assert len(versions) > 1
