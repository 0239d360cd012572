"""Clients that are generated from docs/openapi.json compile and read a picture.

The generators are fetched from package indexes, so `make test-generators` runs these tests, and
`make test` does not.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import ROOT, serving

DOCUMENT = ROOT / "docs" / "openapi.json"
PICTURE = ROOT / "examples" / "bndyp.png"
UV = (sys.executable, "-m", "uv")
OPENAPI_GENERATOR = (*UV, "tool", "run", "openapi-generator-cli==7.26.0", "generate")
OPENAPI_PYTHON_CLIENT = (*UV, "tool", "run", "--with", "ruff", "openapi-python-client==0.29.1")
NPM_PACKAGES = ("typescript@5", "@types/node@20", "openapi-typescript@7", "openapi-fetch@0.17")

pytestmark = [
    pytest.mark.generators,
    pytest.mark.skipif(
        not all(map(shutil.which, ("java", "npm"))), reason="they need Java and Node"
    ),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a service with the bundled model."""
    with serving(model_path=ROOT / "models" / "captcha.onnx") as address:
        yield address


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packages for TypeScript are installed."""
    folder = tmp_path_factory.mktemp("node")
    run(folder, "npm", "install", "--silent", "--no-save", *NPM_PACKAGES)
    return folder


def run(folder: Path, *command: object) -> str:
    """Runs a command that must succeed, and returns its output."""
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_openapi_generator_makes_a_python_client(address: str, tmp_path: Path) -> None:
    run(tmp_path, *OPENAPI_GENERATOR, "-g", "python", "-i", DOCUMENT, "-o", "client")
    (tmp_path / "use.py").write_text(f"""
from pathlib import Path
from openapi_client import ApiClient, Configuration, DefaultApi

picture = Path({str(PICTURE)!r}).read_bytes()
form = {{"_content_type": "multipart/form-data"}}
api = DefaultApi(ApiClient(Configuration(host={address!r})))
print(api.predict(file=picture, length="5", **form).text)
for answer in api.predict_batch(files=[picture, b"no picture"], **form).answers:
    print(answer.prediction.text if answer.prediction else answer.problem.status)
print(api.metrics().split()[0])
""")
    shown = run(
        tmp_path, *UV, "run", "-q", "--no-project", "--with", "./client", "python", "use.py"
    )
    assert shown.split() == ["bndyp", "bndyp", "415", "#"]


def test_openapi_python_client_makes_a_client(address: str, tmp_path: Path) -> None:
    """It prints no warning."""
    generate = ("generate", "--path", DOCUMENT, "--meta", "setup", "--output-path", "client")
    shown = run(tmp_path, *OPENAPI_PYTHON_CLIENT, *generate)
    assert "WARNING" not in shown, shown
    (package,) = (path.parent.name for path in (tmp_path / "client").glob("*/client.py"))
    (tmp_path / "use.py").write_text(f"""
from io import BytesIO
from pathlib import Path
from {package} import Client
from {package}.api.default import predict, predict_batch
from {package}.models import PictureForm, PicturesForm
from {package}.types import File

picture = Path({str(PICTURE)!r}).read_bytes()
client = Client(base_url={address!r})
form = PictureForm(File(BytesIO(picture), "picture.png"))
print(predict.sync(client=client, body=form, length="5").text)
form = PicturesForm([File(BytesIO(content), "picture.png") for content in (picture, b"no")])
for answer in predict_batch.sync(client=client, body=form).answers:
    print(answer.prediction.text if answer.prediction else answer.problem.status)
""")
    shown = run(
        tmp_path, *UV, "run", "-q", "--no-project", "--with", "./client", "python", "use.py"
    )
    assert shown.split() == ["bndyp", "bndyp", "415"]


def test_openapi_generator_makes_a_typescript_client(
    address: str, tmp_path: Path, node: Path
) -> None:
    folder = node / "fetch"
    run(node, *OPENAPI_GENERATOR, "-g", "typescript-fetch", "-i", DOCUMENT, "-o", "fetch")
    (folder / "use.ts").write_text(f"""
import {{ readFileSync }} from "node:fs";
import {{ Configuration, DefaultApi }} from "./index";

const picture = new Blob([readFileSync({str(PICTURE)!r})]);
const api = new DefaultApi(new Configuration({{ basePath: {address!r} }}));
async function main() {{
  console.log((await api.predict({{ file: picture, length: "5" }})).text);
  console.log((await api.predictBatch({{ files: [picture] }})).answers[0].prediction?.text);
}}
main();
""")
    compile_options = ("--strict", "--target", "es2020", "--module", "commonjs", "--outDir", "out")
    run(folder, node / "node_modules/.bin/tsc", *compile_options, "use.ts")
    assert run(folder, "node", "out/use.js").split() == ["bndyp", "bndyp"]


def test_openapi_typescript_makes_types_for_openapi_fetch(address: str, node: Path) -> None:
    run(node, "node_modules/.bin/openapi-typescript", DOCUMENT, "-o", "api.d.ts")
    (node / "use.mts").write_text(f"""
import {{ readFileSync }} from "node:fs";
import createClient from "openapi-fetch";
import type {{ paths }} from "./api.d.ts";

const form = new FormData();
form.append("file", new Blob([readFileSync({str(PICTURE)!r})]));
const client = createClient<paths>({{ baseUrl: {address!r} }});
const {{ data }} = await client.POST("/predict", {{
  params: {{ query: {{ length: "5" }} }},
  body: {{ file: "" }},
  bodySerializer: () => form,
}});
console.log(data?.text);
""")
    compile_options = ("--strict", "--target", "es2022", "--module", "nodenext", "--outDir", "out")
    run(node, "node_modules/.bin/tsc", *compile_options, "use.mts")
    shutil.copy(node / "out" / "use.mjs", node / "use.mjs")
    assert run(node, "node", "use.mjs").split() == ["bndyp"]
