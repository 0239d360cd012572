"""Inference requests and responses: a JSON object, and after it the tensors sent as binary data."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from service.api.v2.tensors import (
    MalformedTensorError,
    Tensor,
    checked_shape,
    echo,
    from_binary,
    from_json,
    to_binary,
    to_json,
)

LENGTH_HEADER = "inference-header-content-length"
"""The HTTP header that tells how many bytes of a body are JSON, if not all of them."""

_SIZE = "binary_data_size"

_MOST_ELEMENTS, _MOST_BRACKETS = 1 << 20, 1 << 17
"""In the JSON of a request. `json` lets no other thread run until it is done, which is a tenth of a
second for these; and empty objects take a hundred times the bytes that stand for them."""

_MOST_MEMBERS = 1000
"""In that JSON, each of which has a colon. Inputs are looked at one by one, and the model has one;
what can be asked of it takes twenty members."""

_PIECE = 1000
"""Elements that become JSON without a pause."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What is to be inferred.

    Args:
        identity: given back with the answer.
        inputs: in the order in which they were sent.
        outputs: the names of those that are wanted, and whether as binary data; empty: all.
        binary: whether outputs that do not say are wanted as binary data.
    """

    identity: str | None
    inputs: tuple[Tensor, ...]
    outputs: Mapping[str, bool]
    binary: bool

    @classmethod
    def parse(cls, body: bytes, most: int, length: str | None = None) -> Self:
        """Takes a body apart.

        Args:
            most: elements of BYTES in an input.
            length: the value of `LENGTH_HEADER`, where there is one.

        Raises:
            MalformedTensorError: the body is no inference request; nothing else is raised.
        """
        end = _end(length, len(body))
        document = _object(body[:end])
        identity = document.get("id")
        if not isinstance(identity, str | None):
            raise MalformedTensorError(f"id is {echo(identity)}; give a string.")
        binary = _flag(document, "the request", "binary_data_output", False)
        inputs = _inputs(_list(document, "inputs"), memoryview(body)[end:], most)
        outputs: dict[str, bool] = {}
        for output in _list(document, "outputs") if document.get("outputs") is not None else []:
            name = _name(output, "output")
            if name in outputs:
                raise MalformedTensorError(f"the output {echo(name)} is asked for twice.")
            outputs[name] = _flag(output, name, "binary_data", binary)
        return cls(identity, inputs, outputs, binary)


def encoded(head: Mapping[str, Any], tensors: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, int]:
    """The body of a response.

    Args:
        head: its other members.
        tensors: each with whether it goes as binary data.

    Returns:
        The body, and how many bytes of it are JSON.
    """
    outputs: list[str] = []
    buffers: list[bytes] = []
    for tensor, binary in tensors:
        output = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if binary:
            buffers.append(to_binary(tensor))
            outputs.append(_written(output | {"parameters": {_SIZE: len(buffers[-1])}}))
        else:
            outputs.append(f'{_written(output)[:-1]},"data":[{_elements(tensor)}]}}')
    document = _written({**head, "outputs": []})[: -len("]}")] + ",".join(outputs) + "]}"
    begin = document.encode()
    return b"".join([begin, *buffers]), len(begin)


def _elements(tensor: Tensor) -> str:
    """The elements, a piece at a time: `json` lets no other thread run until it is done."""
    elements = to_json(tensor)
    pieces = range(0, len(elements), _PIECE)
    return ",".join(_written(elements[i : i + _PIECE])[1:-1] for i in pieces)


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _end(length: str | None, size: int) -> int:
    """Where the JSON ends."""
    if length is None:
        return size
    # No body has as many bytes as a number of ten digits.
    if not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= size):
        raise MalformedTensorError(
            f"the header {LENGTH_HEADER} is {echo(length)}; give the bytes of the JSON, at most "
            f"the {size} of the body."
        )
    return int(length)


def _object(text: bytes) -> dict[str, Any]:
    if _has_over(_MOST_MEMBERS, b":", text):
        raise MalformedTensorError(
            f"the JSON has more than {_MOST_MEMBERS} members, or colons; send one input, which "
            "takes five."
        )
    if text.count(b",") > _MOST_ELEMENTS or text.count(b"[") + text.count(b"{") > _MOST_BRACKETS:
        raise MalformedTensorError(
            f"the JSON has more than {_MOST_ELEMENTS} elements, or {_MOST_BRACKETS} brackets; send "
            "the tensor as binary data, or flat."
        )
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedTensorError("the body does not begin with an object in JSON.") from error
    except ValueError as error:  # the only other one
        raise MalformedTensorError(
            f"the JSON has a whole number of more than {sys.get_int_max_str_digits()} digits; no "
            "element or length is as large."
        ) from error
    if not isinstance(document, dict):
        raise MalformedTensorError("the JSON is no object.")
    return document


def _has_over(most: int, symbol: bytes, text: bytes) -> bool:
    """Whether a symbol is there more often; where it is rare, far sooner known than its count."""
    at = -1
    for _ in range(most + 1):
        at = text.find(symbol, at + 1)
        if at < 0:
            return False
    return True


def _list(document: dict[str, Any], member: str) -> list[Any]:
    members = document.get(member)
    if not isinstance(members, list):
        raise MalformedTensorError(f"{member} is {echo(members)}; give an array of objects.")
    return members


def _name(tensor: object, kind: str) -> str:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise MalformedTensorError(f"an {kind} is {echo(tensor)}; give an object with a name.")
    name: str = tensor["name"]
    return name


def _parameters(owner: dict[str, Any], name: str) -> dict[str, Any]:
    parameters = owner.get("parameters")
    if not isinstance(parameters, dict | None):
        raise MalformedTensorError(
            f"the parameters of {echo(name)} are {echo(parameters)}; give an object."
        )
    return parameters or {}


def _flag(owner: dict[str, Any], name: str, parameter: str, default: bool) -> bool:
    value = _parameters(owner, name).get(parameter, default)
    if not isinstance(value, bool):
        raise MalformedTensorError(f"{parameter} is {echo(value)}; give true or false.")
    return value


def _inputs(members: list[Any], rest: memoryview, most: int) -> tuple[Tensor, ...]:
    tensors = []
    at = 0
    for member in members:
        name = echo(_name(member, "input"))
        datatype = member.get("datatype")
        shape = checked_shape(name, datatype, member.get("shape"), most)
        size = _parameters(member, member["name"]).get(_SIZE)
        if size is None:
            tensor = from_json(name, datatype, shape, member.get("data"))
        else:
            if member.get("data") is not None:
                raise MalformedTensorError(f"{name} has data and {_SIZE}; send one of them.")
            if type(size) is not int or not 0 <= size <= len(rest) - at:
                raise MalformedTensorError(
                    f"{name}: {_SIZE} is {echo(size)}; {len(rest) - at} bytes were sent for it."
                )
            tensor = from_binary(name, datatype, shape, bytes(rest[at : at + size]))
            at += size
        tensors.append(Tensor(member["name"], tensor.datatype, tensor.values))
    if at != len(rest):
        raise MalformedTensorError(f"{len(rest) - at} bytes were sent that belong to no input.")
    return tuple(tensors)
