"""Takes the picture out of a multipart upload, reading no more of it than is allowed."""

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from service.problems import (
    INVALID_UPLOAD,
    UNSUPPORTED_MEDIA_TYPE,
    UPLOAD_TOO_LARGE,
    ProblemError,
)

FIELD = "file"

_ENVELOPE_BYTES = 4096
"""What boundaries and part headers of an upload with one file may add to the file itself."""

_HOW = f"send the picture as a file in the multipart/form-data field {FIELD!r}"


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """The bytes of the one file in the field `file`.

    Args:
        max_bytes: of the file.

    Raises:
        ProblemError: not a multipart upload, malformed, no such field, or too large.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        given = content_type or "not given"
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, f"The content type is {given}; {_HOW}.")
    bounded = Request(request.scope, _bounded(request, max_bytes))
    try:
        async with bounded.form(max_files=1, max_fields=0) as form:
            upload = form.get(FIELD)
            if not isinstance(upload, UploadFile):
                names = ", ".join(map(repr, form)) or "none"
                raise ProblemError(INVALID_UPLOAD, f"The upload's fields are: {names}; {_HOW}.")
            if upload.size is not None and upload.size > max_bytes:
                raise _too_large(max_bytes)
            return await upload.read()
    except (HTTPException, UnicodeError) as error:
        # Starlette decodes names by a charset that the sender may choose.
        reason = error.detail if isinstance(error, HTTPException) else "a name cannot be decoded"
        raise ProblemError(
            INVALID_UPLOAD, f"The upload cannot be read ({reason}); {_HOW}, and nothing else."
        ) from error


def _bounded(request: Request, max_bytes: int) -> Receive:
    """The request's messages, until its body is larger than an upload may be.

    A length that is declared is checked before anything is read.
    """
    limit = max_bytes + _ENVELOPE_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(max_bytes)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(max_bytes)
        return message

    return receive


def _too_large(max_bytes: int) -> ProblemError:
    # The rest of the body is not read, so the connection cannot be used again.
    return ProblemError(
        UPLOAD_TOO_LARGE,
        f"The upload is too large; a picture may have at most {max_bytes} bytes.",
        {"Connection": "close"},
    )
