"""Heads of requests that were refused: of the same bytes a parser makes the same again."""

from collections.abc import Iterable

_END = b"\r\n\r\n"
_LONGEST = 1024
"""Bytes of a head and its end."""

_MOST = 1024
"""Heads. Clients repeat theirs, but for the length of the picture."""


class FamiliarHeads:
    """Recognizes requests of which only the body may be new."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, int] = {}
        """How many bytes follow a head."""

    def recognize(self, data: bytes) -> bool:
        """Whether the data are one whole request with a familiar head.

        Args:
            data: begin where a request does.
        """
        end = data.find(_END, 0, _LONGEST)
        return end >= 0 and self._bodies.get(data[:end]) == len(data) - end - len(_END)

    def remember(self, data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Makes the head of a request familiar, unless it does not tell where the request ends.

        Args:
            data: begin where the request does; with their last byte, it has arrived as a whole.
            headers: of the request.
        """
        head, _, body = data.partition(_END)
        framing = [v for name, v in headers if name in (b"content-length", b"transfer-encoding")]
        if len(head) + len(_END) > _LONGEST or framing != [b"%d" % len(body)]:
            return
        if len(self._bodies) >= _MOST:
            del self._bodies[next(iter(self._bodies))]
        self._bodies[head] = len(body)
