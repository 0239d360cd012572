"""Takes pictures out of request bodies, reading no more of them than is allowed."""

import base64
import binascii
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from service.api.errors import (
    ENCODED,
    INVALID_UPLOAD,
    UNSUPPORTED_MEDIA_TYPE,
    UPLOAD_TOO_LARGE,
    ProblemError,
)
from service.api.multipart import MalformedError, Part, parts_of

FIELD = "file"
"""The field of a form that holds the picture."""

BATCH_FIELD = "files"
MEMBER = "image"
"""The member of a JSON body that holds the picture in base64."""

BATCH_MEMBER = "images"

_ENVELOPE_BYTES = 4096
"""What boundaries and part headers of an upload with one file may add to the file itself."""

_MOST_DIGITS = 18
"""Of a length that is worth comparing."""

_SPARE_COMMAS = 16
"""Of a JSON body; so that what is a little wrong is told more precisely."""

_FORM = "multipart/form-data"
_JSON = "application/json"
RAW_TYPES = frozenset(
    f"image/{name}" for name in ("png", "jpeg", "jpg", "webp", "bmp", "x-ms-bmp", "gif")
) | {"application/octet-stream"}

_HOW = (
    f"send the picture itself with a content type like image/png, or as a file in the {_FORM} "
    f"field {FIELD!r}, or as base64 in the JSON member {MEMBER!r}"
)
_HOW_BATCH = (
    f"send the pictures as files in {_FORM} fields {BATCH_FIELD!r}, or as a list of base64 in the "
    f"JSON member {BATCH_MEMBER!r}"
)


async def read_body(request: Request, max_bytes: int, envelope: int = 0) -> bytes:
    """The body of a request, if it is not too large and sent as it is.

    A length that is declared is checked before anything is read, and one that is not is counted.

    Args:
        max_bytes: of what is sent, as the refusal names it.
        envelope: bytes that may stand around it.

    Raises:
        ProblemError: it has more than both, or has a content encoding (RFC 9110, 8.4).
        ClientDisconnect: it did not arrive as a whole.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ProblemError(
            ENCODED,
            f"The body is sent with the content encoding {encoding[:100]}; send it without.",
            {"Accept-Encoding": "identity"},
        )
    declared = request.headers.get("content-length", "")
    # Zeros at the beginning mean nothing; but no number of thousands of digits becomes an int.
    digits = declared.lstrip("0") or "0"
    if digits.isdecimal() and (len(digits) > _MOST_DIGITS or int(digits) > max_bytes + envelope):
        raise too_large(max_bytes)
    body: bytes | bytearray = b""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        if len(body) + len(chunk) > max_bytes + envelope:
            raise too_large(max_bytes)
        if not body:
            body = chunk
        else:
            # Joined at once: a list of tiny chunks would take many times their bytes.
            if isinstance(body, bytes):
                body = bytearray(body)
            body += chunk
        more = message.get("more_body", False)
    return bytes(body)


async def read_picture(request: Request, max_bytes: int) -> bytes:
    """The one picture of a request: its body, the file of a form, or base64 in JSON.

    Args:
        max_bytes: of the picture.

    Raises:
        ProblemError: of another content type, malformed, without a picture, or too large.
        ClientDisconnect: the upload broke off.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in RAW_TYPES:
        picture = await read_body(request, max_bytes)
    elif kind == _FORM:
        body = await read_body(request, max_bytes, _ENVELOPE_BYTES)
        picture = _only_file(content_type, body)
    elif kind == _JSON:
        # Four characters of base64 stand for three bytes.
        body = await read_body(request, max_bytes, max_bytes // 3 + _ENVELOPE_BYTES)
        picture = _decoded(_member(body, MEMBER, _HOW), _HOW)
    else:
        raise _unsupported(content_type, _HOW)
    if len(picture) > max_bytes:
        raise too_large(max_bytes)
    return picture


async def read_pictures(
    request: Request, most: int, max_bytes: int, max_picture_bytes: int
) -> list[bytes | ProblemError]:
    """The pictures of a batch, in their order; in place of one that cannot be taken, the reason.

    Args:
        most: pictures that there may be.
        max_bytes: of the whole body.
        max_picture_bytes: of each picture.

    Raises:
        ProblemError: the request as a whole is at fault.
        ClientDisconnect: the upload broke off.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    pictures: list[bytes | ProblemError]
    if kind == _FORM:
        body = await read_body(request, max_bytes)
        parts = _parts(content_type, body, most, _HOW_BATCH)
        pictures = [_file(part, BATCH_FIELD, _HOW_BATCH) for part in parts]
    elif kind == _JSON:
        body = await read_body(request, max_bytes)
        members = _member(body, BATCH_MEMBER, _HOW_BATCH, most)
        if not isinstance(members, list):
            raise ProblemError(INVALID_UPLOAD, f"{BATCH_MEMBER!r} is no list; {_HOW_BATCH}.")
        if len(members) > most:
            raise ProblemError(
                INVALID_UPLOAD, f"The batch has {len(members)} pictures; send at most {most}."
            )
        pictures = [_decoded_or_reason(member) for member in members]
    else:
        raise _unsupported(content_type, _HOW_BATCH)
    if not pictures:
        raise ProblemError(INVALID_UPLOAD, f"The batch is empty; {_HOW_BATCH}.")
    return [
        _too_large_for_a_batch(max_picture_bytes)
        if isinstance(picture, bytes) and len(picture) > max_picture_bytes
        else picture
        for picture in pictures
    ]


def too_large(max_bytes: int) -> ProblemError:
    """The refusal of a body or picture of more than so many bytes."""
    # The rest of the body is not read, so the connection cannot be used again.
    return ProblemError(
        UPLOAD_TOO_LARGE,
        f"The upload is too large; at most {max_bytes} bytes are read.",
        {"Connection": "close"},
    )


def _too_large_for_a_batch(max_bytes: int) -> ProblemError:
    return ProblemError(UPLOAD_TOO_LARGE, f"The picture has more than {max_bytes} bytes.")


def _unsupported(content_type: str, how: str) -> ProblemError:
    given = content_type[:100] or "not given"
    return ProblemError(UNSUPPORTED_MEDIA_TYPE, f"The content type is {given}; {how}.")


def _parts(content_type: str, body: bytes, most: int, how: str) -> list[Part]:
    try:
        return parts_of(content_type, body, most)
    except MalformedError as error:
        raise ProblemError(
            INVALID_UPLOAD,
            f"The upload cannot be read ({error}); {how}, and nothing else. "
            "Parameters belong in the address, as in ?length=5.",
        ) from error


def _only_file(content_type: str, body: bytes) -> bytes:
    parts = _parts(content_type, body, 1, _HOW)
    if not parts:
        raise ProblemError(INVALID_UPLOAD, f"The upload has no fields; {_HOW}.")
    return _file(parts[0], FIELD, _HOW)


def _file(part: Part, field: str, how: str) -> bytes:
    if part.name != field or part.filename is None:
        what = "text, and no file," if part.filename is None else "file"
        raise ProblemError(INVALID_UPLOAD, f"The upload has the {what} {part.name!r}; {how}.")
    return bytes(part.data)


def _member(body: bytes, name: str, how: str, most: int = 1) -> Any:
    # A picture takes one in a list, and one in a data URL. A million empty lists in place of them
    # would take many times their bytes, and the event loop's time.
    if body.count(b",") > 2 * most + _SPARE_COMMAS:
        raise ProblemError(
            INVALID_UPLOAD, f"The JSON has more members than {most} pictures take; {how}."
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProblemError(INVALID_UPLOAD, f"The body is no JSON; {how}.") from error
    if not isinstance(document, dict) or set(document) != {name}:
        raise ProblemError(
            INVALID_UPLOAD, f"The JSON is no object with the one member {name!r}; {how}."
        )
    return document[name]


def _decoded(text: object, how: str) -> bytes:
    """Base64, bare or as a data URL (RFC 4648, RFC 2397)."""
    if not isinstance(text, str):
        raise ProblemError(INVALID_UPLOAD, f"The picture is no string; {how}.")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(INVALID_UPLOAD, f"The picture is no base64; {how}.") from error


def _decoded_or_reason(member: object) -> bytes | ProblemError:
    try:
        return _decoded(member, _HOW_BATCH)
    except ProblemError as error:
        return error
