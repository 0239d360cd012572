"""The clients of the service: `Client` blocks, `AsyncClient` is for asyncio.

Every method builds a `Call`, which says what to send and how to read the answer. The two clients
differ only in how they send it.
"""

import asyncio
import io
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Self, TypedDict, TypeVar, Union, Unpack

import httpx2

from captcha_ocr_client.answers import Model, Prediction, Problem
from captcha_ocr_client.exceptions import ProblemError, UnexpectedAnswerError, UnreachableError
from captcha_ocr_client.retry import UNAVAILABLE, Retry

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

Picture = Union[bytes, str, "PathLike[str]", BinaryIO, "Image"]
"""The bytes of a picture file, its path, a file opened for reading bytes, or a Pillow image."""


class Question(TypedDict, total=False):
    """The query parameters of `POST /predict`. None means the default of the service."""

    alternatives: int | None
    length: int | str | None
    alphabet: str | None
    pattern: str | None
    min_confidence: float | None
    region: str | None


_LONGEST_EXCERPT = 200
_MAX_BYTES = 32 << 20
"""Largest answer, in bytes; 1024 predictions with alternatives have about 2 MB."""

_ONCE = Retry(attempts=1)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how to read its answer."""

    method: str
    path: str
    read: Callable[[Mapping[str, Any]], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] | None = None
    unavailable: T | None = None
    """The result of a 503; None if a 503 is an error."""

    def request(self) -> dict[str, Any]:
        """The arguments of httpx2's `request`."""
        return {"method": self.method, "url": self.path, "params": self.params, "files": self.files}

    def result(self, response: httpx2.Response, content: bytes) -> T:
        """Reads the response.

        Args:
            content: the body of the response.

        Raises:
            ProblemError: the response is a problem of the service.
            UnexpectedAnswerError: the response is not from the service.
        """
        try:
            if response.is_success:
                return self.read(json.loads(content))
            if response.status_code == UNAVAILABLE and self.unavailable is not None:
                return self.unavailable
            problem = Problem.from_json({**json.loads(content), "status": response.status_code})
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            excerpt = content[:_LONGEST_EXCERPT].decode("utf-8", "replace")
            raise UnexpectedAnswerError(
                f"{self.method} {response.url} was answered with {response.status_code} and "
                f"{excerpt!r}, which is not an answer of captcha-ocr."
            ) from error
        raise ProblemError(problem.type, problem.title, problem.status, problem.detail)


def _predict(picture: Picture, question: Question) -> Call[Prediction]:
    files = [_form_file("file", picture)]
    return Call("POST", "/predict", Prediction.from_json, _params(question), files)


def _predict_batch(
    pictures: Sequence[Picture], question: Question
) -> Call[list[Prediction | Problem]]:
    def read(answer: Mapping[str, Any]) -> list[Prediction | Problem]:
        outcomes = [_outcome(item) for item in answer["answers"]]
        if len(outcomes) != len(pictures):
            raise ValueError(f"{len(outcomes)} answers to {len(pictures)} pictures")
        return outcomes

    files = [_form_file("files", picture) for picture in pictures]
    return Call("POST", "/predict/batch", read, _params(question), files)


def _outcome(item: Mapping[str, Any]) -> Prediction | Problem:
    if item["problem"] is not None:
        return Problem.from_json(item["problem"])
    return Prediction.from_json(item["prediction"])


def _model() -> Call[Model]:
    return Call("GET", "/model", Model.from_json)


def _health(kind: str) -> Call[bool]:
    return Call("GET", f"/health/{kind}", lambda _: True, unavailable=False)


def _params(question: Question) -> Mapping[str, Any]:
    return {name: value for name, value in question.items() if value is not None}


def _form_file(field: str, picture: Picture) -> tuple[str, tuple[str, bytes]]:
    # File names may be private, so every file is sent under the same name.
    return field, ("picture", _bytes_of(picture))


def _bytes_of(picture: Picture) -> bytes:
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | PathLike):
        return Path(picture).read_bytes()
    if isinstance(picture, io.TextIOBase):
        raise TypeError("the file is open for text; open it with mode 'rb'")
    if hasattr(picture, "read"):
        return picture.read()
    if hasattr(picture, "save"):
        return _png_of(picture)
    raise TypeError(
        f"{type(picture).__name__} is not a picture: pass bytes, a path, an open file or a "
        "Pillow image"
    )


def _png_of(image: "Image") -> bytes:
    """Encodes a Pillow image as PNG, turned upright as the service turns a file."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("CMYK", "HSV", "LAB", "YCbCr"):  # modes that PNG lacks
        upright = upright.convert("RGB")
    png = io.BytesIO()
    upright.save(png, "PNG")
    return png.getvalue()


def _check_size(response: httpx2.Response, content: bytearray) -> None:
    if len(content) > _MAX_BYTES:
        raise UnexpectedAnswerError(
            f"{response.request.method} {response.url} was answered with {response.status_code} "
            f"and more than {_MAX_BYTES:,} bytes, which is not an answer of captcha-ocr."
        )


@contextmanager
def _network_errors(address: str) -> Iterator[None]:
    """Turns the network errors of httpx2 into `UnreachableError`."""
    try:
        yield
    except httpx2.RequestError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"no answer from {address}: {reason}") from error


class _BaseClient:
    """The arguments of both clients.

    Args:
        address: the URL of the service; it may have a path.
        api_key: sent as `X-API-Key`.
        timeout: seconds to wait for a connection, or for the next bytes of an answer.
        retry: how often to repeat a request that is answered with 429 or 503.

    Raises:
        ValueError: the address does not begin with http:// or https://.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retry: Retry | None = None,
    ) -> None:
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"the address {address!r} does not begin with http:// or https://")
        self._address = address
        self._retry = retry or Retry()
        # A megabyte of compressed data may expand to a gigabyte at once.
        headers = {"Accept-Encoding": "identity"}
        if api_key is not None:
            headers["X-API-Key"] = api_key
        self._open(base_url=address, headers=headers, timeout=timeout)

    def _open(self, **options: Any) -> None:
        raise NotImplementedError


class Client(_BaseClient):
    """A blocking client. Threads may share it; leaving its `with` block closes it."""

    def _open(self, **options: Any) -> None:
        self._http = httpx2.Client(**options)

    def predict(self, picture: Picture, **question: Unpack[Question]) -> Prediction:
        """Reads the text in a picture.

        Args:
            picture: bytes of a file, a path, a file opened for reading bytes, or a Pillow image.
            question: query parameters of `POST /predict`, such as `length="4-6"`.

        Raises:
            ProblemError: the service refuses the picture or the question, or is overloaded.
            UnreachableError: no answer came.
            UnexpectedAnswerError: another server answered.
            OSError: the file cannot be read.
        """
        return self._send(_predict(picture, question), self._retry)

    def predict_batch(
        self, pictures: Iterable[Picture], **question: Unpack[Question]
    ) -> list[Prediction | Problem]:
        """Reads several pictures with one request.

        Args:
            pictures: at most `OCR_MAX_BATCH` of the service.
            question: query parameters, the same for all pictures.

        Returns:
            For each picture, in order, its prediction or the problem with it.

        Raises:
            ProblemError: the service refuses the request as a whole.
            UnreachableError, UnexpectedAnswerError, OSError: as in `predict`.
        """
        given = list(pictures)
        return self._send(_predict_batch(given, question), self._retry) if given else []

    def model(self) -> Model:
        """Describes the model that is served. Raises what `predict` raises."""
        return self._send(_model(), self._retry)

    def live(self) -> bool:
        """Whether the process answers. Raises `UnreachableError` if nothing does."""
        return self._send(_health("live"), _ONCE)

    def ready(self) -> bool:
        """Whether the service can read pictures now. Raises `UnreachableError`, as `live`."""
        return self._send(_health("ready"), _ONCE)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T], retry: Retry) -> T:
        started = time.monotonic()
        for attempt in itertools.count(1):
            with _network_errors(self._address):
                response, content = self._answer(call)
            pause = retry.pause(response, attempt, time.monotonic() - started)
            if pause is None:
                break
            time.sleep(pause)
        return call.result(response, content)

    def _answer(self, call: Call[T]) -> tuple[httpx2.Response, bytes]:
        with self._http.stream(**call.request()) as response:
            content = bytearray()
            for part in response.iter_raw():
                content += part
                _check_size(response, content)
        return response, bytes(content)


class AsyncClient(_BaseClient):
    """The client for asyncio. Leaving its `async with` block closes it."""

    def _open(self, **options: Any) -> None:
        self._http = httpx2.AsyncClient(**options)

    async def predict(self, picture: Picture, **question: Unpack[Question]) -> Prediction:
        """Reads the text in a picture; see `Client.predict`."""
        # A thread reads files and encodes images, not the event loop.
        call = await asyncio.to_thread(_predict, picture, question)
        return await self._send(call, self._retry)

    async def predict_batch(
        self, pictures: Iterable[Picture], **question: Unpack[Question]
    ) -> list[Prediction | Problem]:
        """Reads several pictures with one request; see `Client.predict_batch`."""
        given = list(pictures)
        if not given:
            return []
        call = await asyncio.to_thread(_predict_batch, given, question)
        return await self._send(call, self._retry)

    async def model(self) -> Model:
        """Describes the model that is served; see `Client.model`."""
        return await self._send(_model(), self._retry)

    async def live(self) -> bool:
        """Whether the process answers; see `Client.live`."""
        return await self._send(_health("live"), _ONCE)

    async def ready(self) -> bool:
        """Whether the service can read pictures now; see `Client.ready`."""
        return await self._send(_health("ready"), _ONCE)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[T], retry: Retry) -> T:
        started = time.monotonic()
        for attempt in itertools.count(1):
            with _network_errors(self._address):
                response, content = await self._answer(call)
            pause = retry.pause(response, attempt, time.monotonic() - started)
            if pause is None:
                break
            await asyncio.sleep(pause)
        return call.result(response, content)

    async def _answer(self, call: Call[T]) -> tuple[httpx2.Response, bytes]:
        async with self._http.stream(**call.request()) as response:
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                _check_size(response, content)
        return response, bytes(content)
