"""What calling the service can raise.

ClientError
├── ProblemError           the service refused, and said why
├── UnexpectedAnswerError  whatever answered is not this service, or of another version
└── UnreachableError       no answer came: no connection, or it broke or took too long
"""


class ClientError(Exception):
    """Base of all that the client raises on purpose."""


class ProblemError(ClientError):
    """The service refused, and said why (RFC 9457).

    Args:
        type: names the kind of problem; the same for every occurrence.
        title: the kind of problem in words.
        status: the HTTP status code.
        detail: what was wrong this time, and what would be right.
    """

    def __init__(self, type: str, title: str, status: int, detail: str) -> None:  # noqa: A002
        super().__init__(f"{status} {title}: {detail}")
        self.type = type
        self.title = title
        self.status = status
        self.detail = detail


class UnexpectedAnswerError(ClientError):
    """Whatever answered is not this service, or of another version."""


class UnreachableError(ClientError):
    """No answer came: no connection, or it broke or took too long."""
