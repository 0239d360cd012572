"""What contributors are told, and what checks their changes, exists."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
)["jobs"]


def run_by(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def knows(target: str) -> bool:
    """Whether make has a rule for a target; nothing is done for it."""
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 0


def test_the_workflow_runs_what_a_change_must_pass() -> None:
    """Every step of `.ci/run` is in a job, and nothing that could not be run here."""
    steps = [command for job in JOBS.values() for command in run_by(job)]
    local = re.findall(r"^(make .*|\.ci/.*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert local
    assert set(local) <= set(steps)
    for command in steps:
        program, *arguments = command.split()
        if program == "make":
            assert all(knows(target) for target in arguments), command
        else:
            assert os.access(ROOT / program, os.X_OK), command
    assert not knows("no-such-target")


def test_the_workflow_pins_its_actions() -> None:
    """By major version, and every job checks the code out first and ends by itself."""
    for job in JOBS.values():
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert uses[0].startswith("actions/checkout@")
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in uses)
        assert job["timeout-minutes"] > 0


def test_the_tests_run_with_the_oldest_python() -> None:
    """The one that `pyproject.toml` promises, and a newer one; as text, for 3.10 is not 3.1."""
    versions = JOBS["tests"]["strategy"]["matrix"]["python"]
    oldest = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert oldest is not None
    assert versions[0] == oldest[1]
    assert len(versions) > 1


def test_what_the_guide_names_exists() -> None:
    """Files, folders and make targets."""
    names = set(re.findall(r"`(\.?[\w-]+(?:/[\w.-]*)+|[\w-]+\.(?:md|toml))`", GUIDE))
    assert {"service/ocr/", "tests/stripes.py", ".ci/run", "pyproject.toml"} <= names
    assert [name for name in names if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"make ([a-z-]+)", "\n".join(re.findall(r"`(make .*?)`", GUIDE))))
    assert {"test", "lint", "lock"} <= targets
    assert all(knows(target) for target in targets)


@pytest.mark.parametrize("command", re.findall(r"^make .*$", GUIDE, re.MULTILINE))
def test_the_commands_of_the_guide_are_right(command: str) -> None:
    """Make knows them, and their arguments are tests."""
    done = subprocess.run(
        f"{command} --dry-run", shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for path in re.findall(r"tests/\w+", command):
        assert (ROOT / path).is_dir()
