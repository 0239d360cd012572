"""The clients: one that waits, and one for asyncio."""

import asyncio
import itertools
import time
from collections.abc import Iterable
from typing import Any, Self, TypeVar, Unpack

import httpx2

from service.client.answers import Model, Prediction, Problem
from service.client.calls import (
    Call,
    Picture,
    Question,
    answer_of,
    batch_call,
    health_call,
    model_call,
    predict_call,
    reaching,
)
from service.client.retry import Retry

T = TypeVar("T")

_ONCE = Retry(attempts=1)


class _Caller:
    """What both clients share.

    Args:
        address: of the service.
        api_key: sent as `X-API-Key`, to a service that asks for one.
        timeout: seconds to wait for a connection, or for more of an answer.
        retry: how long to insist where the service is overloaded or not ready.

    Raises:
        ValueError: the address is none of HTTP.
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
        headers = {} if api_key is None else {"X-API-Key": api_key}
        self._open(base_url=address, headers=headers, timeout=timeout)

    def _open(self, **options: Any) -> None:
        raise NotImplementedError


def _request(call: Call[Any]) -> dict[str, Any]:
    """What the clients of HTTP take as arguments."""
    return {"method": call.method, "url": call.path, "params": call.params, "files": call.files}


class Client(_Caller):
    """Calls the service; may be used by several threads, and closes at the end of a `with`."""

    def _open(self, **options: Any) -> None:
        self._http = httpx2.Client(**options)

    def predict(self, picture: Picture, **question: Unpack[Question]) -> Prediction:
        """Reads a picture.

        Args:
            picture: the bytes of a file, or its path.
            question: as the parameters of `POST /predict`.

        Raises:
            ProblemError: the picture or the question is refused, or the service is overloaded.
            UnreachableError, UnexpectedAnswerError
            OSError: there is no such file.
        """
        return self._send(predict_call(picture, question), self._retry)

    def predict_batch(
        self, pictures: Iterable[Picture], **question: Unpack[Question]
    ) -> list[Prediction | Problem]:
        """Reads several pictures with one request; what became of each, in their order.

        Args:
            pictures: at most as many as the service's `OCR_MAX_BATCH`.
            question: as of `predict`, the same for all of them.

        Raises:
            ProblemError: the request as a whole is refused.
            Others: as of `predict`.
        """
        given = list(pictures)
        return self._send(batch_call(given, question), self._retry) if given else []

    def model(self) -> Model:
        """The model that is served; errors are those of `predict`."""
        return self._send(model_call(), self._retry)

    def live(self) -> bool:
        """Whether the process answers; UnreachableError where nothing does."""
        return self._send(health_call("live"), _ONCE)

    def ready(self) -> bool:
        """Whether pictures can be read now; UnreachableError where nothing answers."""
        return self._send(health_call("ready"), _ONCE)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T], retry: Retry) -> T:
        started = time.monotonic()
        for attempt in itertools.count(1):
            with reaching(self._address):
                response = self._http.request(**_request(call))
            pause = retry.pause(response, attempt, time.monotonic() - started)
            if pause is None:
                break
            time.sleep(pause)
        return answer_of(call, response)


class AsyncClient(_Caller):
    """The same for asyncio; closes at the end of an `async with`."""

    def _open(self, **options: Any) -> None:
        self._http = httpx2.AsyncClient(**options)

    async def predict(self, picture: Picture, **question: Unpack[Question]) -> Prediction:
        """As `Client.predict`."""
        return await self._send(predict_call(picture, question), self._retry)

    async def predict_batch(
        self, pictures: Iterable[Picture], **question: Unpack[Question]
    ) -> list[Prediction | Problem]:
        """As `Client.predict_batch`."""
        given = list(pictures)
        return await self._send(batch_call(given, question), self._retry) if given else []

    async def model(self) -> Model:
        """As `Client.model`."""
        return await self._send(model_call(), self._retry)

    async def live(self) -> bool:
        """As `Client.live`."""
        return await self._send(health_call("live"), _ONCE)

    async def ready(self) -> bool:
        """As `Client.ready`."""
        return await self._send(health_call("ready"), _ONCE)

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[T], retry: Retry) -> T:
        started = time.monotonic()
        for attempt in itertools.count(1):
            with reaching(self._address):
                response = await self._http.request(**_request(call))
            pause = retry.pause(response, attempt, time.monotonic() - started)
            if pause is None:
                break
            await asyncio.sleep(pause)
        return answer_of(call, response)
