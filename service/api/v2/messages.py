"""Inference requests and responses: a JSON object, which the tensors' binary data may follow.

Source: Open Inference Protocol, version 2, "Tensor Data", and its extension for binary tensors
(https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol).
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from service.api.errors import Kind, ProblemError
from service.api.uploads import INVALID, decode_base64, parse_json
from service.api.v2.schemas import InferenceBody, RequestInput, TensorMetadata
from service.ocr.exceptions import echo
from service.ocr.preprocessing import FloatArray

FP32, BYTES = "FP32", "BYTES"

LENGTH_HEADER = "inference-header-content-length"
"""The HTTP header with the number of bytes of a body that are JSON, if binary data follows."""

MALFORMED = Kind(400, "malformed-inference", "Malformed request, or a picture that is none")

_SIZE = "binary_data_size"

_MAX_HEAD_BYTES, _MAX_VALUES, _MAX_QUOTES = 1 << 16, 1 << 10, 1 << 12
"""Most bytes and values in the JSON without the elements of `data`, and most quotes in all of the
JSON. Parsed JSON takes many times the memory of its bytes, and 20,000 lists take 10 ms. A request
has at most 1024 pictures."""

_MAX_NUMBERS = 1 << 18
"""Most numbers in `data`."""

_DATA = re.compile(rb'"data"\s*:\s*(\[[^{}:]*\])')
_STRING = re.compile(rb'"[^"]*"')
"""A JSON string that contains no quotes, as base64 never does."""

_SPACE = b" \t\r\n"
_NUMBER_CHARACTERS = b"-+.eE0123456789" + _SPACE
_COMMA = re.compile(b",")
_PIECE_BYTES = 1 << 16
_BRACKETS_TO_SPACES = bytes.maketrans(b"[]", b"  ")

_FLOAT = np.dtype("<f4")
_PREFIX = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array.

    Args:
        values: for FP32, a float32 array of any shape with finite values; for BYTES, a list of
            bytes.
    """

    name: str
    datatype: str
    values: Any

    @property
    def shape(self) -> list[int]:
        """The length of every dimension."""
        return list(self.values.shape) if self.datatype == FP32 else [len(self.values)]


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed inference request.

    Args:
        identity: returned in the answer.
        outputs: names of the requested outputs, and whether as binary data; empty: all outputs.
        binary: whether outputs are returned as binary data if `outputs` is empty.
    """

    identity: str | None
    tensor: Tensor
    outputs: Mapping[str, bool]
    binary: bool


def malformed(detail: str) -> ProblemError:
    """The error for an invalid request; the detail says what is wrong and what would be right."""
    return ProblemError(MALFORMED, detail)


def parse(
    body: bytes,
    inputs: Sequence[TensorMetadata],
    max_pictures: int,
    max_bytes: int,
    length: str | None = None,
) -> InferenceRequest:
    """Parses an inference request.

    Args:
        inputs: the inputs of the model; a request has one of them.
        max_pictures: the largest first dimension of a tensor.
        max_bytes: largest size of an element of BYTES, in bytes.
        length: the value of `LENGTH_HEADER`; None if it is missing.

    Raises:
        ProblemError: the body is not an inference request; nothing else is raised.
    """
    end = _json_length(length, len(body))
    document, elements = _document(body[:end])
    given = _known_input(document.inputs, inputs, max_pictures)
    data = memoryview(body)[end:]
    size = given.parameters.binary_data_size if given.parameters else None
    if (size is None) == (given.data is None):
        raise malformed(f"{given.name}: send either its data or its {_SIZE}.")
    if len(data) != (size or 0):
        raise malformed(
            f"{given.name}: {len(data)} bytes follow the JSON, and {_SIZE} is {echo(size)}."
        )
    if given.datatype == FP32:
        values: Any = _floats_in_json(given, elements) if size is None else _floats(given, data)
    elif size is None:
        values = _strings_in_json(given, elements, max_bytes)
    else:
        values = _strings(given, data)
    for index, string in enumerate(values if given.datatype == BYTES else ()):
        if len(string) > max_bytes:
            raise _too_large(given, index, max_bytes)
    binary = bool(document.parameters and document.parameters.binary_data_output)
    outputs: dict[str, bool] = {}
    for output in document.outputs or []:
        if output.name in outputs:
            raise malformed(f"the output {echo(output.name)} is asked for twice.")
        wanted = output.parameters.binary_data if output.parameters else None
        outputs[output.name] = binary if wanted is None else wanted
    tensor = Tensor(given.name, given.datatype, values)
    return InferenceRequest(document.id, tensor, outputs, binary)


def encode(head: Mapping[str, Any], tensors: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, int]:
    """Encodes the body of a response.

    Args:
        head: the members of the JSON object besides the outputs.
        tensors: the outputs, each with whether it is sent as binary data.

    Returns:
        The body, and how many bytes of it are JSON.
    """
    outputs, buffers = [], []
    for tensor, binary in tensors:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if binary:
            buffers.append(_to_binary(tensor))
            output["parameters"] = {_SIZE: len(buffers[-1])}
        elif tensor.datatype == BYTES:
            output["data"] = [element.decode() for element in tensor.values]
        else:
            output["data"] = tensor.values.ravel().tolist()
        outputs.append(output)
    document = to_json({**head, "outputs": outputs})
    return b"".join([document, *buffers]), len(document)


def _json_length(length: str | None, size: int) -> int:
    if length is None:
        return size
    # No body is so large that its size has ten digits.
    if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= size):
        raise malformed(
            f"the header {LENGTH_HEADER} is {echo(length)}; give the bytes of the JSON, at most "
            f"the {size} of the body."
        )
    return int(length)


def _document(text: bytes) -> tuple[InferenceBody, memoryview]:
    """The JSON, parsed with an empty array as `data`, and the unparsed text of that array."""
    found = _DATA.search(text)
    begin, end = found.span(1) if found else (len(text), len(text))
    if len(text) - (end - begin) > _MAX_HEAD_BYTES or text.count(b'"') > _MAX_QUOTES:
        raise malformed(
            f"the JSON has over {_MAX_HEAD_BYTES} bytes besides the data of one input, or over "
            f"{_MAX_QUOTES // 2} strings."
        )
    head = text[:begin] + b"[]" + text[end:] if found else text
    # Each of these characters precedes one member or element.
    if sum(map(head.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise malformed(f"the JSON has over {_MAX_VALUES} members and elements besides its data.")
    try:
        return InferenceBody.model_validate_json(head, strict=True), memoryview(text)[begin:end]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise malformed(f"{place}: {first['msg']}.") from None


def _known_input(
    given: Sequence[RequestInput], inputs: Sequence[TensorMetadata], most: int
) -> RequestInput:
    """The only input of a request, if it is an input of the model."""
    known = {tensor.name: tensor for tensor in inputs}
    names = [tensor.name for tensor in given]
    how = "send " + " or ".join(
        f"{tensor.name!r} ({tensor.datatype} of the shape "
        f"[{', '.join(['n', *map(str, tensor.shape[1:])])}])"
        for tensor in inputs
    )
    if len(names) != 1 or names[0] not in known:
        raise malformed(f"the inputs are {echo(names)}; {how}.")
    (tensor,) = given
    right = known[tensor.name]
    fits = len(tensor.shape) == len(right.shape) and tensor.shape[1:] == right.shape[1:]
    if tensor.datatype != right.datatype or not fits:
        raise malformed(
            f"{tensor.name} is {echo(tensor.datatype)} of the shape {echo(tensor.shape)}; {how}."
        )
    if not 1 <= tensor.shape[0] <= most:
        raise malformed(f"{tensor.name} has {echo(tensor.shape[0])} pictures; send 1 to {most}.")
    return tensor


def _floats_in_json(tensor: RequestInput, data: memoryview) -> FloatArray:
    """The tensor in a JSON array of numbers."""
    count = math.prod(tensor.shape)
    if count > _MAX_NUMBERS:
        raise malformed(f"{tensor.name} has over {_MAX_NUMBERS} numbers; send them as binary data.")
    brackets = bytes(data).translate(None, _NUMBER_CHARACTERS)
    fits = brackets in (_nested([count]), _nested(tensor.shape))
    if tensor.data or not fits:
        raise malformed(
            f"{tensor.name}: its data must be numbers that fit the shape {tensor.shape}, in a flat "
            "or nested array."
        )
    try:
        with np.errstate(over="ignore"):
            return _floats(tensor, np.concatenate([*_numbers(data)]))
    except (ValueError, OverflowError):
        raise malformed(f"{tensor.name}: an element is not a number, or too large.") from None


def _numbers(data: memoryview) -> Iterator[FloatArray]:
    """The numbers of an array in flat pieces: as Python objects, all would take much memory."""
    begin = 0
    while begin < len(data):
        comma = _COMMA.search(data, begin + _PIECE_BYTES)
        end = comma.start() if comma else len(data)
        piece = bytes(data[begin:end]).translate(_BRACKETS_TO_SPACES)
        yield np.array(from_json(b"[%b]" % piece), _FLOAT)
        begin = end + 1


def _nested(shape: Sequence[int], text: bytes = b"") -> bytes:
    """A JSON array of this shape in which every element is the text."""
    for length in reversed(shape):
        text = b"[%s]" % (length * (b"," + text))[1:]
    return text


def _floats(tensor: RequestInput, data: Any) -> FloatArray:
    """The tensor in an array of float32 numbers or in their bytes."""
    expected = math.prod(tensor.shape) * _FLOAT.itemsize
    if data.nbytes != expected:
        raise malformed(
            f"{tensor.name}: {data.nbytes} bytes of FP32 were sent; its shape takes {expected}."
        )
    values: FloatArray = np.frombuffer(data, _FLOAT).reshape(tensor.shape)
    if not np.isfinite(values).all():
        raise malformed(f"{tensor.name}: an element is infinite, or too large for FP32.")
    return values


def _strings_in_json(tensor: RequestInput, data: memoryview, max_bytes: int) -> list[bytes]:
    """Decodes the base64 strings in a JSON array."""
    quotes = _STRING.sub(b'"', data).translate(None, _SPACE)
    if tensor.data or quotes != _nested(tensor.shape, b'"'):
        raise malformed(
            f"{tensor.name}: its data must be texts in base64 that fit the shape {tensor.shape}."
        )
    strings = []
    for index, found in enumerate(_STRING.finditer(data)):
        if found.end() - found.start() > 2 * max_bytes + 4:  # allows for escaped characters
            raise _too_large(tensor, index, max_bytes)
        text = parse_json(found[0])
        string = None if text is INVALID else decode_base64(text)
        if string is None:
            raise malformed(
                f"{tensor.name}: element {index} is not base64; send BYTES as base64 in JSON, or "
                "as they are in binary data."
            )
        strings.append(string)
    return strings


def _strings(tensor: RequestInput, data: memoryview) -> list[bytes]:
    """Decodes byte strings, each of which follows its length."""
    strings: list[bytes] = []
    at = 0
    for index in range(tensor.shape[0]):
        begin = at + _PREFIX.size
        at = begin + _PREFIX.unpack_from(data, at)[0] if begin <= len(data) else begin
        if at > len(data):
            raise malformed(
                f"{tensor.name}: the data ends within element {index}; send each element as its "
                "length (four bytes, little-endian) and its bytes."
            )
        strings.append(bytes(data[begin:at]))
    if at < len(data):
        raise malformed(
            f"{tensor.name}: {len(data) - at} bytes follow the {len(strings)} elements."
        )
    return strings


def _too_large(tensor: RequestInput, index: int, max_bytes: int) -> ProblemError:
    return malformed(f"{tensor.name}: element {index} has over {max_bytes} bytes.")


def _to_binary(tensor: Tensor) -> bytes:
    if tensor.datatype == BYTES:
        return b"".join(_PREFIX.pack(len(element)) + element for element in tensor.values)
    data: bytes = tensor.values.astype(_FLOAT).tobytes()
    return data
