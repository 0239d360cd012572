"""The public client of the protocol, `tritonclient`, works unchanged with the service.

It runs in a process of its own because it uses another kind of threads (gevent).
"""

import re
import subprocess
import sys
from pathlib import Path

from tests import stripes
from tests.server.process import ROOT, serving

CLIENT = """
import base64, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
pictures = [open(path, "rb").read() for path in sys.argv[3:]]
name = sys.argv[2]


def sent(name, datatype, values, binary):
    tensor = triton.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return [tensor]


def refused(word, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        assert word in error.message(), error
        return error.status()
    raise AssertionError("not refused: " + word)


assert client.is_server_live() and client.is_server_ready()
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
model = client.get_model_metadata(name)
(version,) = model["versions"]
assert client.is_model_ready(name) and client.is_model_ready(name, version)
assert not client.is_model_ready("other") and not client.is_model_ready(name, "other")

texts = None
for binary in (True, False):
    values = np.array([p if binary else base64.b64encode(p) for p in pictures], object)
    for wanted in (None, True, False):
        outputs = wanted if wanted is None else [
            triton.InferRequestedOutput(output, binary_data=wanted)
            for output in ("confidence", "text")
        ]
        result = client.infer(
            name, sent("picture", "BYTES", values, binary), outputs=outputs, request_id="7"
        )
        answer = result.get_response()
        assert (answer["id"], answer["model_name"]) == ("7", name)
        assert answer["model_version"] == version
        binaries = ["parameters" in output for output in answer["outputs"]]
        assert binaries == [wanted is not False] * 2
        read = [t.decode() if isinstance(t, bytes) else t for t in result.as_numpy("text")]
        confidence = result.as_numpy("confidence")
        assert texts in (None, read)
        texts = read
        assert confidence.dtype == np.float32 and confidence.shape == (len(pictures),)
        assert (confidence > 0.5).all()
print(*texts)
only = [triton.InferRequestedOutput("text")]
one = client.infer(name, sent("picture", "BYTES", values[:1], False), version, only)
assert [output["name"] for output in one.get_response()["outputs"]] == ["text"]

described = model["inputs"][0]
shape = (len(pictures), *described["shape"][1:])
image = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
rows = []
for binary in (True, False):
    for wanted in (True, False):
        outputs = [triton.InferRequestedOutput(model["outputs"][0]["name"], binary_data=wanted)]
        result = client.infer(name, sent(described["name"], "FP32", image, binary), outputs=outputs)
        rows.append(result.as_numpy(model["outputs"][0]["name"]))
assert all((row == rows[0]).all() for row in rows)
assert rows[0].shape[0] == len(pictures) and rows[0].shape[2] == model["outputs"][0]["shape"][2]
assert np.allclose(rows[0].sum(axis=2), 1, atol=1e-4)

good = sent("picture", "BYTES", values, False)
assert refused("only the model", client.infer, "other", good) == "404"
assert refused("only the model", client.get_model_metadata, name, "0") == "404"
assert refused("there is no output", client.infer, name, good, outputs=[
    triton.InferRequestedOutput("dense2")]) == "400"
bad = np.array([pictures[0], b"no picture"], object)
assert refused("element 1:", client.infer, name, sent("picture", "BYTES", bad, True)) == "400"
wrong = sent(described["name"], "FP32", image[:, :-1], True)
assert refused("of the shape", client.infer, name, wrong) == "400"
image[0, 0, 0, 0] = np.nan
broken = sent(described["name"], "FP32", image, True)
assert refused("infinite", client.infer, name, broken) == "400"
assert refused("gzip", client.infer, name, good, request_compression_algorithm="gzip") == "415"
assert refused("GET /v2/models/", client.get_model_config, name) == "404"
"""


def check_client(address: str, name: str, pictures: list[Path]) -> list[str]:
    """Runs the checks of the client, and returns the texts that it reads in the pictures."""
    return run(CLIENT, address.removeprefix("http://"), name, *map(str, pictures)).split()


def run(code: str, *arguments: str) -> str:
    """Runs a program, and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_reads_pictures_with_the_bundled_model() -> None:
    """The examples are read in whichever way they are sent, also by the code in the document."""
    pictures = sorted((ROOT / "examples").glob("*.png"))[:3]
    with serving() as address:
        assert check_client(address, "captcha", pictures) == [p.stem for p in pictures]
        document = (ROOT / "docs" / "inference-protocol.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
        served = address.removeprefix("http://")
        assert run(example.replace("localhost:8000", served)).startswith("bndyp 0.")


def test_the_client_reads_pictures_with_another_model(stripe_model: Path, tmp_path: Path) -> None:
    """Names, sizes and classes are those of the served model."""
    pictures = []
    for text in ("abcd", "dd"):
        pictures.append(tmp_path / f"{text}.png")
        pictures[-1].write_bytes(stripes.picture(" ".join(text)))
    with serving(model_path=stripe_model) as address:
        assert check_client(address, "stripes", pictures) == ["abcd", "dd"]
