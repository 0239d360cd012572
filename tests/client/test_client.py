import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from captcha_ocr_client import (
    ClientError,
    Problem,
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
)
from tests import stripes
from tests.client.scripted import OVERLOADED, PREDICTION, Call, both, with_client
from tests.server.process import ROOT


@both
def test_reads_pictures_with_a_real_service(use: Call, address: str, tmp_path: Path) -> None:
    """Bytes and files, with all that can be asked, as the service answers over HTTP."""
    file = tmp_path / "picture.png"
    file.write_bytes(stripes.picture("abcd"))
    assert use(address, lambda c: c.predict(file)).text == "abcd"
    asked: dict[str, Any] = {"alternatives": 2, "length": 2, "alphabet": "ab", "pattern": "a.|ba"}
    prediction = use(
        address, lambda c: c.predict(stripes.picture("ab"), **asked, min_confidence=0.5)
    )
    assert prediction.text == "ab"
    assert prediction.accepted
    assert len(prediction.alternatives) == 2
    answer = httpx2.post(
        f"{address}/predict",
        files={"file": stripes.picture("ab")},
        params={**asked, "min_confidence": 0.5},
    ).json()
    assert prediction.confidence == answer["confidence"]
    spans = [character.span for character in prediction.characters]
    assert spans == [tuple(character["span"]) for character in answer["characters"]]
    assert prediction.model.version == answer["model"]["version"]


@both
def test_a_batch_has_an_answer_for_every_picture(use: Call, address: str, tmp_path: Path) -> None:
    """In their order, files and bytes; one that cannot be read has its problem as a value."""
    file = tmp_path / "picture.png"
    file.write_bytes(stripes.picture("abcd"))
    pictures = [stripes.picture("ab"), b"no picture", file, stripes.picture("c")[:40]]
    first, second, third, fourth = use(address, lambda c: c.predict_batch(pictures, alternatives=1))
    assert (first.text, third.text) == ("ab", "abcd")
    assert first == use(address, lambda c: c.predict(pictures[0], alternatives=1))
    assert isinstance(second, Problem)
    assert (second.status, second.type) == (415, "/problems/unsupported-format")
    assert (second.title, "PNG" in second.detail) == ("Not a supported picture", True)
    assert fourth.type == "/problems/undecodable-picture"


@both
def test_a_batch_may_be_empty_and_not_too_large(use: Call, address: str) -> None:
    """Nothing is asked about no pictures; what is wrong with the whole request is raised."""
    assert use("http://127.0.0.1:1", lambda c: c.predict_batch(iter([]))) == []
    with pytest.raises(ProblemError, match="64"):
        use(address, lambda c: c.predict_batch(stripes.picture("ab") for _ in range(65)))
    with pytest.raises(ProblemError, match="length"):
        use(address, lambda c: c.predict_batch([stripes.picture("ab")], length="0"))


@both
@pytest.mark.parametrize("answers", [[], [{"prediction": None}], [{"problem": {}}] * 2])
def test_a_batch_of_another_shape_is_told_apart(
    use: Call, scripted: Call, answers: list[object]
) -> None:
    """Also one that has fewer answers than there were pictures."""
    address, _ = scripted((200, {}, {"answers": answers}))
    with pytest.raises(UnexpectedAnswerError, match="200"):
        use(address, lambda c: c.predict_batch([b"picture"]))


@pytest.mark.parametrize(
    "wrong",
    [
        '"confidence": NaN', '"confidence": Infinity', '"confidence": 1.5', '"confidence": -0.1',
        '"confidence": "0.9"', '"confidence": true', '"confidence": null', '"text": 5',
        '"text": "\\ud800"', '"accepted": "no"', '"reason": 5', '"characters": {}',
        '"characters": [{"character": "a", "confidence": 2, "span": [0, 1]}]',
        '"characters": [{"character": "a", "confidence": 1, "span": [NaN, 1]}]',
        '"alternatives": [{"text": "a", "confidence": NaN}]', '"alternatives": ""',
        f'"confidence": 1{400 * "0"}',
        '"model": {"name": "m", "version": null}',
    ],
)  # fmt: skip
def test_what_no_service_answers_is_refused(scripted: Call, wrong: str) -> None:
    """Whoever compares a confidence is not told that it is no number later."""
    address, _ = scripted((200, {}, (json.dumps(PREDICTION)[:-1] + f", {wrong}}}").encode()))
    with pytest.raises(UnexpectedAnswerError, match="200"):
        with_client(address, lambda c: c.predict(b"picture"))


@pytest.mark.parametrize(
    "wrong", [{"detail": []}, {"title": None}, {"type": 5}, {"detail": "\ud800"}]
)
def test_what_no_problem_says_is_refused(scripted: Call, wrong: dict[str, object]) -> None:
    """Those who print it would fail."""
    address, _ = scripted((415, {}, {**OVERLOADED, **wrong}))
    with pytest.raises(UnexpectedAnswerError, match="415"):
        with_client(address, lambda c: c.predict(b"picture"))


@pytest.mark.parametrize("wrong", [{"alphabet": 5}, {"width": "1"}, {"figures": []}])
def test_what_is_no_model_is_refused(scripted: Call, wrong: dict[str, object]) -> None:
    """By the types of its members."""
    model = {
        "name": "m", "version": "1", "alphabet": "ab", "blank_index": 2, "width": 1, "height": 1,
        "training_run": "", "data_digest": "", "figures": {},
    }  # fmt: skip
    address, _ = scripted((200, {}, model), (200, {}, {**model, **wrong}))
    assert with_client(address, lambda c: c.model()).alphabet == "ab"
    with pytest.raises(UnexpectedAnswerError, match="200"):
        with_client(address, lambda c: c.model())


@both
def test_health_and_model_of_a_real_service(use: Call, address: str) -> None:
    """What is served, and that it is ready."""
    model = use(address, lambda c: c.model())
    assert (model.name, model.alphabet) == ("stripes", stripes.ALPHABET)
    assert (model.width, model.height) == (stripes.WIDTH, stripes.HEIGHT)
    assert model.figures == {"exact_match": 1.0}
    assert use(address, lambda c: c.live()) is True
    assert use(address, lambda c: c.ready()) is True


@both
def test_a_refusal_says_why(use: Call, address: str) -> None:
    """The members of the problem, as the service wrote them."""
    with pytest.raises(ProblemError) as refused:
        use(address, lambda c: c.predict(b"no picture"))
    assert refused.value.status == 415
    assert refused.value.type == "/problems/unsupported-format"
    assert refused.value.title == "Not a supported picture"
    assert "PNG" in refused.value.detail
    with pytest.raises(ProblemError, match="length"):
        use(address, lambda c: c.predict(stripes.picture("ab"), length="0"))


@both
def test_sends_the_key_and_no_file_name(use: Call, scripted: Call, tmp_path: Path) -> None:
    """A key where there is one; what a file is called stays here."""
    address, server = scripted((200, {}, PREDICTION))
    file = tmp_path / "private-name.png"
    file.write_bytes(b"picture")
    use(address, lambda c: c.predict(file, alternatives=None), api_key="secret")
    use(address, lambda c: c.predict(file))
    (_, path, keyed, body), (*_, keyless, _) = server.asked
    assert path == "/predict"
    assert {name.lower(): value for name, value in keyed.items()}["x-api-key"] == "secret"
    assert "x-api-key" not in {name.lower() for name in keyless}
    assert b"private-name" not in body


@both
@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"text": 1}', b"[" * 200_000])
@pytest.mark.parametrize("status", [200, 500])
def test_another_server_is_told_apart(
    use: Call, scripted: Call, answer: bytes, status: int
) -> None:
    """An answer of another shape is an error of its own, and shows what came."""
    address, _ = scripted((status, {}, answer))
    with pytest.raises(UnexpectedAnswerError, match=str(status)):
        use(address, lambda c: c.predict(b"picture"))


@both
@pytest.mark.parametrize("charset", ["rot13", "idna", "unknown"])
def test_no_encoding_of_an_answer_matters(use: Call, scripted: Call, charset: str) -> None:
    """Whatever another server names."""
    address, _ = scripted((200, {"Content-Type": f"text/plain; charset={charset}"}, b"\xff\xfe"))
    with pytest.raises(UnexpectedAnswerError, match="200"):
        use(address, lambda c: c.predict(b"picture"))


@both
def test_a_huge_answer_is_not_read(use: Call, scripted: Call) -> None:
    address, _ = scripted((200, {}, b" " * (40 << 20)))
    with pytest.raises(UnexpectedAnswerError, match="200 and more than 33,554,432 bytes"):
        use(address, lambda c: c.predict(b"picture"))


@both
def test_nothing_is_unpacked(use: Call, scripted: Call) -> None:
    """It was asked not to be packed, and a megabyte may unpack to a gigabyte."""
    packed = gzip.compress(b"{}")
    address, server = scripted((200, {"Content-Encoding": "gzip"}, packed))
    with pytest.raises(UnexpectedAnswerError, match=r"and '\\x1f"):
        use(address, lambda c: c.predict(b"picture"))
    (_, _, headers, _) = server.asked[0]
    assert headers["Accept-Encoding"] == "identity"


@both
def test_an_unreachable_service_is_named(use: Call) -> None:
    """With its address, and as an error of this package."""
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1: "):
        use("http://127.0.0.1:1", lambda c: c.live())
    assert issubclass(UnreachableError, ClientError)


@both
def test_a_path_may_be_a_string(use: Call, address: str, tmp_path: Path) -> None:
    """Its characters are not taken for those of a picture."""
    (tmp_path / "picture.png").write_bytes(stripes.picture("ab"))
    assert use(address, lambda c: c.predict(str(tmp_path / "picture.png"))).text == "ab"


@both
def test_takes_open_files_and_pillow_images(use: Call, address: str, tmp_path: Path) -> None:
    """Whatever holds a picture is read as its file is, in every mode that Pillow has."""
    file = tmp_path / "picture.png"
    file.write_bytes(stripes.picture("abcd"))
    with file.open("rb") as opened:
        assert use(address, lambda c: c.predict(opened)).text == "abcd"
    assert use(address, lambda c: c.predict(io.BytesIO(file.read_bytes()))).text == "abcd"
    assert use(address, lambda c: c.predict(bytearray(file.read_bytes()))).text == "abcd"
    with file.open() as opened, pytest.raises(TypeError, match="mode 'rb'"):
        use(address, lambda c: c.predict(opened))
    image = Image.open(file)
    pictures = [image.convert(mode) for mode in ("L", "RGB", "RGBA", "P", "CMYK", "YCbCr")]
    answers = use(address, lambda c: c.predict_batch([image, *pictures]))
    assert [answer.text for answer in answers] == ["abcd"] * 7


@both
def test_a_pillow_image_is_turned_upright(use: Call, address: str, tmp_path: Path) -> None:
    """The Exif orientation of the file counts, as it does when the file itself is sent."""
    file = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright = Image.open(io.BytesIO(stripes.picture("abcd")))
    upright.transpose(Image.Transpose.ROTATE_180).save(file, exif=exif)
    assert use(address, lambda c: c.predict(file)).text == "abcd"
    assert use(address, lambda c: c.predict(Image.open(file))).text == "abcd"


@both
def test_what_is_no_picture_is_refused_before_it_is_sent(use: Call, tmp_path: Path) -> None:
    """Each error says what to pass instead."""
    (tmp_path / "picture.png").write_bytes(b"picture")
    nowhere = "http://127.0.0.1:1"
    with (
        pytest.raises(TypeError, match="mode 'rb'"),
        (tmp_path / "picture.png").open(encoding="utf-8") as opened,
    ):
        use(nowhere, lambda c: c.predict(opened))
    with pytest.raises(TypeError, match="int is not a picture"):
        use(nowhere, lambda c: c.predict(7))
    with pytest.raises(FileNotFoundError):
        use(nowhere, lambda c: c.predict(tmp_path / "absent.png"))


@both
def test_an_address_needs_a_scheme(use: Call) -> None:
    with pytest.raises(ValueError, match=r"'localhost:8000' does not begin with http://"):
        use("localhost:8000", lambda c: c.live())


@both
def test_an_unknown_parameter_is_refused_by_the_service(use: Call, address: str) -> None:
    """Parameters are passed on, so that an old client can use those of a newer service."""
    with pytest.raises(ProblemError, match="colour"):
        use(address, lambda c: c.predict(stripes.picture("ab"), colour="red"))


def test_an_application_may_have_a_module_named_service(tmp_path: Path) -> None:
    """The client imports nothing of the service, and nothing that only the service needs."""
    (tmp_path / "service.py").write_text("NAME = 'mine'\n")
    code = "import sys, service, captcha_ocr_client; print(service.NAME, *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    name, *loaded = done.stdout.split()
    assert name == "mine"
    unneeded = {"fastapi", "pydantic", "numpy", "onnxruntime", "uvicorn", "PIL", "typer"}
    assert set(loaded) & unneeded == set()
