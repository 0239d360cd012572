"""The requests of the measurements, as bytes: the example pictures, sent in every way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_BATCH = 64
"""Pictures in one request to `/predict/batch`."""

_BOUNDARY = "----pictures"


def example_pictures() -> dict[str, bytes]:
    """The PNG files in `examples/`, by the texts in them."""
    return {path.stem: path.read_bytes() for path in sorted(Path("examples").glob("*.png"))}


def post(path: str, content_type: str, body: bytes) -> bytes:
    """A complete HTTP/1.1 request with a body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def raw(pictures: Sequence[bytes]) -> list[bytes]:
    """One request for each picture, with the picture as its body."""
    return [post("/predict", "image/png", picture) for picture in pictures]


def multipart(pictures: Sequence[bytes]) -> list[bytes]:
    """One request for each picture, in the form field `file`."""
    return [_form("/predict", "file", [picture]) for picture in pictures]


def batch(pictures: Sequence[bytes]) -> list[bytes]:
    """One request with _BATCH pictures, each in a form field `files`."""
    repeated = [pictures[number % len(pictures)] for number in range(_BATCH)]
    return [_form("/predict/batch", "files", repeated)]


def _form(path: str, name: str, pictures: Sequence[bytes]) -> bytes:
    parts = [
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
        f'name="{name}"; filename="{number}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + picture
        + b"\r\n"
        for number, picture in enumerate(pictures)
    ]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    return post(path, f"multipart/form-data; boundary={_BOUNDARY}", body)


@dataclass(frozen=True, slots=True)
class Payload:
    """A way of sending pictures."""

    name: str
    pictures: int  # in a request
    connections: int  # of a closed loop
    requests: Callable[[Sequence[bytes]], list[bytes]]


RAW = Payload("raw body", 1, 16, raw)
ALONE = Payload("raw body, one at a time", 1, 1, raw)
MULTIPART = Payload("multipart", 1, 16, multipart)
BATCH = Payload(f"batch of {_BATCH}", _BATCH, 2, batch)
