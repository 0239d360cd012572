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
from tests.client.scripted import OVERLOADED, PREDICTION, Call, both_clients, with_client
from tests.server.process import ROOT


@both_clients
def test_predictions_are_those_of_the_service(use: Call, address: str, tmp_path: Path) -> None:
    """This holds for bytes and files, and with all parameters."""
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


@both_clients
def test_a_batch_has_an_answer_for_every_picture(use: Call, address: str, tmp_path: Path) -> None:
    """Files and bytes are answered in order. An unreadable picture has its problem as value."""
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


@both_clients
def test_a_batch_may_be_empty_but_not_too_large(use: Call, address: str) -> None:
    """An empty batch sends no request. An error of the whole request is raised."""
    assert use("http://127.0.0.1:1", lambda c: c.predict_batch(iter([]))) == []
    with pytest.raises(ProblemError, match="64"):
        use(address, lambda c: c.predict_batch(stripes.picture("ab") for _ in range(65)))
    with pytest.raises(ProblemError, match="length"):
        use(address, lambda c: c.predict_batch([stripes.picture("ab")], length="0"))


@both_clients
@pytest.mark.parametrize("answers", [[], [{"prediction": None}], [{"problem": {}}] * 2])
def test_a_malformed_answer_to_a_batch_is_an_error(
    use: Call, scripted: Call, answers: list[object]
) -> None:
    """This includes an answer with fewer members than pictures."""
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
def test_a_prediction_with_an_invalid_member_is_an_error(scripted: Call, wrong: str) -> None:
    """Otherwise a program would fail later, where it compares the confidence."""
    address, _ = scripted((200, {}, (json.dumps(PREDICTION)[:-1] + f", {wrong}}}").encode()))
    with pytest.raises(UnexpectedAnswerError, match="200"):
        with_client(address, lambda c: c.predict(b"picture"))


@pytest.mark.parametrize(
    "wrong", [{"detail": []}, {"title": None}, {"type": 5}, {"detail": "\ud800"}]
)
def test_a_problem_with_an_invalid_member_is_an_error(
    scripted: Call, wrong: dict[str, object]
) -> None:
    """Otherwise a program that prints the problem would fail."""
    address, _ = scripted((415, {}, {**OVERLOADED, **wrong}))
    with pytest.raises(UnexpectedAnswerError, match="415"):
        with_client(address, lambda c: c.predict(b"picture"))


@pytest.mark.parametrize("wrong", [{"alphabet": 5}, {"width": "1"}, {"figures": []}])
def test_a_model_with_an_invalid_member_is_an_error(
    scripted: Call, wrong: dict[str, object]
) -> None:
    """The types of its members are checked."""
    model = {
        "name": "m", "version": "1", "alphabet": "ab", "blank_index": 2, "width": 1, "height": 1,
        "training_run": "", "data_digest": "", "figures": {},
    }  # fmt: skip
    address, _ = scripted((200, {}, model), (200, {}, {**model, **wrong}))
    assert with_client(address, lambda c: c.model()).alphabet == "ab"
    with pytest.raises(UnexpectedAnswerError, match="200"):
        with_client(address, lambda c: c.model())


@both_clients
def test_health_and_model_are_those_of_the_service(use: Call, address: str) -> None:
    model = use(address, lambda c: c.model())
    assert (model.name, model.alphabet) == ("stripes", stripes.ALPHABET)
    assert (model.width, model.height) == (stripes.WIDTH, stripes.HEIGHT)
    assert model.figures == {"exact_match": 1.0}
    assert use(address, lambda c: c.live()) is True
    assert use(address, lambda c: c.ready()) is True


@both_clients
def test_a_refusal_is_raised_with_the_problem_of_the_service(use: Call, address: str) -> None:
    with pytest.raises(ProblemError) as refused:
        use(address, lambda c: c.predict(b"no picture"))
    assert refused.value.status == 415
    assert refused.value.type == "/problems/unsupported-format"
    assert refused.value.title == "Not a supported picture"
    assert "PNG" in refused.value.detail
    with pytest.raises(ProblemError, match="length"):
        use(address, lambda c: c.predict(stripes.picture("ab"), length="0"))


@both_clients
def test_the_key_is_sent_and_the_file_name_is_not(
    use: Call, scripted: Call, tmp_path: Path
) -> None:
    """A key is sent if one is given. The name of a file stays on this machine."""
    address, server = scripted((200, {}, PREDICTION))
    file = tmp_path / "private-name.png"
    file.write_bytes(b"picture")
    use(address, lambda c: c.predict(file, alternatives=None), api_key="secret")
    use(address, lambda c: c.predict(file))
    (_, path, keyed, body), (*_, keyless, _) = server.requests
    assert path == "/predict"
    assert {name.lower(): value for name, value in keyed.items()}["x-api-key"] == "secret"
    assert "x-api-key" not in {name.lower() for name in keyless}
    assert b"private-name" not in body


@both_clients
@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"text": 1}', b"[" * 200_000])
@pytest.mark.parametrize("status", [200, 500])
def test_the_answer_of_another_server_is_an_error(
    use: Call, scripted: Call, answer: bytes, status: int
) -> None:
    """The error has a class of its own, and shows the answer."""
    address, _ = scripted((status, {}, answer))
    with pytest.raises(UnexpectedAnswerError, match=str(status)):
        use(address, lambda c: c.predict(b"picture"))


@both_clients
@pytest.mark.parametrize("charset", ["rot13", "idna", "unknown"])
def test_the_charset_of_an_answer_is_ignored(use: Call, scripted: Call, charset: str) -> None:
    """Another server may name any charset."""
    address, _ = scripted((200, {"Content-Type": f"text/plain; charset={charset}"}, b"\xff\xfe"))
    with pytest.raises(UnexpectedAnswerError, match="200"):
        use(address, lambda c: c.predict(b"picture"))


@both_clients
def test_a_huge_answer_is_not_read(use: Call, scripted: Call) -> None:
    address, _ = scripted((200, {}, b" " * (40 << 20)))
    with pytest.raises(UnexpectedAnswerError, match="200 and more than 33,554,432 bytes"):
        use(address, lambda c: c.predict(b"picture"))


@both_clients
def test_a_compressed_answer_is_not_decompressed(use: Call, scripted: Call) -> None:
    """The client asks for no compression. A megabyte may decompress to a gigabyte."""
    packed = gzip.compress(b"{}")
    address, server = scripted((200, {"Content-Encoding": "gzip"}, packed))
    with pytest.raises(UnexpectedAnswerError, match=r"and '\\x1f"):
        use(address, lambda c: c.predict(b"picture"))
    (_, _, headers, _) = server.requests[0]
    assert headers["Accept-Encoding"] == "identity"


@both_clients
def test_an_unreachable_service_is_an_error(use: Call) -> None:
    """The error is one of this package, and names the address."""
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1: "):
        use("http://127.0.0.1:1", lambda c: c.live())
    assert issubclass(UnreachableError, ClientError)


@both_clients
def test_a_path_may_be_a_string(use: Call, address: str, tmp_path: Path) -> None:
    """The string is not taken for the bytes of a picture."""
    (tmp_path / "picture.png").write_bytes(stripes.picture("ab"))
    assert use(address, lambda c: c.predict(str(tmp_path / "picture.png"))).text == "ab"


@both_clients
def test_open_files_and_pillow_images_are_read_as_their_files_are(
    use: Call, address: str, tmp_path: Path
) -> None:
    """An image may have any mode of Pillow."""
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


@both_clients
def test_a_pillow_image_is_turned_upright(use: Call, address: str, tmp_path: Path) -> None:
    """Its Exif orientation counts, as it does when the file itself is sent."""
    file = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright = Image.open(io.BytesIO(stripes.picture("abcd")))
    upright.transpose(Image.Transpose.ROTATE_180).save(file, exif=exif)
    assert use(address, lambda c: c.predict(file)).text == "abcd"
    assert use(address, lambda c: c.predict(Image.open(file))).text == "abcd"


@both_clients
def test_an_argument_that_is_no_picture_is_refused_before_sending(
    use: Call, tmp_path: Path
) -> None:
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


@both_clients
def test_an_address_needs_a_scheme(use: Call) -> None:
    with pytest.raises(ValueError, match=r"'localhost:8000' does not begin with http://"):
        use("localhost:8000", lambda c: c.live())


@both_clients
def test_an_unknown_parameter_is_refused_by_the_service(use: Call, address: str) -> None:
    """The client passes parameters on, so an old client can use those of a newer service."""
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
