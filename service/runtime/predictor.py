"""A checked model and the questions that can be put to it; what a reload exchanges as a whole."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from service.api import serializers as answers
from service.api.errors import DOMAIN_KINDS, ProblemError, problem_of
from service.api.query_params import Questioner, QuestionParameters
from service.observability.request_timing import Interval, Timeline
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import PictureError
from service.ocr.gray import FloatArray
from service.ocr.preprocessing import ModelInput as Fitted
from service.ocr.recognizer import Recognizer
from service.settings import Settings

AT_ONCE = 4
"""Pictures that one thread reads together: of a batch, before others have their turn, or of
requests that wait. Of more than four at once, each costs the model as much (`make bench`)."""

IN_A_ROW = 16
"""Pictures that are decoded, and answered, one after the other where very many wait. What it takes
to do that, each call of the model drives out of a processor's caches."""

logger = logging.getLogger("service")


@dataclass(frozen=True, slots=True)
class Reader:
    """A model that answers."""

    recognizer: Recognizer
    questioner: Questioner
    observe: Callable[[int, Reading], None]
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(
        cls,
        recognizer: Recognizer,
        settings: Settings,
        observe: Callable[[int, Reading], None] = lambda size, reading: None,
    ) -> Self:
        """A reader with the defaults of the settings.

        Args:
            observe: is given the bytes of every picture that is read, and the reading.

        Raises:
            ProblemError: the defaults do not fit the model.
        """
        defaults = QuestionParameters(
            alternatives=settings.alternatives,
            length=settings.length,
            alphabet=settings.alphabet,
            pattern=settings.pattern,
            min_confidence=settings.min_confidence,
        )
        return cls(recognizer, Questioner(recognizer.metadata.alphabet, defaults), observe)

    def answer_each(
        self, requests: Sequence[tuple[bytes, bytes, Timeline]]
    ) -> list[bytes | Exception]:
        """The JSON of the answers to requests of one picture each, read together.

        Args:
            requests: picture and query of each, and the timeline to mark.

        Returns:
            For each its answer, or the ProblemError or PictureError that stands in its place.
        """
        began = time.perf_counter()
        asked = [self.questioner.asked(query) for _, query, _ in requests]
        together = [
            (picture, question[0], timeline)
            for (picture, _, timeline), question in zip(requests, asked, strict=True)
            if not isinstance(question, ProblemError)
        ]
        fitted = self.recognizer.fit_each([picture for picture, _, _ in together])
        decode = (began, time.perf_counter())

        def note(number: int, turn: float) -> None:
            timeline = together[number][2]
            timeline.note((timeline.receive_ended, began), self.recognizer, decode)

        probabilities = self._infer(fitted, note)
        questions = [question for _, question, _ in together]
        readings = iter(self.recognizer.readings(fitted, probabilities, questions))
        given: list[bytes | Exception] = []
        for (picture, _, _), question in zip(requests, asked, strict=True):
            if isinstance(question, ProblemError):
                given.append(question)
                continue
            reading = next(readings)
            if isinstance(reading, PictureError):
                given.append(reading)
            else:
                given.append(self.answer(len(picture), reading, question[1]))
        return given

    def infer_each(
        self, requests: Sequence[tuple[Fitted, Interval, Timeline]]
    ) -> Sequence[FloatArray]:
        """The recognizer's second step for requests of one quick picture each, read together.

        Args:
            requests: the picture and when it was decoded, and the timeline to mark.
        """

        def note(number: int, turn: float) -> None:
            _, decode, timeline = requests[number]
            timeline.note((decode[1], turn), self.recognizer, decode)

        return self._infer([fitted for fitted, _, _ in requests], note)

    def _infer(
        self, fitted: Sequence[Fitted | PictureError], note: Callable[[int, float], None]
    ) -> list[FloatArray]:
        """The recognizer's second step, a few pictures at a time.

        Args:
            note: is told of each that went through the model its number, and when its turn came.
        """
        probabilities: list[FloatArray] = []
        for start in range(0, len(fitted), AT_ONCE):
            some = fitted[start : start + AT_ONCE]
            turn = time.perf_counter()
            probabilities += self.recognizer.infer_each(some)
            for number, one in enumerate(some, start):
                if isinstance(one, Fitted):
                    note(number, turn)
        return probabilities

    def answer(self, size: int, reading: Reading, min_confidence: float) -> bytes:
        """The JSON of `schemas.Prediction` for the reading of a picture of `size` bytes."""
        self.observe(size, reading)
        return answers.encoded(
            answers.prediction(reading, self.recognizer.metadata, min_confidence)
        )

    def answer_batch(
        self, pictures: Sequence[bytes | ProblemError], question: Question, min_confidence: float
    ) -> list[bytes]:
        """The JSON of `schemas.BatchItem` for every picture, in their order.

        Args:
            pictures: or why there is none.
        """
        given = [picture for picture in pictures if isinstance(picture, bytes)]
        return self.items(pictures, self.recognizer.read_all(given, question), min_confidence)

    def items(
        self,
        pictures: Sequence[bytes | ProblemError],
        outcomes: Sequence[Reading | PictureError],
        min_confidence: float,
    ) -> list[bytes]:
        """The same for what was made of the pictures that there are."""
        given = [picture for picture in pictures if isinstance(picture, bytes)]
        for picture, outcome in zip(given, outcomes, strict=True):
            if isinstance(outcome, Reading):
                self.observe(len(picture), outcome)
        readings = iter(outcomes)
        return [
            answers.encoded(
                self._item(
                    next(readings) if isinstance(picture, bytes) else picture, min_confidence
                )
            )
            for picture in pictures
        ]

    def _item(
        self, outcome: Reading | PictureError | ProblemError, min_confidence: float
    ) -> dict[str, Any]:
        if isinstance(outcome, Reading):
            prediction = answers.prediction(outcome, self.recognizer.metadata, min_confidence)
            return {"prediction": prediction, "problem": None}
        if isinstance(outcome, ProblemError):
            problem = problem_of(outcome.kind, outcome.detail)
        else:
            problem = problem_of(DOMAIN_KINDS[type(outcome)], str(outcome))
        return {"prediction": None, "problem": problem.model_dump()}


def load_recognizer(settings: Settings) -> Recognizer:
    """Loads the model of the settings, warms it up and has it read its golden pictures.

    Raises:
        ModelError: one of these failed.
    """
    started = time.perf_counter()
    recognizer = Recognizer.load(settings.model_path, max_pixels=settings.max_pixels)
    recognizer.verify(AT_ONCE)
    logger.info(
        "model %s version %s loaded and checked in %.0f ms",
        recognizer.metadata.name,
        recognizer.metadata.version,
        1000 * (time.perf_counter() - started),
    )
    return recognizer
