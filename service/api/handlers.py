"""What the endpoints share while the application runs: model, threads, limits and keys."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from starlette.requests import Request

from service.api import serializers as answers
from service.api.auth import ApiKeys
from service.api.errors import NOT_READY, ProblemError, response_to
from service.api.uploads import read_picture, read_pictures
from service.observability.metrics import Metrics
from service.observability.request_timing import Timeline
from service.ocr.decoding.decoder import Question
from service.ocr.recognizer import Recognizer
from service.runtime.batcher import OverloadedError, Pool
from service.runtime.cpu_budget import cpu_threads
from service.runtime.deference import Deference
from service.runtime.parts import in_parts
from service.runtime.predictor import AT_ONCE, IN_A_ROW, Reader
from service.runtime.quick import QuickReading, are_quick
from service.server.pacing import Pacing, Resting
from service.server.protocol import GONE
from service.settings import Settings

A = TypeVar("A")


class Engine:
    """Admits requests, reads their pictures in threads, and gives answers as JSON.

    Args:
        recognizer: checked.
        metrics: told of what is read, and with which model.

    Raises:
        ProblemError: the settings' defaults do not fit the model.
    """

    def __init__(self, recognizer: Recognizer, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.reader = self._reader_of(recognizer)
        self.reloads = 0
        self.reload_error: str | None = None
        threads = settings.threads or cpu_threads(settings.workers)
        self.pool = Pool(
            threads,
            settings.queue_requests,
            settings.queue_ms / 1000,
            AT_ONCE,
            IN_A_ROW,
            metrics.worked,
        )
        metrics.started(self.pool)
        self._keys = ApiKeys(settings.api_keys)
        self._deference = Deference()
        self._pacing = Pacing(self.pool)
        self._refusal = lru_cache(maxsize=8)(_refusal)

    def switch(self, recognizer: Recognizer) -> None:
        """Answers with another model from now on; what is being read ends with the old one.

        Raises:
            ProblemError: the settings' defaults do not fit the model.
        """
        self.reader = self._reader_of(recognizer)
        self.reloads += 1

    def refusal(self) -> bytes | None:
        """The answer to pictures that would wait too long, for the server to give at once."""
        if seconds := self._retry_seconds():
            self.metrics.refused()
            return self._refusal(seconds)
        self.pool.expect()
        return None

    def refused(self, connection: Resting, weight: int = 1) -> None:
        """See `Pacing.refused`."""
        self._pacing.refused(connection, weight)

    def _reader_of(self, recognizer: Recognizer) -> Reader:
        reader = Reader.of(recognizer, self.settings, self.metrics.read)
        self.metrics.serves(recognizer.metadata.name, recognizer.metadata.version)
        return reader

    def admit(self, request: Request) -> None:
        """Refuses by the headers alone, before the body is read.

        Raises:
            ProblemError: no API key.
            OverloadedError: its picture would wait too long.
        """
        self._keys.check(request.headers)
        self._admit()

    def _admit(self) -> None:
        if seconds := self._retry_seconds():
            raise OverloadedError(seconds)

    def _retry_seconds(self) -> int:
        seconds = self.pool.retry_seconds()
        if seconds:
            self._deference.ask()
        return seconds

    async def answer(self, request: Request) -> bytes:
        """The JSON of `schemas.Prediction` for the one picture of a request.

        Raises:
            ProblemError, PictureError, OverloadedError, ClientGoneError
        """
        self.admit(request)
        timeline = Timeline.of(request.scope)
        timeline.receiving()
        picture = await read_picture(request, self.settings.max_upload_bytes)
        timeline.received()
        reader, query = self.reader, request.scope["query_string"]
        if not query:
            question, min_confidence = reader.questioner.ask(query)
            if self._may_decode and are_quick([picture], question):
                self._admit()
                return await self._quick(request, reader).answer(picture, min_confidence)
        item = (picture, query, timeline)
        return await self.pool.run_together(reader.answer_each, item, _gone(request))

    @property
    def _may_decode(self) -> bool:
        """Whether the event loop has time for pictures; who is to be refused would wait for it."""
        return not self._deference.defers

    def _quick(self, request: Request, reader: Reader) -> QuickReading:
        return QuickReading(self.pool, reader, Timeline.of(request.scope), _gone(request))

    async def answer_batch(self, request: Request) -> bytes:
        """The JSON of `schemas.Batch` for the pictures of a request.

        Raises:
            ProblemError: the request as a whole is at fault.
            OverloadedError, ClientGoneError
        """
        self.admit(request)
        settings, reader = self.settings, self.reader
        question, min_confidence = await self.ask(request, reader)
        timeline = Timeline.of(request.scope)
        timeline.receiving()
        pictures = await read_pictures(
            request, settings.max_batch, settings.max_batch_bytes, settings.max_upload_bytes
        )
        timeline.received()

        if self._may_decode and are_quick(pictures, question):
            items = await self._quick(request, reader).items(pictures, min_confidence)
        else:
            items = await in_parts(
                self.pool,
                pictures,
                lambda part: self.in_thread(
                    request,
                    reader.recognizer,
                    lambda: reader.answer_batch(part, question, min_confidence),
                    len(part),
                ),
            )
        return answers.listed("answers", items)

    async def ask(self, request: Request, reader: Reader) -> tuple[Question, float]:
        """What a request's query asks; in a thread, for a pattern in it takes time.

        Raises:
            ProblemError: names the parameter, what was given and what is allowed.
        """
        query = request.scope["query_string"]
        if not query:
            return reader.questioner.ask(query)
        return await self.pool.run(lambda: reader.questioner.ask(query))

    async def in_thread(
        self,
        request: Request,
        recognizer: Recognizer,
        work: Callable[[], A],
        pictures: int,
    ) -> A:
        """The result of work that has a recognizer read so many pictures of a request.

        Raises:
            OverloadedError, ClientGoneError
        """
        timed = Timeline.of(request.scope).timed(recognizer, work)
        return await self.pool.run(timed, _gone(request), pictures)


def _refusal(seconds: int) -> bytes:
    response = response_to(OverloadedError(seconds))
    assert response is not None
    return response.written()


def engine_of(request: Request) -> Engine:
    """The engine of the running application.

    Raises:
        ProblemError: there is none, because the application is starting or ending.
    """
    engine: Engine | None = getattr(request.app.state, "engine", None)
    if engine is None:
        raise ProblemError(NOT_READY, "No model has been loaded and checked yet.")
    return engine


def _gone(request: Request) -> Callable[[], bool]:
    """Whether the client has hung up, as far as the server tells."""
    gone: Callable[[], bool] = request.scope.get("extensions", {}).get(GONE, lambda: False)
    return gone
