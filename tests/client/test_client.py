import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.client import (
    AsyncClient,
    Client,
    ClientError,
    ProblemError,
    Retry,
    UnexpectedAnswerError,
    UnreachableError,
)
from service.client.retry import retry_after
from tests import stripes
from tests.service.server import ROOT, serving

PREDICTION = {
    "text": "ab", "confidence": 0.9, "accepted": True, "characters": [], "alternatives": [],
    "reason": None, "model": {"name": "m", "version": "1"}, "of_a_later_version": 1,
}  # fmt: skip
OVERLOADED = {"type": "/problems/overloaded", "title": "Busy", "status": 503, "detail": "Later."}

Call = Callable[..., Any]


def with_client(address: str, call: Call, **options: Any) -> Any:
    with Client(address, **options) as client:
        return call(client)


def with_async_client(address: str, call: Call, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(address, **options) as client:
            return await call(client)

    return asyncio.run(run())


both = pytest.mark.parametrize("use", [with_client, with_async_client])


class Scripted(ThreadingHTTPServer):
    """Answers with the next of its answers, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.asked: list[tuple[float, str, dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """Of one request to it."""

    server: Scripted

    def do_POST(self) -> None:
        """Answers, whatever is asked."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((time.monotonic(), self.path, dict(self.headers), body))
        answers = self.server.answers
        status, headers, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        """Likewise."""
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what matters."""


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[str, Scripted]]]:
    """Starts servers of scripted answers."""
    servers = []

    def start(*answers: tuple[int, dict[str, str], Any]) -> tuple[str, Scripted]:
        server = Scripted(*answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{server.server_port}", server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real service with the stripe model."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(model_path=model) as address:
        yield address


@both
def test_reads_pictures_with_a_real_service(use: Call, address: str, tmp_path: Path) -> None:
    """Bytes and files, with all that can be asked, as the service answers over HTTP."""
    file = tmp_path / "picture.png"
    file.write_bytes(stripes.picture("abcd"))
    assert use(address, lambda c: c.predict(file)).text == "abcd"
    question = {"alternatives": 2, "length": 2, "alphabet": "ab", "pattern": "a.|ba"}
    prediction = use(
        address, lambda c: c.predict(stripes.picture("ab"), **question, min_confidence=0.5)
    )
    assert prediction.text == "ab"
    assert prediction.accepted
    assert len(prediction.alternatives) == 2
    answer = httpx2.post(
        f"{address}/predict",
        files={"file": stripes.picture("ab")},
        params={**question, "min_confidence": 0.5},
    ).json()
    assert prediction.confidence == answer["confidence"]
    spans = [character.span for character in prediction.characters]
    assert spans == [tuple(character["span"]) for character in answer["characters"]]
    assert prediction.model.version == answer["model"]["version"]


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
def test_asks_again_after_as_long_as_the_service_says(use: Call, scripted: Call) -> None:
    """Two refusals with Retry-After, then the answer; the picture is sent anew each time."""
    busy = (503, {"Retry-After": "1"}, OVERLOADED)
    now = (503, {"Retry-After": "0"}, OVERLOADED)
    address, server = scripted(busy, now, (200, {}, PREDICTION))
    assert use(address, lambda c: c.predict(b"picture"), api_key="k").text == "ab"
    times = [asked[0] for asked in server.asked]
    assert len(times) == 3
    assert times[1] - times[0] >= 1
    assert all(b"picture" in body for *_, body in server.asked)


@both
def test_gives_up_after_its_attempts(use: Call, scripted: Call) -> None:
    """With the problem of the last one."""
    address, server = scripted((503, {"Retry-After": "0"}, OVERLOADED))
    with pytest.raises(ProblemError, match=r"503 Busy: Later\."):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(attempts=3))
    assert len(server.asked) == 3


@both
def test_never_waits_beyond_its_deadline(use: Call, scripted: Call) -> None:
    """What would have to wait longer fails at once."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(seconds=5))
    assert len(server.asked) == 1


@both
def test_only_an_overload_is_asked_again(use: Call, scripted: Call) -> None:
    """What is wrong stays wrong."""
    address, server = scripted((422, {}, OVERLOADED | {"status": 422}))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"))
    assert len(server.asked) == 1


@both
def test_health_checks_answer_at_once(use: Call, scripted: Call) -> None:
    """A service that is not ready is not, and is not waited for."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    assert use(address, lambda c: c.ready()) is False
    assert len(server.asked) == 1


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
@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"text": 1}'])
@pytest.mark.parametrize("status", [200, 500])
def test_another_server_is_told_apart(
    use: Call, scripted: Call, answer: bytes, status: int
) -> None:
    """An answer of another shape is an error of its own, and shows what came."""
    address, _ = scripted((status, {}, answer))
    with pytest.raises(UnexpectedAnswerError, match=str(status)):
        use(address, lambda c: c.predict(b"picture"))


@both
def test_an_unreachable_service_is_named(use: Call) -> None:
    """With its address, and as an error of this package."""
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1: "):
        use("http://127.0.0.1:1", lambda c: c.live())
    assert issubclass(UnreachableError, ClientError)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-3", None), ("1.5", None)],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    """A whole number of seconds; anything else is as if it were absent."""
    assert retry_after(httpx2.Response(503, headers={"Retry-After": value})) == seconds


def test_retry_after_as_a_date() -> None:
    """The time until then, and none where it has passed."""
    for ahead, least, most in ((60, 50, 60), (-60, 0, 0)):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        seconds = retry_after(httpx2.Response(503, headers={"Retry-After": date}))
        assert seconds is not None
        assert least <= seconds <= most


def test_without_retry_after_pauses_grow() -> None:
    """Each is twice the one before, within the deadline."""
    response = httpx2.Response(503)
    pauses = [Retry(attempts=9).pause(response, attempt, 0) for attempt in (1, 2, 3)]
    assert pauses == [0.5, 1.0, 2.0]
    assert Retry(attempts=9).pause(response, 3, 29) is None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"seconds": 0}])
def test_a_retry_that_cannot_be(options: dict[str, int]) -> None:
    """It says what it takes."""
    with pytest.raises(ValueError, match="it takes 1 attempt"):
        Retry(**options)


def test_the_client_needs_nothing_of_the_service() -> None:
    """It is installed without it: neither framework nor runtime is imported."""
    code = "import sys, service.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    needed = {"fastapi", "pydantic", "numpy", "onnxruntime", "uvicorn", "PIL", "typer"}
    assert loaded & needed == set()
    own = {name for name in loaded if name.startswith("service.")}
    assert {name.split(".")[1] for name in own} == {"client"}


def test_the_documents_are_right() -> None:
    """Their Python runs as it is written, where the bundled model is served."""
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    with serving(model_path=ROOT / "models" / "captcha.onnx") as address:
        code = code.replace("http://127.0.0.1:8000", address)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("bndyp 0.99")
    assert lines[6].startswith("415 /problems/unsupported-format")
    assert lines[7] == str(sorted(path.stem for path in (ROOT / "examples").glob("*.png")))
