"""Takes a multipart/form-data body apart (RFC 7578)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_LONGEST_NAME = 200

_MOST_PADDING = 64
"""Spaces behind a boundary, which RFC 2046 has receivers bear with and senders leave out."""


class MalformedError(Exception):
    """The body is not what its content type says; the text says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a body; `filename` is None where the part is no file."""

    name: str
    filename: str | None
    data: memoryview


def parts_of(content_type: str, body: bytes, most: int) -> list[Part]:
    """The parts of a whole body, in their order.

    Args:
        content_type: the header, with its boundary.
        most: parts that there may be.

    Raises:
        MalformedError: no boundary, cut short, without names, or of too many parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedError("the content type has no boundary")
    _check_boundaries(body, b"\r\n--" + boundary, most)
    collector = _Collector(most)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise MalformedError(str(error)) from error
    if not collector.complete:
        raise MalformedError("the last boundary is missing")
    return collector.parts


def _check_boundaries(body: bytes, delimiter: bytes, most: int) -> None:
    """Refuses what the parser would take byte by byte: endless boundaries, and endless padding."""
    if body.count(delimiter) > most + 1:  # each part has one behind it, the first one before it too
        raise _too_many(most)
    at = body.find(delimiter)
    while at >= 0:
        end = at + len(delimiter)
        if body[end : end + _MOST_PADDING + 1].isspace():
            raise MalformedError(f"a boundary is followed by over {_MOST_PADDING} spaces")
        at = body.find(delimiter, end)


def _too_many(most: int) -> MalformedError:
    return MalformedError(f"it has more than {most} part{'s' * (most != 1)}")


class _Collector:
    """Gathers what the parser finds, without copying it where that can be avoided."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._most = most
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._pieces: list[memoryview] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._header_value,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._most:
            raise _too_many(self._most)
        self._headers = {}
        self._pieces = []

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        # Not always a part of the body: the parser hands back what merely began like a boundary.
        self._pieces.append(memoryview(data)[start:end])

    def _end(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise MalformedError("a part has no name")
        filename = options.get(b"filename")
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        self.parts.append(
            Part(_text(options[b"name"]), None if filename is None else _text(filename), data)
        )

    def _finish(self) -> None:
        self.complete = True


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:_LONGEST_NAME]
