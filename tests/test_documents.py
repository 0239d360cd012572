"""The files, headings, make targets and options that documents name exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path
    for pattern in ("*.md", ".github/*.md", "client/*.md", "docs/*.md", "models/*.md")
    for path in sorted(ROOT.glob(pattern))
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

for_every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@for_every_document
def test_links_lead_to_existing_files_and_headings(document: Path) -> None:
    """Checks links to files of the repository and to headings in them; skips links to the web."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', text):
        target, _, anchor = "".join(link).partition("#")
        if target.startswith(("http://", "https://")):
            continue
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


@for_every_document
def test_make_targets_in_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`|&& )make ([a-z][a-z-]*)", text, re.MULTILINE)) <= TARGETS


@pytest.mark.parametrize("target", ["train", "synthetic"])
def test_options_of_training_in_documents_exist(target: str) -> None:
    """Checks the options that documents pass in `ARGS`."""
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    given = re.findall(rf'make {target}(?: [A-Z]+=\S+)* ARGS="(.*?)"', text)
    options = {option for arguments in given for option in re.findall(r"--[\w.-]+", arguments)}
    listed: set[str] = set()
    for listing in ("--help", "--settings"):  # `train` may list rare options separately
        done = subprocess.run(
            ["make", target, "OUT=unused", f"ARGS={listing}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        listed |= set(re.findall(r"--[\w.-]+", done.stdout))
    assert options
    assert options <= listed


def test_paths_in_the_guide_for_contributors_exist() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`(\.?[\w-]+(?:/[\w.-]*)+|[\w-]+\.(?:cff|md|toml|yml))`", guide))
    assert {"service/settings.py", "tests/stripes.py", ".ci/run", "pyproject.toml"} <= paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_all_files_state_the_same_version() -> None:
    """In service, client, changelog, citation, image and Kubernetes manifest."""
    wanted = {
        "service/__init__.py": r'__version__ = "(.*)"',
        "client/pyproject.toml": r'^version = "(.*)"',
        "CHANGELOG.md": r"^## \[(\d.*?)\]",
        "CITATION.cff": r"^version: (.*)",
        "Dockerfile": r'image\.version="(.*)"',
        "deploy/kubernetes/base/kustomization.yaml": r"newTag: (.*)",
    }
    found = {}
    for file, pattern in wanted.items():
        match = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        found[file] = match and match[1]
    assert len(set(found.values())) == 1, found


def test_ci_scripts_are_valid_bash() -> None:
    for script in (ROOT / ".ci").iterdir():
        subprocess.run(["bash", "-n", script], check=True)
