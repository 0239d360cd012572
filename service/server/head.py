"""Bounds the headers of requests, and what frames their bodies, while they arrive."""

_LINE_BYTES = len(b": \r\n")
"""Of a header, beside its name and value."""

MOST_FIELDS = 100
"""Each takes memory, however short; browsers send twenty, proxies add some."""

CHUNK_BYTES = 64
"""That a chunk of a body has at least, on the average: each takes the event loop's time."""

_SPARE_CHUNKS = 4096
"""That may have nearly none, so that a small picture may come byte by byte."""


class HeadTooLargeError(ValueError):
    """Raised in a callback of the parser, it stops it."""


class TooManyChunksError(ValueError):
    """It does so, too."""


class Head:
    """What the headers of the request that is arriving have taken.

    Args:
        most_bytes: lines of one request's headers, and its address.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._arrived = self._found = self._fields = 0
        """Bytes since the headers began, and the bytes and number of those found in them."""
        self._data = self._others = 0
        """What has just arrived, and how much of it may belong to requests before this one."""
        self._lacking = 0
        """Bytes of the body that there would have to be more, for its chunks."""

    @property
    def too_large(self) -> bool:
        """Whether there have been more than allowed."""
        return self._arrived > self._most or self._fields > MOST_FIELDS

    @property
    def too_many_chunks(self) -> bool:
        """Whether the body comes in smaller pieces than allowed."""
        return self._lacking > _SPARE_CHUNKS * CHUNK_BYTES

    def received(self, size: int) -> None:
        """So many bytes are about to be parsed."""
        self._data, self._others = size, 0

    def parsed(self) -> None:
        """They have been, and end within the headers: what began in them is counted as a whole.

        Or within what frames a chunked body, all of them: the size of a chunk, and what extends it,
        or fields behind the last one (RFC 9112, 7.1).
        """
        self._arrived += self._data

    def body_arrived(self, size: int) -> None:
        """So many bytes of the body have been found among them: it is not framed without end."""
        self._arrived = 0
        self._lacking -= size

    def chunk(self) -> None:
        """Another chunk of the body begins.

        Raises:
            TooManyChunksError: those before it have too few bytes.
        """
        self._lacking += CHUNK_BYTES
        if self.too_many_chunks:
            raise TooManyChunksError

    def begin(self) -> None:
        """A request begins."""
        self._arrived, self._found, self._fields = -self._others, 0, 0
        self._lacking = 0

    def header(self, name: bytes, value: bytes) -> None:
        """There is another header.

        Raises:
            HeadTooLargeError: it is one too many.
        """
        # As lines, for a thousand without a value take memory, too; and while they are parsed,
        # for what arrives at once may be very many times the limit.
        self._found += len(name) + len(value) + _LINE_BYTES
        self._fields += 1
        self.bound()

    def bound(self, address: int = 0) -> None:
        """Bounds the headers, and an address of so many bytes.

        Raises:
            HeadTooLargeError: there are too many.
        """
        if address + self._found > self._most or self._fields > MOST_FIELDS:
            self._arrived = address + self._found
            raise HeadTooLargeError

    def end_of_request(self) -> None:
        """What arrives from now on belongs to the next one."""
        self._others = self._data
