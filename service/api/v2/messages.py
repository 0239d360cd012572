"""Inference requests and responses: a JSON object, and after it the tensors sent as binary data.

Source: Open Inference Protocol, version 2, "Tensor Data", and its extension for binary tensors
(https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol).
"""

import math
import reprlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic_core import to_json

from service.api.uploads import decode_base64
from service.api.v2.schemas import InferenceBody, RequestInput
from service.ocr.exceptions import LONGEST_ECHO

FP32, BYTES = "FP32", "BYTES"

LENGTH_HEADER = "inference-header-content-length"
"""The HTTP header that tells how many bytes of a body are JSON, if not all of them."""

_SIZE = "binary_data_size"
_MAX_DIMENSIONS = 8
_MAX_LENGTH = 2**31
_MAX_ELEMENTS, _MAX_BRACKETS, _MAX_MEMBERS = 1 << 18, 1 << 17, 1000
"""In the JSON of a request, whose parsed form takes many times the memory of its bytes. A member
has a colon; what can be asked takes twenty."""

_MAX_QUOTES = 1 << 13
"""In the same JSON. A batch has at most 1024 strings, and each takes two quotes."""

_FLOAT = np.dtype("<f4")
_PREFIX = struct.Struct("<I")


class MalformedTensorError(ValueError):
    """The request is malformed; the message says where, and what would be right."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array.

    Args:
        values: FP32: a float32 array of any shape, every value finite; BYTES: a list of bytes.
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
    """What is to be inferred.

    Args:
        identity: given back with the answer.
        outputs: the names of those that are wanted, and whether as binary data; empty: all.
        binary: whether outputs are wanted as binary data where the request does not say.
    """

    identity: str | None
    inputs: Sequence[Tensor]
    outputs: Mapping[str, bool]
    binary: bool


def echo(value: object) -> str:
    """What was sent, in a form and length that an error can repeat."""
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()[:LONGEST_ECHO]


def parse(body: bytes, max_strings: int, length: str | None = None) -> InferenceRequest:
    """The request in a body.

    Args:
        max_strings: elements of BYTES in an input.
        length: the value of `LENGTH_HEADER`, where there is one.

    Raises:
        MalformedTensorError: the body is no inference request; nothing else is raised.
    """
    end = _json_length(length, len(body))
    document = _document(body[:end])
    rest = memoryview(body)[end:]
    inputs = []
    for tensor in document.inputs:
        name = echo(tensor.name)
        _check_shape(name, tensor, max_strings)
        size = (tensor.parameters or {}).get(_SIZE)
        if size is None:
            inputs.append(_from_json(name, tensor))
            continue
        if tensor.data is not None:
            raise MalformedTensorError(f"{name} has data and {_SIZE}; send one of them.")
        if type(size) is not int or not 0 <= size <= len(rest):
            raise MalformedTensorError(
                f"{name}: {_SIZE} is {echo(size)}; {len(rest)} bytes were sent for it."
            )
        inputs.append(_from_binary(name, tensor, bytes(rest[:size])))
        rest = rest[size:]
    if rest:
        raise MalformedTensorError(f"{len(rest)} bytes were sent that belong to no input.")
    binary = _flag(document.parameters, "binary_data_output", False)
    outputs: dict[str, bool] = {}
    for output in document.outputs or []:
        if output.name in outputs:
            raise MalformedTensorError(f"the output {echo(output.name)} is asked for twice.")
        outputs[output.name] = _flag(output.parameters, "binary_data", binary)
    return InferenceRequest(document.id, inputs, outputs, binary)


def encode(head: Mapping[str, Any], tensors: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, int]:
    """The body of a response.

    Args:
        head: its members besides the outputs.
        tensors: each with whether it goes as binary data.

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
    # No body has as many bytes as a number of ten digits.
    if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= size):
        raise MalformedTensorError(
            f"the header {LENGTH_HEADER} is {echo(length)}; give the bytes of the JSON, at most "
            f"the {size} of the body."
        )
    return int(length)


def _document(text: bytes) -> InferenceBody:
    if text.count(b":") > _MAX_MEMBERS:
        raise MalformedTensorError(
            f"the JSON has more than {_MAX_MEMBERS} members, or colons; send one input."
        )
    if text.count(b'"') > _MAX_QUOTES:
        raise MalformedTensorError(f"the JSON has more than {_MAX_QUOTES // 2} strings.")
    if text.count(b",") > _MAX_ELEMENTS or text.count(b"[") + text.count(b"{") > _MAX_BRACKETS:
        raise MalformedTensorError(
            f"the JSON has more than {_MAX_ELEMENTS} elements, or {_MAX_BRACKETS} brackets; send "
            "the tensor as binary data, or flat."
        )
    try:
        return InferenceBody.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}"
    # Names of members are as the client likes.
    raise MalformedTensorError(reason.encode("ascii", "backslashreplace").decode()[:300])


def _check_shape(name: str, tensor: RequestInput, max_strings: int) -> None:
    shape, datatype = tensor.shape, tensor.datatype
    if datatype not in (FP32, BYTES):
        raise MalformedTensorError(
            f"{name}: the datatype is {echo(datatype)}; {FP32} and {BYTES} are read."
        )
    longest = 1 if datatype == BYTES else _MAX_DIMENSIONS
    if not 1 <= len(shape) <= longest or not all(0 <= n <= _MAX_LENGTH for n in shape):
        raise MalformedTensorError(
            f"{name}: its shape is {echo(shape)}; for {datatype} give a list of 1 to {longest} "
            f"lengths from 0 to {_MAX_LENGTH}."
        )
    if datatype == BYTES and shape[0] > max_strings:
        raise MalformedTensorError(f"{name} has {shape[0]} elements; send 1 to {max_strings}.")


def _flag(parameters: dict[str, Any] | None, name: str, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise MalformedTensorError(f"{name} is {echo(value)}; give true or false.")
    return value


def _from_json(name: str, tensor: RequestInput) -> Tensor:
    """The tensor of a JSON array, flat or nested as its shape says; bytes are base64 there."""
    elements = _elements(name, tensor.shape, tensor.data)
    if tensor.datatype == FP32:
        if not set(map(type, elements)) <= {int, float}:
            raise MalformedTensorError(f"{name}: an element of FP32 is no number.")
        try:
            with np.errstate(over="ignore"):
                return _floats(name, tensor, np.array(elements, np.float64).astype(np.float32))
        except OverflowError:  # a whole number beyond float64
            return _floats(name, tensor, np.array([np.inf]))
    strings = []
    for index, text in enumerate(elements):
        strings.append(decode_base64(text) if isinstance(text, str) else None)
        if strings[-1] is None:
            raise MalformedTensorError(
                f"{name}: element {index} is no base64, which bytes are sent as in JSON; without "
                "base64 they go as binary data."
            )
    return Tensor(tensor.name, BYTES, strings)


def _elements(name: str, shape: list[int], data: list[Any] | None) -> list[Any]:
    """The elements of a JSON array in row-major order."""
    if data is None:
        raise MalformedTensorError(f"{name}: its data is missing; send an array.")
    array = np.array(data, dtype=object)
    if list(array.shape) not in (shape, [math.prod(shape)]):
        raise _misshapen(name, shape, list(array.shape))
    elements: list[Any] = array.ravel().tolist()
    return elements


def _from_binary(name: str, tensor: RequestInput, data: bytes) -> Tensor:
    """The tensor of little-endian numbers, or of byte strings with their length before each."""
    if tensor.datatype == FP32:
        expected = math.prod(tensor.shape) * _FLOAT.itemsize
        if len(data) != expected:
            raise MalformedTensorError(
                f"{name}: {len(data)} bytes were sent; the shape {echo(tensor.shape)} of FP32 "
                f"takes {echo(expected)}."
            )
        return _floats(name, tensor, np.frombuffer(data, _FLOAT))
    strings: list[bytes] = []
    at = 0
    while at < len(data) and len(strings) < tensor.shape[0]:
        begin = at + _PREFIX.size
        at = begin + _PREFIX.unpack_from(data, at)[0] if begin <= len(data) else begin
        if at > len(data):
            raise MalformedTensorError(
                f"{name}: the data ends within element {len(strings)}; send each as its length "
                "(four bytes, little-endian) and its bytes."
            )
        strings.append(data[begin:at])
    if at < len(data):
        raise MalformedTensorError(
            f"{name}: {len(data) - at} bytes follow the {len(strings)} elements of its shape."
        )
    if len(strings) < tensor.shape[0]:
        raise _misshapen(name, tensor.shape, [len(strings)])
    return Tensor(tensor.name, BYTES, strings)


def _floats(name: str, tensor: RequestInput, flat: Any) -> Tensor:
    if not np.isfinite(flat).all():
        raise MalformedTensorError(
            f"{name}: an element is infinite, too large for FP32, or no number."
        )
    try:
        values = flat.reshape(tensor.shape).astype(np.float32, copy=False)
    except ValueError as error:  # no elements, and lengths that no array can have
        raise MalformedTensorError(
            f"{name}: no tensor has the shape {echo(tensor.shape)}."
        ) from error
    return Tensor(tensor.name, FP32, values)


def _to_binary(tensor: Tensor) -> bytes:
    if tensor.datatype == BYTES:
        return b"".join(_PREFIX.pack(len(element)) + element for element in tensor.values)
    data: bytes = tensor.values.astype(_FLOAT).tobytes()
    return data


def _misshapen(name: str, shape: list[int], given: list[int]) -> MalformedTensorError:
    return MalformedTensorError(
        f"{name}: data of the shape {echo(given)} was sent; that does not fit the shape "
        f"{echo(shape)}."
    )
