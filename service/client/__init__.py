"""A client of the service: `pip install .[client]`; it needs nothing that the service needs."""

from service.client.answers import (
    Alternative,
    Character,
    Model,
    ModelReference,
    Prediction,
    Problem,
)
from service.client.clients import AsyncClient, Client
from service.client.exceptions import (
    ClientError,
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
)
from service.client.retry import Retry

__all__ = [
    "Alternative",
    "AsyncClient",
    "Character",
    "Client",
    "ClientError",
    "Model",
    "ModelReference",
    "Prediction",
    "Problem",
    "ProblemError",
    "Retry",
    "UnexpectedAnswerError",
    "UnreachableError",
]
