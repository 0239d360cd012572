import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.v2.messages import BYTES, FP32, MalformedTensorError, Tensor, encode, parse

MOST = 3
"""Elements of BYTES that there may be."""

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
SHAPES = st.lists(st.integers(-1, 3), max_size=9) | ANY_JSON
PARAMETERS = ANY_JSON | st.fixed_dictionaries(
    {}, optional={"binary_data_size": st.integers(-1, 20), "binary_data": ANY_JSON}
)
TENSORS = st.fixed_dictionaries(
    {"name": st.text() | ANY_JSON},
    optional={
        "datatype": st.sampled_from([FP32, BYTES]) | ANY_JSON,
        "shape": SHAPES,
        "data": st.lists(ANY_JSON) | ANY_JSON,
        "parameters": PARAMETERS,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS) | ANY_JSON},
    optional={"id": ANY_JSON, "outputs": st.lists(TENSORS) | ANY_JSON, "parameters": PARAMETERS},
)


def body(**changes: Any) -> bytes:
    """A request for one number, with these members of its input changed."""
    tensor = {"name": "x", "datatype": FP32, "shape": [1], "data": [1]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS | ANY_JSON, rest=st.binary(max_size=40), cut=st.integers(-1, 3))
def test_nothing_but_its_own_error_is_raised(document: object, rest: bytes, cut: int) -> None:
    """Whatever is sent is a request, or refused with a message that can be sent back."""
    head = json.dumps(document).encode()
    length = str(len(head) - cut)
    for sent, header in ((head + rest, length), (head, None), (rest, None), (rest, rest.hex())):
        try:
            request = parse(sent, MOST, header)
            said = ""
        except MalformedTensorError as refused:
            request, said = None, str(refused)
        assert said.isascii()
        assert len(said) < 500
        for tensor in request.inputs if request else ():
            assert tensor.datatype == BYTES or np.isfinite(tensor.values).all()


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)),
    strings=st.lists(st.binary()),
    binary=st.booleans(),
)
def test_what_is_encoded_is_parsed_again(
    numbers: list[float], strings: list[bytes], binary: bool
) -> None:
    """Tensors keep every bit, as JSON and as binary data."""
    tensors = [
        Tensor("x", FP32, np.array([numbers], np.float32)),
        # In JSON, a response holds text, and a request base64.
        Tensor("y", BYTES, strings if binary else [base64.b64encode(s) for s in strings]),
    ]
    sent, length = encode({"id": "é"}, [(tensor, binary) for tensor in tensors])
    document = json.loads(sent[:length])
    document["inputs"] = document.pop("outputs")
    head = json.dumps(document).encode()
    request = parse(head + sent[length:], len(strings), str(len(head)))
    first, second = request.inputs
    assert request.identity == "é"
    assert (first.name, first.shape) == ("x", [1, len(numbers)])
    assert first.values.tobytes() == tensors[0].values.tobytes()
    assert second.values == strings


def test_nested_data_is_the_same_as_flat() -> None:
    """JSON data may be nested as the shape says, or flat in row-major order."""
    flat = parse(body(shape=[2, 3], data=[0, 1, 2, 3, 4, 5.5]), MOST)
    nested = parse(body(shape=[2, 3], data=[[0, 1, 2], [3, 4, 5.5]]), MOST)
    assert flat.inputs[0].values.tolist() == [[0, 1, 2], [3, 4, 5.5]]
    assert nested.inputs[0].values.tolist() == flat.inputs[0].values.tolist()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the body: Invalid JSON"),
        (b"[" * 100_000, "the body: Invalid JSON"),
        (body(data=[[]] * (1 << 17)), "send the tensor as binary data, or flat"),
        (body(data=[{}] * (1 << 17)), "send the tensor as binary data, or flat"),
        (body(data=[1] * ((1 << 18) + 9)), "send the tensor as binary data, or flat"),
        (b":" * 1001, "more than 1000 members"),
        (b'[""' + b',""' * 4096 + b"]", "more than 4096 strings"),
        (b'{"inputs": [' + b'{"name": "x"},' * 1001, "more than 1000 members"),
        (b'{"id": ' + b"1" * 4301 + b"}", "the body: Invalid JSON"),
        (b"[]", "the body: Input should be an object"),
        (b"{}", "inputs: Field required"),
        (body(parameters=[]), "inputs.0.parameters: Input should be an object"),
        (b'{"inputs": [1]}', "inputs.0: Input should be an object"),
        (b'{"inputs": [], "id": 1}', "id: Input should be a valid string"),
        (b'{"inputs": [], "parameters": {"binary_data_output": 1}}', "binary_data_output is 1"),
        (b'{"inputs": [], "outputs": [{"name": "a"}, {"name": "a"}]}', "asked for twice"),
        (body(shape=[]), "its shape is []; for FP32 give a list of 1 to 8 lengths"),
        (body(shape=[1, -1]), "its shape is [1, -1]; for FP32 give a list"),
        (body(shape=[1.0]), "inputs.0.shape.0: Input should be a valid integer"),
        (body(shape=[True]), "inputs.0.shape.0: Input should be a valid integer"),
        (body(shape=[1, 2**31 + 1]), "lengths from 0 to 2147483648"),
        (body(shape=[2]), "data of the shape [1] was sent"),
        (body(shape=[0, 2**31, 2**31, 2**31], data=[]), "no tensor has the shape"),
        (body(shape=[2, 1], data=[[1], 2]), "an element of FP32 is no number"),
        (body(datatype="INT8"), "FP32 and BYTES are read"),
        (body(data=[True]), "no number"),
        (body(data=["1"]), "no number"),
        (body(data=[float("nan")]), "infinite, too large for FP32, or no number"),
        (body(data=[10**39]), "infinite, too large for FP32, or no number"),
        (body(data=[10**999]), "infinite, too large for FP32, or no number"),
        (body(datatype=BYTES, data=["é"]), "element 0 is no base64"),
        (body(datatype=BYTES, shape=[4], data=["é"] * 4), "has 4 elements; send 1 to 3"),
        (
            body(datatype=BYTES, shape=[1, 1], data=["é"]),
            "its shape is [1, 1]; for BYTES give",
        ),
        (body(data=[[[1]]]), "data of the shape [1, 1, 1] was sent"),
        (
            body(data=None, parameters={"binary_data_size": 4}),
            "binary_data_size is 4; 0 bytes were sent",
        ),
        (body(parameters={"binary_data_size": 0}), "has data and binary_data_size; send one"),
    ],
)
def test_refusals(sent: bytes, said: str) -> None:
    """What cannot be is refused with what was wrong."""
    with pytest.raises(MalformedTensorError) as refused:
        parse(sent, MOST)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        (FP32, [2], b"1234", "4 bytes were sent; the shape [2] of FP32 takes 8"),
        (FP32, [1], struct.pack("<f", float("inf")), "infinite"),
        (BYTES, [1], b"\1\0\0", "ends within element 0"),
        (BYTES, [2], b"\0\0\0\0\2\0\0\0a", "ends within element 1"),
        (BYTES, [3], b"\0\0\0\0", "data of the shape [1] was sent"),
        (BYTES, [1], b"\0\0\0\0\1\0\0", "3 bytes follow the 1 elements of its shape"),
        (BYTES, [4], b"\1\0\0", "has 4 elements; send 1 to 3"),
        (
            BYTES,
            [1, 1],
            b"\0\0\0\0",
            "its shape is [1, 1]; for BYTES give",
        ),
    ],
)
def test_refusals_of_binary_data(datatype: str, shape: list[int], data: bytes, said: str) -> None:
    """Binary data must be as long as the tensor is."""
    parameters = {"binary_data_size": len(data)}
    head = body(datatype=datatype, shape=shape, data=None, parameters=parameters)
    with pytest.raises(MalformedTensorError) as refused:
        parse(head + data, MOST, str(len(head)))
    assert said in str(refused.value)
    with pytest.raises(MalformedTensorError, match="belong to no input"):
        parse(body() + data, MOST, str(len(body())))


@pytest.mark.parametrize("length", ["", "-1", "1e3", "²", "9" * 5000])
def test_a_length_that_cannot_be(length: str) -> None:
    """The header must hold a number of bytes that the body has."""
    with pytest.raises(MalformedTensorError, match="give the bytes of the JSON"):
        parse(body(), MOST, length)
