import base64
import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.errors import ProblemError
from service.api.v2.messages import BYTES, FP32, InferenceRequest, Tensor, encode
from service.api.v2.messages import parse as parse_for
from service.api.v2.schemas import TensorMetadata

INPUTS = [
    TensorMetadata(name="x", datatype=FP32, shape=[-1, 2]),
    TensorMetadata(name="y", datatype=BYTES, shape=[-1]),
]
MOST, LARGEST = 3, 100
"""Most pictures of a request, and most bytes of a picture."""

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
SHAPES = st.sampled_from([[1], [1, 2]]) | st.lists(st.integers(-1, 3), max_size=3) | ANY_JSON
PARAMETERS = ANY_JSON | st.fixed_dictionaries(
    {}, optional={"binary_data_size": st.integers(-1, 20), "binary_data": ANY_JSON}
)
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from("xy") | ANY_JSON},
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
    """A request with two numbers, and with these members of its input changed."""
    tensor = {"name": "x", "datatype": FP32, "shape": [1, 2], "data": [1, 2]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


def strings(**changes: Any) -> bytes:
    """A request with three zero bytes, and with these members of its input changed."""
    return body(**{"name": "y", "datatype": BYTES, "shape": [1], "data": ["AAAA"]} | changes)


def parse(sent: bytes, length: str | None = None, largest: int = LARGEST) -> InferenceRequest:
    return parse_for(sent, INPUTS, MOST, largest, length)


@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS | ANY_JSON, rest=st.binary(max_size=40), cut=st.integers(-1, 3))
def test_parsing_raises_only_problem_errors(document: object, rest: bytes, cut: int) -> None:
    """Any body is parsed, or refused with a message that can be sent back."""
    head = json.dumps(document).encode()
    length = str(len(head) - cut)
    for sent, header in ((head + rest, length), (head, None), (rest, None), (rest, rest.hex())):
        problem = None
        try:
            tensor = parse(sent, header).tensor
            assert tensor.datatype == BYTES or np.isfinite(tensor.values).all()
        except ProblemError as refused:
            problem = refused
        if problem:
            assert problem.kind.status == 400
            assert len(problem.detail.encode()) < 500


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=6
    ).filter(lambda numbers: len(numbers) % 2 == 0),
    elements=st.lists(st.binary(max_size=LARGEST), min_size=1, max_size=MOST),
    binary=st.booleans(),
)
def test_encoded_tensors_are_parsed_without_loss(
    numbers: list[float], elements: list[bytes], binary: bool
) -> None:
    """They keep every bit, as JSON and as binary data."""

    def parsed(tensor: Tensor) -> InferenceRequest:
        sent, length = encode({"id": "é"}, [(tensor, binary)])
        document = json.loads(sent[:length])
        document["inputs"] = document.pop("outputs")
        head = json.dumps(document).encode()
        return parse(head + sent[length:], str(len(head)))

    rows = np.array(numbers, np.float32).reshape(-1, 2)
    # In JSON, a response holds text, and a request base64.
    sent = elements if binary else [base64.b64encode(element) for element in elements]
    first, second = parsed(Tensor("x", FP32, rows)), parsed(Tensor("y", BYTES, sent))
    assert first.identity == "é"
    assert first.tensor.shape == [len(rows), 2]
    assert first.tensor.values.tobytes() == rows.tobytes()
    assert second.tensor.values == elements


@pytest.mark.parametrize("written", [json.dumps, partial(json.dumps, indent=4)])
def test_nested_and_flat_data_are_the_same(written: Callable[[object], str]) -> None:
    """JSON data may be nested as the shape says, or flat in row-major order."""
    for data in ([[0, 1e-3], [-2, 5.5]], [0, 1e-3, -2, 5.5]):
        tensor = json.loads(body(shape=[2, 2], data=data))
        values = parse(written(tensor).encode()).tensor.values
        assert values.tolist() == [[0, np.float32(1e-3)], [-2, 5.5]]


def test_escaped_base64_is_read() -> None:
    """Some encoders of JSON write the letters of base64 as escapes."""
    sent = strings(data=["@"]).replace(b"@", b"+\\/\\u002b\\n\\u003d")
    assert parse(sent).tensor.values == [base64.b64decode("+/+=")]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the body: Invalid JSON"),
        (b"[" * 1000, "the body: Invalid JSON"),
        (b"[" + b"[]," * 2000 + b"[]]", "over 1024 members and elements"),
        (b"[" + (b"[" * 30 + b"]" * 30 + b",") * 999 + b"[]]", "over 1024 members and elements"),
        (b"[" + (b'{"":' * 30 + b"0" + b"}" * 30 + b",") * 49 + b"0]", "over 1024 members and"),
        (b" " * 70_000, "over 65536 bytes besides the data"),
        (b'[""' + b',""' * 4096 + b"]", "over 2048 strings"),
        (b'{"id": ' + b"1" * 4301 + b"}", "the body: Invalid JSON"),
        (b"[]", "the body: Input should be an object"),
        (b"{}", "inputs: Field required"),
        (body(parameters=[]), "inputs.0.parameters: Input should be an object"),
        (b'{"inputs": [1]}', "inputs.0: Input should be an object"),
        (b'{"inputs": [], "id": 1}', "id: Input should be a valid string"),
        (
            b'{"inputs": [], "parameters": {"binary_data_output": 1}}',
            "parameters.binary_data_output: Input should be a valid boolean",
        ),
        (
            body()[:-1] + b', "outputs": [{"name": "a"}, {"name": "a"}]}',
            "the output 'a' is asked for twice",
        ),
        (b'{"inputs": []}', "the inputs are []; send 'x' (FP32 of the shape [n, 2]) or 'y' (BYTES"),
        (body(name="z"), "the inputs are ['z']"),
        (b'{"inputs": [{"name": "x"}]}', "inputs.0.datatype: Field required"),
        (body(shape=[]), "x is 'FP32' of the shape []; send 'x'"),
        (body(shape=[1, -1]), "of the shape [1, -1]; send 'x'"),
        (body(shape=[0, 2]), "x has 0 pictures; send 1 to 3"),
        (body(shape=[10**9, 2]), "x has 1000000000 pictures; send 1 to 3"),
        (body(shape=[10**4200, 2]), f"x has 1{99 * '0'} pictures; send 1 to 3"),
        (body(shape=[1.0]), "inputs.0.shape.0: Input should be a valid integer"),
        (body(shape=[True]), "inputs.0.shape.0: Input should be a valid integer"),
        (body(shape=[2, 2]), "must be numbers that fit the shape [2, 2]"),
        (body(data=[[[1, 2]]]), "must be numbers that fit the shape [1, 2]"),
        (body(data=[[1], 2]), "must be numbers that fit the shape"),
        (body(data=[True, False]), "must be numbers that fit the shape"),
        (body(data=[1, "2"]), "must be numbers that fit the shape"),
        (body(data=[1, {}]), "must be numbers that fit the shape"),
        (body(data=[1, float("nan")]), "must be numbers that fit the shape"),
        (body(data=5), "inputs.0.data: Input should be a valid array"),
        (body().replace(b"2]}", b"-]}"), "an element is not a number"),
        (body().replace(b"2]}", b"]}"), "an element is not a number"),
        (body().replace(b"1, 2]}", b"1 2,]}"), "an element is not a number"),
        (body().replace(b"1, 2]}", b", 1 2]}"), "an element is not a number"),
        # So many numbers are not parsed, wherever they are.
        (body().replace(b"2]}", b"2" + b" 3" * 1_000_000 + b"]}"), "an element is not a number"),
        (body(data=[1, 10**39]), "infinite, or too large for FP32"),
        (body(data=[1, 10**200]), "infinite, or too large for FP32"),
        (body(data=[1, 10**999]), "an element is not a number, or too large"),
        (body(datatype="INT8"), "x is 'INT8' of the shape"),
        (body(datatype=BYTES), "x is 'BYTES' of the shape"),
        (body(data=None), "send either its data or its binary_data_size"),
        (body(parameters={"binary_data_size": 0}), "send either its data or its binary_data_size"),
        (
            body(data=None, parameters={"binary_data_size": 4}),
            "0 bytes follow the JSON, and binary_data_size is 4",
        ),
        (strings(data=["é"]), "element 0 is not base64"),
        (strings(data=["\\"]), "element 0 is not base64"),
        (strings(data=[1]), "must be texts in base64 that fit the shape [1]"),
        (strings(data=[["AAAA"]]), "must be texts in base64 that fit the shape [1]"),
        (strings(data=["AAAA"] * 2), "must be texts in base64 that fit the shape [1]"),
        (
            strings(data=["@"]).replace(b"@", b'AAAA" "AAAA'),
            "must be texts in base64 that fit the shape [1]",
        ),
        (
            strings(shape=[2], data=["@"]).replace(b'"@"', b'"AAAA" "AAAA",'),
            "must be texts in base64 that fit the shape [2]",
        ),
        (strings(shape=[4], data=["AAAA"] * 4), "y has 4 pictures; send 1 to 3"),
        (strings(shape=[1, 1]), "y is 'BYTES' of the shape [1, 1]"),
        (strings(shape=[2], data=["AAAA", "A" * 136]), "element 1 has over 100 bytes"),
        (strings(data=["A" * 300]), "element 0 has over 100 bytes"),
    ],
)
def test_an_invalid_request_is_refused(sent: bytes, said: str) -> None:
    """The problem says what is wrong."""
    with pytest.raises(ProblemError) as refused:
        parse(sent)
    assert said in refused.value.detail


def test_too_many_numbers_in_json_are_refused() -> None:
    """Binary data may have more."""
    inputs = [TensorMetadata(name="x", datatype=FP32, shape=[-1, (1 << 18) + 1])]
    with pytest.raises(ProblemError, match="send them as binary data"):
        parse_for(body(shape=[1, (1 << 18) + 1]), inputs, MOST, LARGEST)


@pytest.mark.parametrize(
    ("head", "data", "said"),
    [
        (body, b"1234", "4 bytes of FP32 were sent; its shape takes 8"),
        (body, struct.pack("<ff", 1, float("inf")), "infinite"),
        (strings, b"\1\0\0", "ends within element 0"),
        (partial(strings, shape=[2]), b"\0\0\0\0\2\0\0\0a", "ends within element 1"),
        (partial(strings, shape=[3]), b"\0\0\0\0", "ends within element 1"),
        (strings, b"\0\0\0\0\1\0\0", "3 bytes follow the 1 elements"),
        (strings, struct.pack("<I", 101) + b"0" * 101, "element 0 has over 100 bytes"),
    ],
)
def test_invalid_binary_data_are_refused(
    head: Callable[..., bytes], data: bytes, said: str
) -> None:
    """Binary data must be exactly as long as the tensor."""
    sent = head(data=None, parameters={"binary_data_size": len(data)})
    with pytest.raises(ProblemError) as refused:
        parse(sent + data, str(len(sent)))
    assert said in refused.value.detail
    with pytest.raises(ProblemError, match="bytes follow the JSON, and binary_data_size is None"):
        parse(body() + data, str(len(body())))


@pytest.mark.parametrize("length", ["", "-1", "1e3", "²", "9" * 5000])
def test_an_invalid_length_header_is_refused(length: str) -> None:
    """The header must be a number of bytes that the body has."""
    with pytest.raises(ProblemError, match="give the bytes of the JSON"):
        parse(body(), length)
