"""Writes the packages of the image to `build/sbom.cdx.json` (CycloneDX) and `docs/licences.md`.

The command installs the packages of the service in a virtual environment, as the Dockerfile does.
cyclonedx-py reads what the packages declare.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from service import __version__

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "service.txt"
DOCUMENT = ROOT / "docs" / "licences.md"
_SBOM = ROOT / "build" / "sbom.cdx.json"
_UV = (sys.executable, "-m", "uv")
_TOOL = ("tool", "run", "--quiet", "--from", "cyclonedx-bom>=7.5,<8", "cyclonedx-py")

_PAGE = """# Licences

captcha-ocr is under the [MIT licence](../LICENSE). The service installs these packages. `make sbom`
writes this table from what they declare, and `build/sbom.cdx.json`, a software bill of materials in
the format of CycloneDX, which is also attached to every release.

| package | version | licence |
|---|---|---|
{rows}
Some packages hold works of others:

- fastapi-offline holds Swagger UI, Apache-2.0, which `/docs` shows, and ReDoc, MIT, which nothing
  shows.
- The wheels of numpy, Pillow and onnxruntime hold compiled libraries. Their notices are in the
  image: `numpy-*.dist-info/licenses`, `pillow-*.dist-info/licenses` and
  `onnxruntime/ThirdPartyNotices.txt` in `/opt/venv/lib/python3.*/site-packages`.

The base image adds Python (PSF-2.0) and packages of Debian:
`docker run --rm captcha-ocr dpkg-query -W` lists them, and `/usr/share/doc/*/copyright` has their
licences.
"""

# Licences that cyclonedx-py does not recognize: the classifier of flatbuffers and uvloop, and the
# "3-Clause BSD License" of protobuf.
_IDENTIFIERS = {"License :: OSI Approved :: Apache Software License": "Apache-2.0"}
_UNDECLARED = {"protobuf": [{"license": {"id": "BSD-3-Clause"}}]}


def sbom() -> dict[str, Any]:
    """The packages of `requirements/service.txt` on this machine, in the format of CycloneDX."""
    with tempfile.TemporaryDirectory() as folder:
        environment, file = Path(folder, "venv"), Path(folder, "sbom.json")
        python = environment / "bin" / "python"
        _uv("venv", "--quiet", "--no-project", "--python", sys.executable, environment)
        _uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK)
        project = ("--pyproject", ROOT / "pyproject.toml")
        _uv(*_TOOL, "environment", *project, "--output-reproducible", "-o", file, python)
        written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    # The version is not in pyproject.toml.
    written["metadata"]["component"]["version"] = __version__
    for component in written["components"]:
        if component["name"] in _UNDECLARED:
            component.setdefault("licenses", _UNDECLARED[component["name"]])
    return written


def _uv(*arguments: str | Path) -> None:
    subprocess.run([*_UV, *arguments], cwd=ROOT, check=True)


def page(written: dict[str, Any]) -> str:
    """The table of licences, as Markdown."""
    found = sorted(written["components"], key=lambda component: component["name"].lower())
    return _PAGE.format(
        rows="".join(f"| {c['name']} | {c['version']} | {_licence(c)} |\n" for c in found)
    )


def _licence(component: dict[str, Any]) -> str:
    declared = []
    for entry in component["licenses"]:
        licence = entry.get("license", {})
        declared.append(entry.get("expression") or licence.get("id") or licence["name"])
    return ", ".join(_IDENTIFIERS.get(one, one) for one in declared)


if __name__ == "__main__":
    document = sbom()
    _SBOM.parent.mkdir(exist_ok=True)
    _SBOM.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    DOCUMENT.write_text(page(document), encoding="utf-8")
    print(f"written to {_SBOM.relative_to(ROOT)} and {DOCUMENT.relative_to(ROOT)}")
