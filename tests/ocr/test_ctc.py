import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ocr.decoding.ctc import CtcCodec, shortest_path
from service.ocr.exceptions import LabelError

CODEC = CtcCodec("abc", blank_index=3)


def probabilities(path: str, codec: CtcCodec = CODEC, peak: float = 0.7) -> np.ndarray:
    """Gives the symbol of each step in `path` the probability `peak`; `_` is the blank.

    The other classes share the rest evenly.
    """
    symbols = ["_" if symbol == "" else symbol for symbol in codec.symbols]
    rows = np.full((len(path), codec.classes), (1 - peak) / (codec.classes - 1), np.float32)
    rows[np.arange(len(path)), [symbols.index(symbol) for symbol in path]] = peak
    return rows


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("_a_b_c_", "abc"),
        ("aaabbb", "ab"),
        ("aa_a", "aa"),
        ("a__a", "aa"),
        ("____", ""),
        ("a", "a"),
        ("abab", "abab"),
        ("_", ""),
    ],
)
def test_repeats_are_collapsed_before_blanks_are_dropped(path: str, text: str) -> None:
    """These two rules of CTC give the text of the best path."""
    assert CODEC.decode(probabilities(path)) == text


def test_the_blank_may_have_any_index() -> None:
    """The symbols have the other indices, in order."""
    codec = CtcCodec("abc", blank_index=1)
    assert codec.symbols == ("a", "", "b", "c")
    assert codec.encode("abc", time_steps=3) == [0, 2, 3]
    assert codec.decode(probabilities("a_bb_bc", codec)) == "abbc"


labels = st.text(alphabet="abc", min_size=0, max_size=12)


@given(labels, st.lists(st.integers(1, 3), min_size=12, max_size=12))
def test_decoding_reverses_encoding(label: str, lengths: list[int]) -> None:
    """Any alignment of a label is decoded to this label."""
    path = ["_"]
    for symbol, length in zip(label, lengths, strict=False):
        path += ["_"] if path[-1] == symbol else []
        path += [symbol] * length
    assert CODEC.decode(probabilities("".join(path))) == label
    assert [CODEC.symbols[i] for i in CODEC.encode(label, time_steps=50)] == list(label)


@given(labels)
def test_a_label_fits_in_exactly_its_shortest_path(label: str) -> None:
    """One time step fewer is refused."""
    path = "".join(
        symbol if i == 0 or label[i - 1] != symbol else "_" + symbol
        for i, symbol in enumerate(label)
    )
    assert len(path) == shortest_path(label)
    CODEC.encode(label, time_steps=len(path))
    if label:
        with pytest.raises(LabelError, match="time steps"):
            CODEC.encode(label, time_steps=len(path) - 1)


def test_a_label_outside_the_alphabet_is_refused() -> None:
    """The error names its unknown symbols."""
    with pytest.raises(LabelError, match="'XZ'"):
        CODEC.encode("aZXb", time_steps=50)
