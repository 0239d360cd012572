"""Reads pictures that take so little time that only the model needs a thread.

The event loop does the rest: threads that need the interpreter for moments only wait less for each
other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from service.api.errors import ProblemError
from service.observability.request_timing import Interval, Timeline
from service.ocr.decoding.decoder import PLAIN, Question
from service.ocr.exceptions import PictureError
from service.ocr.formats.png import is_quick
from service.ocr.gray import FloatArray
from service.ocr.preprocessing import ModelInput as Fitted
from service.runtime.batcher import Pool
from service.runtime.parts import in_stages
from service.runtime.predictor import Reader

_Decoded = tuple[Sequence[Fitted | PictureError], Interval]
"""Some pictures, and when they were decoded."""


def are_quick(
    pictures: Sequence[bytes | ProblemError], question: Question
) -> TypeGuard[Sequence[bytes]]:
    """Whether all but the model takes too little time to be worth another thread's."""
    return question is PLAIN and all(
        isinstance(picture, bytes) and is_quick(picture) for picture in pictures
    )


@dataclass(frozen=True, slots=True)
class QuickReading:
    """Reads the quick pictures of one request.

    Args:
        pool: whose threads run the model.
        timeline, gone: of the request, and whether nobody waits for its answer any more.
    """

    pool: Pool
    reader: Reader
    timeline: Timeline
    gone: Callable[[], bool]

    async def answer(self, picture: bytes, min_confidence: float) -> bytes:
        """The JSON of `schemas.Prediction` for the one picture of a request.

        Raises:
            PictureError, OverloadedError, ClientGoneError
        """
        reader, timeline = self.reader, self.timeline
        fitted = reader.recognizer.fit(picture)
        item = (fitted, (timeline.receive_ended, time.perf_counter()), timeline)
        probabilities = await self.pool.run_together(reader.infer_each, item, self.gone)
        reading = reader.recognizer.reading(fitted, probabilities, PLAIN)
        return reader.answer(len(picture), reading, min_confidence)

    async def items(self, pictures: Sequence[bytes], min_confidence: float) -> list[bytes]:
        """The JSON of `schemas.BatchItem` for each of several pictures.

        Raises:
            OverloadedError, ClientGoneError
        """

        def complete(
            part: Sequence[bytes], decoded: _Decoded, probabilities: Sequence[FloatArray]
        ) -> list[bytes]:
            questions = [PLAIN] * len(part)
            outcomes = self.reader.recognizer.readings(decoded[0], probabilities, questions)
            return self.reader.items(part, outcomes, min_confidence)

        return await in_stages(self.pool, pictures, self._decode, self._infer, complete)

    def _decode(self, part: Sequence[bytes]) -> _Decoded:
        began = time.perf_counter()
        return self.reader.recognizer.fit_each(part), (began, time.perf_counter())

    async def _infer(self, decoded: _Decoded) -> Sequence[FloatArray]:
        fitted, when = decoded
        recognizer = self.reader.recognizer
        sound = sum(isinstance(one, Fitted) for one in fitted)
        if not sound:
            return []
        work = self.timeline.timed(recognizer, lambda: recognizer.infer_each(fitted), when)
        return await self.pool.run(work, self.gone, sound)
