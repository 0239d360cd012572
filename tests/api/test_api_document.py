"""The running service does what docs/api.md says."""

import json
import re
import subprocess

from service.api import errors
from service.api.errors import Kind
from service.api.schemas import Prediction
from tests.server.process import ROOT, serving

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_commands_in_the_document_get_the_documented_answers() -> None:
    """All ways to send one picture get the same answer. A batch has one result for each picture."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    with serving(model_path=ROOT / "models" / "captcha.onnx") as address:
        scripts = [command.replace("http://localhost:8000", address) for command in commands]
        answers = [
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=ROOT, capture_output=True, check=True,
            ).stdout
            for script in scripts
        ]  # fmt: skip
    *single, batch = map(json.loads, answers)
    assert len(single) == 4
    assert all(answer == single[0] for answer in single)
    assert single[0]["text"] == "bndyp"
    first, second = batch["answers"]
    assert (first["prediction"]["text"], first["problem"]) == ("bndyp", None)
    assert (second["prediction"], second["problem"]["status"]) == (None, 415)


def test_the_table_lists_exactly_the_members_of_an_answer() -> None:
    section = DOCUMENT.partition("| member |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Prediction.model_fields)


def test_the_table_lists_exactly_the_kinds_of_problems() -> None:
    """Each kind has its HTTP status."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, Kind)]
    known = [(kind.name, str(kind.status)) for kind in kinds]
    assert sorted(rows) == sorted(known)
