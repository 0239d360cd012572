"""Reads pictures with a model: an ONNX session, its metadata and a decoder."""

import itertools
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
from service.ocr.metadata import ModelMetadata
from service.ocr.preprocessing import (
    DEFAULT_MAX_PIXELS,
    FloatArray,
    ModelInput,
    Region,
    to_model_input,
)
from service.ocr.session import CPU, Node, Session, open_session


class Recognizer:
    """Reads pictures with one model. Several threads may use it at once.

    `read` and `read_all` do everything. `preprocess` or `try_preprocess`, `infer` and `decode` are
    their three steps, for callers that schedule or time them apart.

    Args:
        session: onnxruntime's session over the graph.
        metadata: the metadata of the same model.
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

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        threads: int = 1,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        providers: Sequence[str] = CPU,
    ) -> Self:
        """Opens a model file. Call `verify` to check that it answers as it should.

        Args:
            threads: cores that onnxruntime uses for one call.
            providers: onnxruntime's execution providers, by preference.

        Raises:
            ModelFileError: the file is missing, unreadable, too large, truncated or not ONNX.
            ModelMetadataError: its metadata are missing, malformed or contradictory.
            ProviderError: an execution provider is not available, or cannot start.
        """
        session = open_session(path, threads, providers)
        try:
            metadata = ModelMetadata.from_properties(session.get_modelmeta().custom_metadata_map)
            return cls(session, metadata, max_pixels)
        except ModelMetadataError as error:
            raise ModelMetadataError(f"the metadata of {path} cannot be used: {error}") from error

    def verify(self, largest_batch: int = 1) -> None:
        """Reads the golden pictures, which also warms the session up.

        Args:
            largest_batch: the largest number of pictures that `read_all` will get. Batches of every
                size up to it are run, so that the session allocates its memory now and not later.

        Raises:
            ModelCheckError: the model reads a golden picture differently than at its export.
        """
        golden = itertools.cycle(self.metadata.golden)
        batches = [[picture] for picture in self.metadata.golden]
        batches += [list(itertools.islice(golden, n)) for n in range(2, largest_batch + 1)]
        for batch in batches:
            try:
                readings = self.read_all([picture.data for picture in batch])
            except Exception as error:
                # A damaged graph can make the runtime raise anything.
                raise ModelCheckError(f"the model cannot be run: {error}") from error
            for picture, reading in zip(batch, readings, strict=True):
                _check_reading(reading, picture.text)

    def read(self, picture: bytes, question: Question = PLAIN) -> Reading:
        """Reads one encoded picture; spans are in pixels of that picture.

        Raises:
            PictureError: the picture cannot be read; see `preprocess`.
        """
        model_input = self.preprocess(picture, question.region)
        (probabilities,) = self.infer(model_input.tensor[np.newaxis])
        return self.decode(model_input, probabilities, question)

    def read_all(
        self, pictures: Sequence[bytes], question: Question = PLAIN
    ) -> list[Reading | PictureError]:
        """Reads several pictures with one call of the model.

        Returns:
            For each picture its reading, or the error that says why it cannot be read.
        """
        inputs = [self.try_preprocess(picture, question.region) for picture in pictures]
        tensors = [one.tensor for one in inputs if isinstance(one, ModelInput)]
        rows = iter(self.infer(np.stack(tensors)) if tensors else ())
        return [
            self.decode(one, next(rows), question) if isinstance(one, ModelInput) else one
            for one in inputs
        ]

    def preprocess(
        self, picture: bytes, region: Region | None = None, *, slow: bool = True
    ) -> ModelInput:
        """The first step of `read`: decodes a picture and brings it to the model's size.

        Args:
            region: the only part of the picture to read; None: all of it.
            slow: whether to decode a picture that takes long; False raises SlowPictureError for it.

        Raises:
            PictureError: the picture cannot be read; see `service.ocr.preprocessing`.
        """
        model = self.metadata
        return to_model_input(
            picture,
            model.width,
            model.height,
            model.channels,
            max_pixels=self._max_pixels,
            region=region,
            slow=slow,
        )

    def try_preprocess(
        self, picture: bytes, region: Region | None = None, *, slow: bool = True
    ) -> ModelInput | PictureError:
        """Like `preprocess`, but returns the error instead of raising it."""
        try:
            return self.preprocess(picture, region, slow=slow)
        except PictureError as error:
            # Returns a new exception, because the traceback and the causes of the caught one would
            # keep the picture in memory.
            return type(error)(str(error))

    def infer(self, tensors: FloatArray) -> FloatArray:
        """The second step: runs the model.

        Args:
            tensors: `(n, width, height, channels)`.

        Returns:
            Class probabilities, `(n, time steps, classes)`.

        Raises:
            ModelCheckError: a probability is not a finite number.
        """
        probabilities: FloatArray
        (probabilities,) = self._session.run(
            [self.metadata.output_name], {self.metadata.input_name: tensors}
        )
        if not np.isfinite(probabilities).all():
            raise ModelCheckError("the model gives a probability that is not a finite number.")
        return probabilities

    def decode(
        self,
        model_input: ModelInput,
        probabilities: FloatArray,
        question: Question = PLAIN,
        *,
        slow: bool = True,
    ) -> Reading:
        """The last step: turns class probabilities, `(time steps, classes)`, into a reading.

        Raises:
            SlowPictureError: decoding takes long, and `slow` is False; see `Decoder.decode`.
        """
        width, height = model_input.width, model_input.height
        return self.decoder.decode(probabilities, question, width, height, slow=slow)


def _check_reading(reading: Reading | PictureError, text: str) -> None:
    if isinstance(reading, PictureError):
        raise ModelCheckError(f"a golden picture cannot be decoded: {reading}") from reading
    if reading.text != text:
        raise ModelCheckError(
            f"the model reads a golden picture as {reading.text!r} and not {text!r}; "
            "export it again with `make export-onnx`."
        )


def _check_shapes(session: Session, metadata: ModelMetadata) -> None:
    picture = [metadata.width, metadata.height, metadata.channels]
    _check_node("input", session.get_inputs(), metadata.input_name, 4, picture)
    classes = [len(metadata.alphabet) + 1]
    _check_node("output", session.get_outputs(), metadata.output_name, 3, classes)


def _check_node(kind: str, nodes: Sequence[Node], name: str, rank: int, tail: list[int]) -> None:
    """Checks the graph's only input or output: name, free batch size and last dimensions."""
    shapes = {node.name: node.shape for node in nodes}
    if name not in shapes or len(shapes) > 1:
        raise ModelMetadataError(
            f"{kind}_name is {name!r}, but the graph's only {kind} must have that name; it has: "
            f"{', '.join(shapes)}."
        )
    shape = shapes[name]
    if len(shape) != rank or isinstance(shape[0], int) or shape[-len(tail) :] != tail:
        raise ModelMetadataError(
            f"the graph's {kind} {name} has the shape {shape}; by the metadata, it should have "
            f"{rank} dimensions, the first of them free and the last {tail}."
        )
