"""Answers inference requests: parses the body, runs the model and encodes the answer."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import INVALID_PARAMETER, Kind, ProblemError
from service.api.handlers import Engine, caller_of, engine_of, note_times, received
from service.api.uploads import read_body
from service.api.v2.messages import (
    BYTES,
    FP32,
    LENGTH_HEADER,
    InferenceRequest,
    Tensor,
    encode,
    malformed,
    parse,
)
from service.api.v2.schemas import ServedModel, TensorMetadata
from service.ocr.decoding.decoder import Question
from service.ocr.exceptions import ModelCheckError, PictureError, echo
from service.ocr.metadata import ModelMetadata
from service.query_params import CONSTRAINTS, QueryParams
from service.runtime.predictor import Predictor

NO_SUCH_MODEL = Kind(404, "no-such-model", "No such model, or version of it")

PICTURE, TEXT, CONFIDENCE = "picture", "text", "confidence"
"""The input for encoded pictures, and its outputs."""

_LOOP_BYTES = 1 << 14
"""Largest body that is parsed on the event loop, in bytes. Parsing 60 kB of numbers takes three
times as long as all other work on the event loop for the request."""


def described(model: ModelMetadata) -> ServedModel:
    """The inputs and outputs of a model; -1 stands for a variable length."""

    def tensor(name: str, datatype: str, *shape: int) -> TensorMetadata:
        return TensorMetadata(name=name, datatype=datatype, shape=[-1, *shape])

    return ServedModel(
        name=model.name,
        versions=[model.version],
        platform="onnxruntime_onnx",
        inputs=[
            tensor(model.input_name, FP32, model.width, model.height, model.channels),
            tensor(PICTURE, BYTES),
        ],
        outputs=[
            tensor(model.output_name, FP32, -1, len(model.alphabet) + 1),
            tensor(TEXT, BYTES),
            tensor(CONFIDENCE, FP32),
        ],
    )


def served(request: Request) -> Predictor:
    """The served model, if the path names it.

    Raises:
        ProblemError: the path names another model or version.
    """
    predictor = engine_of(request).predictor
    model = predictor.metadata
    name, version = request.path_params["name"], request.path_params.get("version", model.version)
    if (name, version) != (model.name, model.version):
        raise ProblemError(
            NO_SUCH_MODEL,
            f"only the model {model.name}, version {model.version}, is served.",
        )
    return predictor


async def infer(request: Request) -> Response:
    """Returns class probabilities for image tensors, or texts and confidences for pictures.

    Pictures are elements of BYTES: their bytes in binary data, or base64 in JSON. For pictures, the
    query parameters `length`, `alphabet` and `pattern` work as for `/predict`.
    """
    engine, predictor = engine_of(request), served(request)
    engine.admit(request)
    _check_parameters(request, set(QueryParams.model_fields).difference(CONSTRAINTS), "here")
    asked, _ = await engine.ask(request, predictor.questions)
    question = Question(constraint=asked.constraint)
    inference = await received(request, _receive(request, engine, predictor))
    model = predictor.metadata
    are_pictures = inference.tensor.datatype == BYTES
    offered = [TEXT, CONFIDENCE] if are_pictures else [model.output_name]
    for name in inference.outputs:
        if name not in offered:
            raise malformed(
                f"there is no output {echo(name)} of {inference.tensor.name}; there is "
                f"{', '.join(offered)}."
            )
    if are_pictures:
        tensors = await _read(request, engine, predictor, inference, question)
    else:
        tensors = await _infer(request, engine, predictor, inference)
    head = {"model_name": model.name, "model_version": model.version}
    if inference.identity is not None:
        head["id"] = inference.identity
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = inference.outputs or dict.fromkeys(by_name, inference.binary)
    given = [(by_name[name], binary) for name, binary in wanted.items()]
    if are_pictures:
        body, length = encode(head, given)
    else:
        body, length = await engine.batcher.run(lambda: encode(head, given), caller_of(request))
    if not any(wanted.values()):
        return Response(body, media_type="application/json")
    return Response(
        body, headers={LENGTH_HEADER: str(length)}, media_type="application/octet-stream"
    )


def _check_parameters(request: Request, refused: set[str] | tuple[str, ...], where: str) -> None:
    for name in request.query_params:
        if name in refused:
            raise ProblemError(INVALID_PARAMETER, f"{name}: it has no effect {where}.")


async def _receive(request: Request, engine: Engine, predictor: Predictor) -> InferenceRequest:
    """Reads and parses the inference request in the body.

    Raises:
        ProblemError: the body is not an inference request, is too large or is compressed.
    """
    settings = engine.settings
    body = await read_body(request, settings.max_batch_bytes)
    length = request.headers.get(LENGTH_HEADER)
    inputs = described(predictor.metadata).inputs
    limits = settings.max_batch, settings.max_upload_bytes
    if len(body) <= _LOOP_BYTES:
        return parse(body, inputs, *limits, length)
    # A body that takes long to parse contains many pictures, or few large ones.
    return await engine.batcher.run(
        lambda: parse(body, inputs, *limits, length), caller_of(request), batch=True
    )


async def _infer(
    request: Request, engine: Engine, predictor: Predictor, inference: InferenceRequest
) -> list[Tensor]:
    """The class probabilities of image tensors."""
    output = predictor.metadata.output_name
    _check_parameters(request, CONSTRAINTS, f"on probabilities; send {PICTURE!r}")
    images = list(inference.tensor.values)
    engine.charge(request, len(images))
    try:
        rows = await engine.batcher.submit(predictor.infer, images, caller_of(request))
    except ModelCheckError as error:
        raise malformed(f"{inference.tensor.name}: from these values, {error}") from error
    note_times(request, predictor, {times for _, times in rows})
    return [Tensor(output, FP32, np.stack([row for row, _ in rows]))]


async def _read(
    request: Request,
    engine: Engine,
    predictor: Predictor,
    inference: InferenceRequest,
    question: Question,
) -> list[Tensor]:
    """The texts and confidences of encoded pictures."""
    pictures = inference.tensor.values
    outcomes = await engine.read(request, predictor, pictures, question)
    texts, confidences = [], []
    for index, outcome in enumerate(outcomes):
        reading = outcome.reading
        if isinstance(reading, PictureError):
            raise malformed(f"{PICTURE}: element {index}: {reading}")
        texts.append(reading.text.encode())
        confidences.append(reading.confidence)
    return [
        Tensor(TEXT, BYTES, texts),
        Tensor(CONFIDENCE, FP32, np.array(confidences, np.float32)),
    ]
