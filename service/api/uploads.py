"""Extracts pictures from request bodies, and limits how much is read of a body."""

import base64
import binascii
import codecs
import io
import json
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Container
from typing import Any, Protocol, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.api.errors import (
    ENCODED,
    INVALID_UPLOAD,
    UNSUPPORTED_MEDIA_TYPE,
    UPLOAD_TOO_LARGE,
    ProblemError,
)
from service.ocr.formats import MEDIA_TYPES
from service.ocr.preprocessing import SMALLER

T = TypeVar("T")


class Run(Protocol):
    """A function that runs work in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Returns what the work returns, or raises what it raises."""


FIELD, BATCH_FIELD = "file", "files"
"""The form field of a single picture, and the form field of the pictures of a batch."""

MEMBER, BATCH_MEMBER = "image", "images"
"""The JSON member of a single picture in base64, and the member of the pictures of a batch."""

RAW_TYPES = frozenset({*MEDIA_TYPES, "application/octet-stream"})

_FORM, _JSON = "multipart/form-data", "application/json"

LOOP_BYTES = 1 << 16
"""Largest form or JSON that is parsed on the event loop, in bytes. Starting a thread for it would
take as long."""

_ENVELOPE_BYTES = 4096
"""Bytes that an upload may contain in addition to its picture."""

_SPARE_COMMAS = 16
"""Commas that a JSON body may have in addition to those of its pictures, for a precise error."""

_MAX_NAME_CHARACTERS = 200
_MAX_SEMICOLONS = 16
"""Most semicolons in a header field with parameters. Parsing takes time in the square of them."""

_BLANKS = re.compile(rb"[ \t]{17}")
"""More blanks in a row than may follow a boundary, or precede the value of a part's header field.
The parser goes through them byte by byte."""

_BEYOND_LATIN_1 = re.compile(rb"\\u(?!00)[0-9A-Fa-f]{4}")
"""An escaped character beyond Latin-1 in JSON."""

_MAX_BEYOND_LATIN_1 = 4096
_STANDARD_LETTERS = bytes.maketrans(b"-_", b"+/")
INVALID = object()
"""Returned by `parse_json` for a body that is not JSON."""

_HOW = (
    f"send the picture itself with a content type like image/png, or as a file in the {_FORM} "
    f"field {FIELD!r}, or as base64 in the JSON member {MEMBER!r}"
)
_HOW_BATCH = (
    f"send the pictures as files in {_FORM} fields {BATCH_FIELD!r}, or as a list of base64 in the "
    f"JSON member {BATCH_MEMBER!r}"
)


async def read_body(request: Request, max_bytes: int, envelope: int = 0) -> bytes:
    """The body of a request, which must be neither too large nor compressed.

    A declared length is checked before anything is read. The bytes are also counted as they arrive.

    Args:
        max_bytes: the limit that an error names.
        envelope: bytes that are allowed in addition.

    Raises:
        ProblemError: the body is too large, or has a content encoding (RFC 9110, 8.4).
        ClientDisconnect: the body did not arrive completely.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ProblemError(
            ENCODED,
            f"The body is sent with the content encoding {encoding[:100]}; send it without.",
            {"Accept-Encoding": "identity"},
        )
    limit = max_bytes + envelope
    digits = request.headers.get("content-length", "").lstrip("0") or "0"
    if digits.isdecimal() and (len(digits) > len(str(limit)) or int(digits) > limit):
        raise too_large(max_bytes)
    body = io.BytesIO()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        if body.tell() + len(chunk) > limit:
            raise too_large(max_bytes)
        more = message.get("more_body", False)
        if not more and not body.tell():
            return bytes(chunk)
        # Not collected in a list: tiny chunks in a list would take many times their bytes.
        body.write(chunk)
        if not more:
            return body.getvalue()


async def read_picture(request: Request, max_bytes: int, run: Run) -> bytes:
    """The single picture of a request: its body, the file in a form, or base64 in JSON.

    Args:
        max_bytes: largest size of the picture, in bytes.
        run: runs slow work in a thread.

    Raises:
        ProblemError: the upload is malformed, has no picture or another content type, or is too
            large.
        ClientDisconnect: the upload did not arrive completely.
    """
    kind = _media_type(request, _HOW, RAW_TYPES)
    if kind in RAW_TYPES:
        return await read_body(request, max_bytes)
    # Four characters of base64 stand for three bytes.
    body = await read_body(request, max_bytes, max_bytes // 3 + _ENVELOPE_BYTES)
    if len(body) <= LOOP_BYTES:
        return _picture(request.headers, kind, body, max_bytes)
    return await run(lambda: _picture(request.headers, kind, body, max_bytes))


def _picture(headers: Headers, kind: str, body: bytes, max_bytes: int) -> bytes:
    if kind == _FORM:
        pictures = _files(headers, body, FIELD, 1, _HOW)
    else:
        pictures = [_decoded(_member(body, MEMBER, 1, _HOW), _HOW)]
    if not pictures:
        raise ProblemError(INVALID_UPLOAD, f"The upload has no fields; {_HOW}.")
    picture = pictures[0]
    if isinstance(picture, ProblemError):
        raise ProblemError(picture.kind, picture.detail)
    if len(picture) > max_bytes:
        raise too_large(max_bytes)
    return picture


async def read_pictures(
    request: Request, max_pictures: int, max_bytes: int, max_picture_bytes: int, run: Run
) -> list[bytes | ProblemError]:
    """The pictures of a batch, in their order; for an invalid picture, its error instead.

    Args:
        max_bytes: largest size of the body, in bytes.
        max_picture_bytes: largest size of each picture, in bytes.
        run: runs slow work in a thread.

    Raises:
        ProblemError: the request as a whole is invalid.
        ClientDisconnect: the upload did not arrive completely.
    """
    kind = _media_type(request, _HOW_BATCH)
    body = await read_body(request, max_bytes)
    # In a thread for any size: a small form with many parts takes milliseconds.
    return await run(
        lambda: _pictures(request.headers, kind, body, max_pictures, max_picture_bytes)
    )


def _pictures(
    headers: Headers, kind: str, body: bytes, max_pictures: int, max_picture_bytes: int
) -> list[bytes | ProblemError]:
    if kind == _FORM:
        pictures = _files(headers, body, BATCH_FIELD, max_pictures, _HOW_BATCH)
    else:
        members = _member(body, BATCH_MEMBER, max_pictures, _HOW_BATCH)
        if not isinstance(members, list):
            raise ProblemError(INVALID_UPLOAD, f"{BATCH_MEMBER!r} is not a list; {_HOW_BATCH}.")
        pictures = [_decoded(member, _HOW_BATCH) for member in members]
    if not 1 <= len(pictures) <= max_pictures:
        raise ProblemError(
            INVALID_UPLOAD,
            f"The batch has {len(pictures)} pictures; send at most {max_pictures}."
            if pictures
            else f"The batch is empty; {_HOW_BATCH}.",
        )
    large = ProblemError(
        UPLOAD_TOO_LARGE, f"The picture has more than {max_picture_bytes} bytes. {SMALLER}"
    )
    return [
        large if isinstance(picture, bytes) and len(picture) > max_picture_bytes else picture
        for picture in pictures
    ]


def too_large(max_bytes: int) -> ProblemError:
    """The error for a body or picture of more than `max_bytes` bytes."""
    # The rest of the body is not read, so the connection cannot be used again.
    return ProblemError(
        UPLOAD_TOO_LARGE,
        f"The upload is too large; at most {max_bytes} bytes are read. {SMALLER}",
        {"Connection": "close"},
    )


def decode_base64(text: str) -> bytes | None:
    """Decodes base64 (RFC 4648); None if the text is not base64.

    Accepts what encoders write: line breaks, missing padding and the URL-safe alphabet.
    """
    try:
        data = text.encode("ascii").translate(_STANDARD_LETTERS, b" \t\r\n").rstrip(b"=")
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


class _FormParser(MultiPartParser):
    """Starlette's parser, but without writing large files to disk: the body is in memory anyway."""

    spool_max_size = sys.maxsize

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Receives the name of a part's header field; a colon follows it."""
        if _BLANKS.match(data, end + 1):
            raise MultiPartException("a part has a header with over 16 blanks before its value")
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Receives the value of a part's header field."""
        if data.count(b";", start, end) > _MAX_SEMICOLONS:
            raise MultiPartException(f"a part has a header with over {_MAX_SEMICOLONS} semicolons")
        super().on_header_value(data, start, end)


def _media_type(request: Request, how: str, raw_types: Container[str] = ()) -> str:
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in (_FORM, _JSON) and kind not in raw_types:
        given = given[:100] or "not given"
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, f"The content type is {given}; {how}.")
    return kind


def _files(
    headers: Headers, body: bytes, field: str, max_files: int, how: str
) -> list[bytes | ProblemError]:
    """The files of a form (RFC 7578), which must contain nothing else.

    Raises:
        ProblemError: the body is not a form, is incomplete, or has other or too many fields.
    """
    try:
        form = _form(headers["content-type"], body, max_files)
    except MultiPartException as error:
        raise ProblemError(
            INVALID_UPLOAD,
            f"The upload cannot be read ({error.message}); {how}, and nothing else. "
            "Parameters belong in the address, as in ?length=5.",
        ) from None
    files: list[bytes | ProblemError] = []
    wrong = ""
    for name, value in form.multi_items():
        what = "text field" if isinstance(value, str) else "file"
        if not isinstance(value, str):
            with value.file as file:
                files.append(file.read())
        if name != field or isinstance(value, str):
            wrong = f"The upload has the {what} {name[:_MAX_NAME_CHARACTERS]!r}; {how}."
    if wrong:
        raise ProblemError(INVALID_UPLOAD, wrong)
    return files


def _form(content_type: str, body: bytes, max_files: int) -> FormData:
    """The fields of a form.

    Raises:
        MultiPartException: the body is not a form, is incomplete, or has too many parts.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    boundary = b""
    if content_type.count(";") <= _MAX_SEMICOLONS:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise MultiPartException(
            f"the content type has no boundary, or over {_MAX_SEMICOLONS} semicolons"
        )
    if b"--" + boundary + b"--" not in body:
        raise MultiPartException("the last boundary is missing")
    # The parser goes through false boundaries byte by byte. Each part has one boundary before it,
    # and one ends the form.
    if body.count(b"--" + boundary) > max_files + 1:
        raise MultiPartException(f"it has more than {max_files} part{'s' * (max_files != 1)}")
    if _has_padding(body, b"--" + boundary):
        raise MultiPartException("over 16 blanks follow a boundary")
    # Passes no charset on: decoding a megabyte of punycode takes half an hour, and Python caches
    # the name of every unknown charset.
    quoted = boundary.replace(b"\\", rb"\\").replace(b'"', rb"\"")
    plain = Headers(raw=[(b"content-type", b'%b; boundary="%b"' % (_FORM.encode(), quoted))])
    parser = _FormParser(plain, stream(), max_files=max_files, max_fields=1)
    try:
        # The coroutine never waits, since the whole form is in memory.
        parser.parse().send(None)
    except StopIteration as ended:
        form: FormData = ended.value
    return form


def _has_padding(body: bytes, boundary: bytes) -> bool:
    """Whether too many blanks follow one of the boundaries."""
    at = body.find(boundary)
    while at >= 0 and not _BLANKS.match(body, at + len(boundary)):
        at = body.find(boundary, at + 1)
    return at >= 0


def _member(body: bytes, name: str, max_pictures: int, how: str) -> Any:
    """The value of a JSON object's only member.

    Raises:
        ProblemError: the body is not such an object.
    """
    # A picture takes one comma in a list, and one in a data URL. A million empty lists instead of
    # pictures would take many times their bytes in memory, and time of the event loop.
    if body.count(b",") > 2 * max_pictures + _SPARE_COMMAS:
        raise ProblemError(
            INVALID_UPLOAD, f"The JSON has more members than {max_pictures} pictures take; {how}."
        )
    document = parse_json(body)
    if document is INVALID:
        raise ProblemError(INVALID_UPLOAD, f"The body is not JSON; {how}.")
    if not isinstance(document, dict) or set(document) != {name}:
        raise ProblemError(
            INVALID_UPLOAD, f"The JSON is not an object with the one member {name!r}; {how}."
        )
    return document[name]


def parse_json(body: bytes) -> Any:
    """Parses JSON; returns `INVALID` if the body is not JSON.

    Characters beyond ASCII are replaced by others, since base64 has none of them. A single one in a
    string could make Python take four bytes for each of the eight million letters around it.
    """
    body, found = _BEYOND_LATIN_1.subn(b"!", body, _MAX_BEYOND_LATIN_1 + 1)
    if found > _MAX_BEYOND_LATIN_1:
        return INVALID
    try:
        return json.loads(body.removeprefix(codecs.BOM_UTF8).decode("latin-1"))
    except (ValueError, RecursionError):
        return INVALID  # the exception would keep the body in memory


def _decoded(text: object, how: str) -> bytes | ProblemError:
    """Decodes a picture in base64, bare or as a data URL (RFC 2397); returns an error if invalid.

    The error is not raised, since its traceback would keep the text in memory.
    """
    if not isinstance(text, str):
        return ProblemError(INVALID_UPLOAD, f"The picture is not a string; {how}.")
    picture = decode_base64(text.partition(",")[2] if text.startswith("data:") else text)
    if picture is None:
        return ProblemError(INVALID_UPLOAD, f"The picture is not base64; {how}.")
    return picture
