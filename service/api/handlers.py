"""Answers requests: admission, upload, question, reading, answer.

`Engine` holds the objects that requests share while the application runs.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from service.api import serializers
from service.api.auth import KEY_NAME, ApiKeys
from service.api.errors import NOT_READY, ProblemError, problem_error, problem_of
from service.api.rate_limit import RateLimit
from service.api.uploads import read_picture, read_pictures
from service.observability.metrics import Metrics
from service.observability.request_timing import REQUEST_TIMING, RequestTiming
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import SlowPictureError
from service.query_params import Questions
from service.runtime.batcher import Batcher, Caller
from service.runtime.cpu_budget import cpu_threads
from service.runtime.predictor import Outcome, Predictor, Times
from service.settings import Settings

T = TypeVar("T")

CLIENT_GONE = "captcha_ocr.client_gone"
"""The ASGI extension by which the server tells whether the client has closed the connection."""


class Engine:
    """The objects that requests share: model, threads, limits, keys and metrics.

    Args:
        keys: checks the API keys of requests.
        rate_limit: limits the pictures of each key.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: Settings,
        metrics: Metrics,
        keys: ApiKeys,
        rate_limit: RateLimit,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.predictor = predictor
        self.reloads = 0
        self.reload_error: str | None = None
        self.batcher = Batcher(
            settings.threads or cpu_threads(settings.workers),
            settings.queue_requests,
            settings.queue_ms / 1000,
            metrics.worked,
            lambda outcome: outcome.seconds if isinstance(outcome, Outcome) else 0.0,
        )
        self._keys = keys
        self._limit = rate_limit
        metrics.started(self.batcher)
        metrics.serves(predictor.metadata.name, predictor.metadata.version)

    def switch(self, predictor: Predictor) -> None:
        """Switches to another model; requests that have begun finish with the old model."""
        self.predictor = predictor
        self.reloads += 1
        self.reload_error = None
        self.metrics.serves(predictor.metadata.name, predictor.metadata.version)

    def reload_failed(self, reason: str) -> None:
        """Records why the newest model is not served."""
        self.reload_error = reason
        self.metrics.reload_failed()

    def admit(self, request: Request, batch: bool = False) -> None:
        """Admits a request for reading pictures, or refuses it before its body is read.

        Args:
            batch: as for `Batcher.admit`.

        Raises:
            ProblemError: the API key is missing or wrong, or has had too many pictures read.
            OverloadedError: there is no room for the request.
        """
        name = self.authorize(request)
        self.batcher.admit(caller_of(request), batch)
        if name is not None:
            self._limit.charge(name, 1)

    def authorize(self, request: Request) -> str | None:
        """The name of the request's API key; None if the service has no keys.

        Raises:
            ProblemError: the key is missing or wrong, or has had too many pictures read.
        """
        name = self._keys.authenticate(request)
        if name is not None:
            self._limit.check(name)
        return name

    def charge(self, request: Request, pictures: int) -> None:
        """Charges the pictures of an admitted request to its API key."""
        name = request.scope.get(KEY_NAME)
        if name is not None:
            # The admission has charged one picture, also if no picture of a batch can be read.
            self._limit.charge(name, max(0, pictures - 1))
            self.metrics.key_pictures(name, pictures)

    async def ask(self, request: Request, questions: Questions) -> tuple[Question, float]:
        """The question of a request's query, and the least confidence that is accepted.

        Raises:
            InvalidParameterError: names the parameter, what was given and what is allowed.
        """
        query = request.scope["query_string"]
        if not query:
            return questions.default
        asked = questions.ask_cached(query)
        if asked is not None:
            return asked
        # Compiling a pattern may take longer than reading several pictures.
        return await self.batcher.run(lambda: questions.ask(query), caller_of(request), slow=True)

    async def read(
        self, request: Request, predictor: Predictor, pictures: Sequence[bytes], question: Question
    ) -> list[Outcome]:
        """Reads pictures; an outcome for each, in their order.

        Raises:
            OverloadedError, ClientGoneError: as for `Batcher.submit`.
        """
        caller = caller_of(request)
        self.charge(request, len(pictures))
        items = [(picture, question) for picture in pictures]
        read_slow = partial(predictor.read, slow=True)
        if question.is_slow:
            outcomes = await self.batcher.submit(read_slow, items, caller, slow=True)
        else:
            outcomes = await self.batcher.submit(predictor.read, items, caller)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome.reading, SlowPictureError):
                (outcomes[index],) = await self.batcher.submit(
                    read_slow, [items[index]], caller, slow=True
                )
        times = set()
        for picture, outcome in zip(pictures, outcomes, strict=True):
            if isinstance(outcome.reading, Reading):
                self.metrics.read(len(picture), outcome.reading)
                times.add(outcome.times)
        note_times(request, predictor, times)
        return outcomes

    async def respond(
        self,
        request: Request,
        answer: Callable[[], dict[str, Any]],
        question: Question,
        batch: bool = False,
    ) -> Response:
        """The response to a question. Documents with a matrix are large, so a thread makes them."""

        def body() -> bytes:
            return to_json(answer())

        if question.matrix:
            content = await self.batcher.run(body, caller_of(request), batch=batch)
        else:
            content = body()
        return Response(content, media_type="application/json")


def engine_of(request: Request) -> Engine:
    """The engine of the running application.

    Raises:
        ProblemError: there is no engine, because the application is starting or ending.
    """
    engine: Engine | None = getattr(request.app.state, "engine", None)
    if engine is None:
        raise ProblemError(NOT_READY, "No model has been loaded and checked yet.")
    return engine


@lru_cache(1024)  # each request asks several times
def network_of(client: tuple[str, int] | None) -> str:
    """Identifies a client: its IPv4 address, or the first half of its IPv6 address.

    Clients may choose the second half freely (RFC 4291, 2.5.4). Empty for a Unix socket.
    """
    address = client[0] if client else ""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address)
    except ValueError:  # a proxy may send any text as an address
        return address
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))


def caller_of(request: Request) -> Caller:
    """The caller of the work for a request."""
    is_gone = request.scope.get("extensions", {}).get(CLIENT_GONE, lambda: False)
    return Caller(network_of(request.client), is_gone)


async def received(request: Request, body: Awaitable[T]) -> T:
    """Awaits what is read from a request's body, and records the time in the request's timing."""
    timing: RequestTiming = request.scope[REQUEST_TIMING]
    timing.receive_began = time.perf_counter()
    upload = await body
    timing.receive_ended = time.perf_counter()
    return upload


def note_times(request: Request, predictor: Predictor, times: set[Times]) -> None:
    """Records the times of pictures, and the model that read them, in their request's timing."""
    timing: RequestTiming = request.scope[REQUEST_TIMING]
    timing.reads = sorted(times)
    timing.model_version = predictor.metadata.version


async def predict(request: Request) -> Response:
    """Reads one picture, sent as the body itself, as the file of a form, or as base64 in JSON. A
    picture without text gives an empty text.
    """
    engine = engine_of(request)
    engine.admit(request)
    predictor = engine.predictor
    question, min_confidence = await engine.ask(request, predictor.questions)
    run = partial(engine.batcher.run, caller=caller_of(request))
    picture = await received(request, read_picture(request, engine.settings.max_upload_bytes, run))
    (outcome,) = await engine.read(request, predictor, [picture], question)
    reading = outcome.reading
    if not isinstance(reading, Reading):
        raise problem_error(reading)
    return await engine.respond(
        request,
        lambda: serializers.prediction(reading, predictor.metadata, min_confidence),
        question,
    )


async def predict_batch(request: Request) -> Response:
    """Reads several pictures, and answers in their order. A picture that cannot be read gets a
    problem instead of a prediction.
    """
    engine = engine_of(request)
    engine.admit(request, batch=True)
    settings = engine.settings
    predictor = engine.predictor
    question, min_confidence = await engine.ask(request, predictor.questions)
    limits = settings.max_batch, settings.max_batch_bytes, settings.max_upload_bytes
    run = partial(engine.batcher.run, caller=caller_of(request), batch=True)
    uploads = await received(request, read_pictures(request, *limits, run))
    pictures = [upload for upload in uploads if isinstance(upload, bytes)]
    outcomes = iter(await engine.read(request, predictor, pictures, question))

    def answer(upload: bytes | ProblemError) -> dict[str, Any]:
        result = next(outcomes).reading if isinstance(upload, bytes) else upload
        if isinstance(result, Reading):
            prediction = serializers.prediction(result, predictor.metadata, min_confidence)
            return {"prediction": prediction, "problem": None}
        error = problem_error(result)
        return {"prediction": None, "problem": problem_of(error.kind, error.detail).model_dump()}

    return await engine.respond(
        request, lambda: {"answers": [answer(upload) for upload in uploads]}, question, batch=True
    )
