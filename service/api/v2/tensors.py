"""Tensors on the wire, as JSON or as bytes, from and to numpy arrays.

Source: Open Inference Protocol, version 2, "Tensor Data", and its extension for binary tensors
(https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol).
"""

import math
import reprlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from service.api.uploads import decode_base64
from service.ocr.exceptions import LONGEST_ECHO

FP32, BYTES = "FP32", "BYTES"
MOST_DIMENSIONS = 8

_LONGEST = 2**31
_FLOAT = np.dtype("<f4")
_LENGTH = struct.Struct("<I")


class MalformedTensorError(ValueError):
    """What was sent is no tensor; the message says why, and what would be one."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array.

    Args:
        values: FP32: a float32 array of any shape, every value finite; BYTES: a list, of one
            dimension.
    """

    name: str
    datatype: str
    values: Any

    @property
    def shape(self) -> list[int]:
        """The length of every dimension."""
        return list(self.values.shape) if self.datatype == FP32 else [len(self.values)]


def echo(value: object) -> str:
    """What was sent, in a form and length that an error can repeat."""
    if value is None:
        return "missing"  # or null, which means the same
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()[:LONGEST_ECHO]


def checked_shape(name: str, datatype: object, shape: object, most: int) -> list[int]:
    """The shape, if it is a list of lengths that a tensor of this datatype can have.

    Args:
        most: elements of BYTES.

    Raises:
        MalformedTensorError
    """
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise MalformedTensorError(
            f"{name}: its shape is {echo(shape)}; give a list of 1 to {MOST_DIMENSIONS} lengths."
        )
    for index, length in enumerate(shape):
        if type(length) is not int or not 0 <= length <= _LONGEST:
            raise MalformedTensorError(
                f"{name}: its shape is {echo(shape)}; element {index} is no whole number from 0 "
                f"to {_LONGEST}."
            )
    if datatype == BYTES and len(shape) > 1:
        raise MalformedTensorError(f"{name}: its shape is {echo(shape)}; of BYTES it is [n].")
    if datatype == BYTES and shape[0] > most:
        raise MalformedTensorError(f"{name} has {shape[0]} elements; send 1 to {most}.")
    return shape


def from_json(name: str, datatype: object, shape: list[int], data: object) -> Tensor:
    """The tensor of a JSON array, flat or nested as its shape says.

    JSON holds no bytes, so elements of BYTES are base64 there.

    Raises:
        MalformedTensorError
    """
    elements = _flat(name, shape, data)
    if datatype == FP32:
        return _floats(name, shape, _numbers(name, elements))
    if datatype == BYTES:
        return Tensor(name, BYTES, [_decoded(name, i, text) for i, text in enumerate(elements)])
    raise _unknown(name, datatype)


def from_binary(name: str, datatype: object, shape: list[int], data: bytes) -> Tensor:
    """The tensor of little-endian numbers, or of byte strings with their length before each.

    Raises:
        MalformedTensorError
    """
    if datatype == FP32:
        expected = math.prod(shape) * _FLOAT.itemsize
        if len(data) != expected:
            raise MalformedTensorError(
                f"{name}: {len(data)} bytes were sent; the shape {echo(shape)} of FP32 takes "
                f"{echo(expected)}."
            )
        return _floats(name, shape, np.frombuffer(data, _FLOAT))
    if datatype == BYTES:
        return Tensor(name, BYTES, _split(name, shape, data))
    raise _unknown(name, datatype)


def to_json(tensor: Tensor) -> list[Any]:
    """The elements in row-major order; BYTES as text, which they must be."""
    if tensor.datatype == BYTES:
        return [element.decode() for element in tensor.values]
    elements: list[Any] = tensor.values.ravel().tolist()
    return elements


def to_binary(tensor: Tensor) -> bytes:
    """What `from_binary` reads."""
    if tensor.datatype == BYTES:
        return b"".join(_LENGTH.pack(len(element)) + element for element in tensor.values)
    data: bytes = tensor.values.astype(_FLOAT).tobytes()
    return data


def _flat(name: str, shape: list[int], data: object) -> list[Any]:
    if not isinstance(data, list):
        raise MalformedTensorError(f"{name}: its data is {echo(data)}; send an array.")
    if not (data and isinstance(data[0], list)):
        if len(data) != math.prod(shape):
            raise _miscounted(name, shape, len(data))
        return data
    rows: Sequence[Any] = [data]
    for length in shape:
        if not all(isinstance(row, list) and len(row) == length for row in rows):
            raise MalformedTensorError(
                f"{name}: its data is not nested as its shape {echo(shape)} says; send it so, or "
                "flat."
            )
        rows = list(chain.from_iterable(rows))
    return list(rows)


def _numbers(name: str, elements: list[Any]) -> Any:
    if not set(map(type, elements)) <= {int, float}:
        raise MalformedTensorError(f"{name}: an element of FP32 is no number.")
    try:
        with np.errstate(over="ignore"):
            return np.array(elements, np.float64).astype(np.float32)
    except OverflowError as error:
        raise _not_finite(name) from error


def _floats(name: str, shape: list[int], flat: Any) -> Tensor:
    if not np.isfinite(flat).all():
        raise _not_finite(name)
    try:
        return Tensor(name, FP32, flat.reshape(shape).astype(np.float32, copy=False))
    except ValueError as error:  # no elements, and lengths that no array can have
        raise MalformedTensorError(f"{name}: no tensor has the shape {echo(shape)}.") from error


def _decoded(name: str, index: int, text: object) -> bytes:
    data = decode_base64(text) if isinstance(text, str) else None
    if data is not None:
        return data
    raise MalformedTensorError(
        f"{name}: element {index} is no base64, which bytes are sent as in JSON; without base64 "
        "they go as binary data."
    )


def _split(name: str, shape: list[int], data: bytes) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        if len(elements) == shape[0]:
            raise MalformedTensorError(
                f"{name}: {len(data) - at} bytes follow the {shape[0]} elements of its shape."
            )
        begin = at + _LENGTH.size
        if begin > len(data):
            raise _cut_short(name, len(elements))
        at = begin + _LENGTH.unpack_from(data, at)[0]
        if at > len(data):
            raise _cut_short(name, len(elements))
        elements.append(data[begin:at])
    if len(elements) < shape[0]:
        raise _miscounted(name, shape, len(elements))
    return elements


def _cut_short(name: str, index: int) -> MalformedTensorError:
    return MalformedTensorError(
        f"{name}: the data ends within element {index}; send each as its length (four bytes, "
        "little-endian) and its bytes."
    )


def _miscounted(name: str, shape: list[int], given: int) -> MalformedTensorError:
    return MalformedTensorError(
        f"{name}: {given} elements were sent; that does not fit the shape {echo(shape)}."
    )


def _not_finite(name: str) -> MalformedTensorError:
    return MalformedTensorError(
        f"{name}: an element is infinite, too large for FP32, or no number."
    )


def _unknown(name: str, datatype: object) -> MalformedTensorError:
    return MalformedTensorError(
        f"{name}: the datatype is {echo(datatype)}; {FP32} and {BYTES} are read."
    )
