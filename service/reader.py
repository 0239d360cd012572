"""What the endpoints need while the application runs: a model, and how many may use it."""

import logging
import time
from dataclasses import dataclass, field
from typing import Self

from anyio import CapacityLimiter

from service.ocr.decoder import Reading
from service.ocr.recognizer import Recognizer
from service.questions import Questioner, QuestionParameters
from service.settings import Settings

logger = logging.getLogger("service")


@dataclass(frozen=True, slots=True)
class Reader:
    """A checked model, and the bounds of its use."""

    recognizer: Recognizer
    limiter: CapacityLimiter = field(repr=False)
    max_upload_bytes: int
    questioner: Questioner

    @classmethod
    def of(cls, recognizer: Recognizer, settings: Settings) -> Self:
        """A reader with the bounds and defaults of the settings.

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
        return cls(
            recognizer,
            CapacityLimiter(settings.threads),
            settings.max_upload_bytes,
            Questioner(recognizer.metadata.alphabet, defaults),
        )

    def read(self, picture: bytes, parameters: QuestionParameters) -> tuple[Reading, float]:
        """A reading, and the least confidence that is accepted; for a thread of its own.

        Raises:
            ProblemError: the parameters cannot be.
            PictureError: the picture cannot be read.
        """
        question, min_confidence = self.questioner.ask(parameters)
        return self.recognizer.read(picture, question), min_confidence


def load_recognizer(settings: Settings) -> Recognizer:
    """Loads the model of the settings, warms it up and has it read its golden pictures.

    Raises:
        ModelError: one of these failed.
    """
    started = time.perf_counter()
    recognizer = Recognizer.load(settings.model_path, max_pixels=settings.max_pixels)
    recognizer.verify()
    logger.info(
        "model %s version %s loaded and checked in %.0f ms",
        recognizer.metadata.name,
        recognizer.metadata.version,
        1000 * (time.perf_counter() - started),
    )
    return recognizer
