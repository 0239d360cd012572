"""A client of the captcha-ocr service, sync (`Client`) and async (`AsyncClient`)."""

from captcha_ocr_client.answers import (
    Alternative,
    Character,
    Model,
    ModelReference,
    Prediction,
    Problem,
)
from captcha_ocr_client.client import AsyncClient, Client, Picture, Question
from captcha_ocr_client.exceptions import (
    ClientError,
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
)
from captcha_ocr_client.retry import Retry

__all__ = [
    "Alternative",
    "AsyncClient",
    "Character",
    "Client",
    "ClientError",
    "Model",
    "ModelReference",
    "Picture",
    "Prediction",
    "Problem",
    "ProblemError",
    "Question",
    "Retry",
    "UnexpectedAnswerError",
    "UnreachableError",
]
