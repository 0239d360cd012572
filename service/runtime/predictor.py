"""A loaded model that answers questions about pictures. A reload replaces the whole predictor."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import PictureError, SlowPictureError
from service.ocr.metadata import ModelMetadata
from service.ocr.preprocessing import FloatArray, ModelInput
from service.ocr.recognizer import Recognizer
from service.query_params import Questions
from service.runtime.batcher import BATCH_SIZE
from service.settings import Settings, split_list

logger = logging.getLogger("service")

FileState = tuple[int, int, int, int] | None
"""Times of the last change of the content and of the inode, size and inode number, which tell
whether a file has changed; None: no file exists."""


class Times(NamedTuple):
    """When decoding of a batch began and ended, and when the model had processed it; in seconds of
    `time.perf_counter`.
    """

    began: float
    decoded: float
    inferred: float


class Outcome(NamedTuple):
    """What became of a picture.

    Args:
        reading: its reading, or its error.
        times: the times of its batch.
        seconds: how long it took itself: its decoding, and its share of the model's time.
    """

    reading: Reading | PictureError
    times: Times
    seconds: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model that has been checked.

    Args:
        recognizer: the model.
        questions: turns query strings into questions to this model.
        file_state: the state of its file before the file was read.
    """

    recognizer: Recognizer
    questions: Questions
    file_state: FileState = None
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata in the model's file."""
        return self.recognizer.metadata

    def read(self, items: Sequence[tuple[bytes, Question]], slow: bool = False) -> list[Outcome]:
        """Reads encoded pictures with one call of the model, each with its own question.

        Args:
            slow: whether to read pictures that take long to decode or whose text needs a search. If
                false, their outcome is a SlowPictureError.
        """
        inputs = []
        moments = [time.perf_counter()]
        for picture, question in items:
            inputs.append(self.recognizer.try_preprocess(picture, question.region, slow=slow))
            moments.append(time.perf_counter())
        tensors = [one.tensor for one in inputs if isinstance(one, ModelInput)]
        probabilities = iter(self.recognizer.infer(np.stack(tensors)) if tensors else ())
        times = Times(moments[0], moments[-1], time.perf_counter())
        share = (times.inferred - times.decoded) / len(items)
        outcomes = []
        for one, (_, question), (began, ended) in zip(
            inputs, items, pairwise(moments), strict=True
        ):
            reading: Reading | PictureError
            if isinstance(one, PictureError):
                reading = one
            else:
                try:
                    reading = self.recognizer.decode(one, next(probabilities), question, slow=slow)
                except SlowPictureError as error:
                    reading = SlowPictureError(str(error))  # without a traceback, to free memory
            outcomes.append(Outcome(reading, times, ended - began + share))
        return outcomes

    def infer(self, tensors: Sequence[FloatArray]) -> list[tuple[FloatArray, Times]]:
        """Class probabilities `(time steps, classes)` for tensors `(width, height, channels)`."""
        began = time.perf_counter()
        rows = self.recognizer.infer(np.stack(tensors))
        times = Times(began, began, time.perf_counter())
        return [(row, times) for row in rows]


def load_predictor(settings: Settings) -> Predictor:
    """Loads the model, warms it up and checks it with its golden pictures.

    Raises:
        ModelError: one of these steps failed.
        InvalidParameterError: the settings' defaults of query parameters do not fit the model.
    """
    started = time.perf_counter()
    state = file_state(settings.model_path)
    recognizer = Recognizer.load(
        settings.model_path,
        max_pixels=settings.max_pixels,
        providers=split_list(settings.providers),
    )
    recognizer.verify(BATCH_SIZE)
    model = recognizer.metadata
    logger.info(
        "model %s version %s loaded and checked in %.0f ms",
        model.name,
        model.version,
        1000 * (time.perf_counter() - started),
    )
    return Predictor(recognizer, Questions(model.alphabet, model.min_confidence, settings), state)


def file_state(path: Path) -> FileState:
    """The state of a file, which changes when the file is replaced or written to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
