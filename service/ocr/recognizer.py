"""Reads pictures with a model: an ONNX session, its metadata and the CTC codec."""

import itertools
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.decoding.decoder import PLAIN, Decoder, Question, Reading
from service.ocr.exceptions import (
    ModelCheckError,
    ModelMetadataError,
    PictureError,
)
from service.ocr.gray import FloatArray
from service.ocr.metadata import ModelMetadata
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS, Fitted, fit
from service.ocr.session import Node, Session, open_session


class Recognizer:
    """Reads pictures; safe to use from several threads at once.

    Args:
        session: onnxruntime's session over the graph.
        metadata: of the same model.
        max_pixels: width × height above which a picture is refused.

    Raises:
        ModelMetadataError: the metadata contradict the graph.
    """

    def __init__(
        self,
        session: Session,
        metadata: ModelMetadata,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        _check_shapes(session, metadata)
        self.metadata = metadata
        self._session = session
        self.codec = CtcCodec(metadata.alphabet, metadata.blank_index)
        self.decoder = Decoder(self.codec, metadata.calibration)
        self._max_pixels = max_pixels
        self._of_thread = threading.local()

    @classmethod
    def load(cls, path: Path, *, threads: int = 1, max_pixels: int = DEFAULT_MAX_PIXELS) -> Self:
        """Opens a model file; `verify` then tells whether it answers as it should.

        Args:
            threads: cores that onnxruntime uses for one call.

        Raises:
            ModelFileError: the file is missing, unreadable, truncated or not ONNX.
            ModelMetadataError: its metadata are missing, malformed or contradictory.
        """
        session = open_session(path, threads)
        try:
            metadata = ModelMetadata.from_properties(session.get_modelmeta().custom_metadata_map)
            return cls(session, metadata, max_pixels)
        except ModelMetadataError as error:
            raise ModelMetadataError(f"the metadata of {path} cannot be used: {error}") from error

    def read(self, picture: bytes, question: Question = PLAIN) -> Reading:
        """Reads one encoded picture; spans are in pixels of that picture.

        Raises:
            PictureError: the picture cannot be read; see `preprocess`.
        """
        fitted = self.fit(picture)
        (probabilities,) = self.infer_each([fitted])
        return self.reading(fitted, probabilities, question)

    def read_all(
        self, pictures: Sequence[bytes], question: Question = PLAIN
    ) -> list[Reading | PictureError]:
        """`read` of several pictures with one call of the model, in their order.

        Returns:
            For each its reading, or what is wrong with it.
        """
        fitted = self.fit_each(pictures)
        return self.readings(fitted, self.infer_each(fitted), [question] * len(fitted))

    def fit(self, picture: bytes) -> Fitted:
        """The first step of `read`: the picture as the model takes it.

        Raises:
            PictureError: the picture cannot be read; see `preprocess`.
        """
        return fit(picture, self.metadata.width, self.metadata.height, self._max_pixels)

    def fit_each(self, pictures: Sequence[bytes]) -> list[Fitted | PictureError]:
        """`fit` of each, or what is wrong with it."""
        return [self._fit_or_error(picture) for picture in pictures]

    def _fit_or_error(self, picture: bytes) -> Fitted | PictureError:
        try:
            return self.fit(picture)
        except PictureError as error:
            return error.with_traceback(None)

    def infer_each(self, fitted: Sequence[Fitted | PictureError]) -> list[FloatArray]:
        """The second step: class probabilities of those with which nothing is wrong, by one call
        of the model.
        """
        sound = [one.tensor for one in fitted if isinstance(one, Fitted)]
        return list(self.infer(np.stack(sound))) if sound else []

    def readings(
        self,
        fitted: Sequence[Fitted | PictureError],
        probabilities: Sequence[FloatArray],
        questions: Sequence[Question],
    ) -> list[Reading | PictureError]:
        """The last step, or what is wrong with a picture."""
        rows = iter(probabilities)
        return [
            one if isinstance(one, PictureError) else self.reading(one, next(rows), question)
            for one, question in zip(fitted, questions, strict=True)
        ]

    def reading(self, fitted: Fitted, probabilities: FloatArray, question: Question) -> Reading:
        """The last step: what a picture says to a question."""
        return self.decoder.decode(probabilities, question, fitted.width, fitted.height)

    def infer(self, tensors: FloatArray) -> FloatArray:
        """Class probabilities `(n, time steps, classes)` of tensors `(n, width, height, 1)`."""
        probabilities: FloatArray
        began = time.perf_counter()
        (probabilities,) = self._session.run(
            [self.metadata.output_name], {self.metadata.input_name: tensors}
        )
        self._of_thread.inferred = (began, time.perf_counter())
        return probabilities

    @property
    def inferred(self) -> tuple[float, float]:
        """When this thread's last `infer` began and ended, by `time.perf_counter`; 0: never."""
        return getattr(self._of_thread, "inferred", (0.0, 0.0))

    def verify(self, largest_batch: int = 1) -> None:
        """Warms the session up and reads the golden pictures.

        Args:
            largest_batch: pictures that `read_all` will be given at most; for batches of every
                size up to it the session's memory grows here, and no more later.

        Raises:
            ModelCheckError: one of them is read otherwise than at the export.
        """
        golden = itertools.cycle(self.metadata.golden)
        batches = [[picture] for picture in self.metadata.golden]
        batches += [list(itertools.islice(golden, n)) for n in range(2, largest_batch + 1)]
        for batch in batches:
            try:
                readings = self.read_all([picture.data for picture in batch])
            except Exception as error:
                # Whatever a damaged graph makes the runtime raise.
                raise ModelCheckError(f"the model cannot be run: {error}") from error
            for picture, reading in zip(batch, readings, strict=True):
                _check_reading(reading, picture.text)


def _check_reading(reading: Reading | PictureError, text: str) -> None:
    if isinstance(reading, PictureError):
        raise ModelCheckError(f"a golden picture cannot be decoded: {reading}") from reading
    if reading.text != text:
        raise ModelCheckError(
            f"the model reads a golden picture as {reading.text!r} and not {text!r}; "
            "export it again with `make export-onnx`."
        )


def _check_shapes(session: Session, metadata: ModelMetadata) -> None:
    picture = [metadata.width, metadata.height, 1]
    _check_node("input", session.get_inputs(), metadata.input_name, 4, picture)
    classes = [len(metadata.alphabet) + 1]
    _check_node("output", session.get_outputs(), metadata.output_name, 3, classes)


def _check_node(kind: str, nodes: Sequence[Node], name: str, rank: int, tail: list[int]) -> None:
    """Checks that the graph has the node, with a free batch size and these last dimensions."""
    shapes = {node.name: node.shape for node in nodes}
    if name not in shapes or len(shapes) > 1:
        raise ModelMetadataError(
            f"{kind}_name is {name!r}, the graph's one {kind}, but it has: {', '.join(shapes)}."
        )
    shape = shapes[name]
    if len(shape) != rank or isinstance(shape[0], int) or shape[-len(tail) :] != tail:
        raise ModelMetadataError(
            f"the graph's {kind} {name} has the shape {shape}; by the metadata it should have "
            f"{rank} dimensions, the first of them free and the last {tail}."
        )
