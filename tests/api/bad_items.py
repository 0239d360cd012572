"""Ten kinds of large requests whose pictures are refused, for tests of memory."""

import base64
import json
from collections.abc import Iterator, Mapping

from tests import stripes

JSON = {"content-type": "application/json"}
_BOUNDARY = "picture"
FORM = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}

Request = tuple[str, Mapping[str, str], bytes]
"""Path, headers and body."""


def _batch(item: object) -> Request:
    return "/predict/batch", JSON, json.dumps({"images": [item]}, ensure_ascii=False).encode()


def _form(name: str, filename: str, picture: bytes) -> Request:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return "/predict/batch", FORM, head.encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()


def bad_items(size: int, model: str) -> Iterator[tuple[str, Request]]:
    """Yields the name of each kind, and a request of this kind.

    Args:
        size: bytes of each body, approximately.
        model: the name of the served model.
    """
    letters = "A" * (size // 4 * 4)
    broken = stripes.picture("ab")[:60]
    padded = base64.b64encode(broken.ljust(size * 3 // 4, b"\0")).decode()
    tensor = {"name": "picture", "datatype": "BYTES", "shape": [1], "data": [f"?{letters}"]}
    yield "beyond ASCII", _batch(f"😀{letters}")
    yield "one bad letter", _batch(f"{letters}?")
    yield "a number", ("/predict/batch", JSON, b'{"images": [1%s]}' % (b" " * size))
    yield "no picture", _batch(letters)
    yield "a broken picture", _batch(padded)
    yield "a bad data URL", _batch(f"data:image/png;base64,{letters}?")
    yield "no JSON", ("/predict/batch", JSON, b'{"images": ["%s' % letters.encode())
    yield "a broken file", _form("files", '; filename="a.png"', broken.ljust(size, b"\0"))
    yield "another field", _form("file", '; filename="a.png"', broken.ljust(size, b"\0"))
    yield (
        "a bad tensor",
        (f"/v2/models/{model}/infer", JSON, json.dumps({"inputs": [tensor]}).encode()),
    )
