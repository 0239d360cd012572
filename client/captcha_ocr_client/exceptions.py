"""The exceptions of the client.

ClientError
├── ProblemError           the service refused the request, and said why
├── UnexpectedAnswerError  the answer is not from this service, or from an incompatible version
└── UnreachableError       no answer came: no connection, or it broke or timed out
"""


class ClientError(Exception):
    """Base of the errors of this package."""


class ProblemError(ClientError):
    """The service refused the request, and said why (RFC 9457).

    Args:
        type: the kind of problem, such as `/problems/overloaded`.
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
    """The answer is not from this service, or from an incompatible version."""


class UnreachableError(ClientError):
    """No answer came: no connection, or it broke or timed out."""
