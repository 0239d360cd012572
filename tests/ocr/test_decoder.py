import numpy as np
import pytest

from service.ocr.decoding import decoder
from service.ocr.decoding.beam_search import most_probable
from service.ocr.decoding.calibration import Calibration, Logistic
from service.ocr.decoding.constraints import of_length, of_symbols
from service.ocr.decoding.ctc import CtcCodec
from service.ocr.decoding.decoder import Decoder, Question
from tests.ocr.test_likelihood import distribution

CODEC = CtcCodec("abc", blank_index=3)
DECODER = Decoder(CODEC)
ONE = Question(constraint=of_length(1, 1, "abc"))


def rows(*steps: dict[str, float]) -> np.ndarray:
    """One distribution for each step. `_` is the blank; symbols that are not named have 0."""
    return np.array([[step.get(s, 0.0) for s in "abc_"] for step in steps], np.float32)


def test_the_confidence_of_a_text_is_its_posterior() -> None:
    """It is the sum over all alignments: "a" may be emitted in either step, or in both."""
    probabilities = rows({"a": 0.6, "_": 0.4}, {"a": 0.3, "_": 0.7})
    reading = DECODER.decode(probabilities)
    assert reading.text == "a"
    assert reading.confidence == pytest.approx(0.6 * 0.7 + 0.6 * 0.3 + 0.4 * 0.3, abs=1e-6)


def test_the_confidence_of_a_character_is_its_highest_probability() -> None:
    """Only the time steps that emit the character count."""
    probabilities = rows(
        {"a": 0.6, "_": 0.4}, {"a": 0.9, "b": 0.1}, {"_": 1.0}, {"c": 0.7, "a": 0.3}
    )
    reading = DECODER.decode(probabilities)
    assert reading.text == "ac"
    assert [c.confidence for c in reading.characters] == pytest.approx([0.9, 0.7], abs=1e-6)


def test_a_blank_picture_has_the_empty_text() -> None:
    """Its confidence is the probability that no step emits a symbol."""
    reading = DECODER.decode(rows({"_": 0.9, "a": 0.1}, {"_": 0.8, "b": 0.2}))
    assert (reading.text, reading.characters) == ("", ())
    assert reading.confidence == pytest.approx(0.72, abs=1e-6)


def test_spans_reach_half_way_to_the_neighbours() -> None:
    """Spans are fractions of the width, or pixels if the width is given.

    The outer half of the first and of the last span is as long as its inner half.
    """
    sure = {"_": {"_": 1.0}, "a": {"a": 1.0}, "b": {"b": 1.0}}
    probabilities = rows(*(sure[s] for s in "__a___bb__"))
    (a0, a1), (b0, b1) = (one.span for one in DECODER.decode(probabilities).characters)
    # The centres are at 2.5 and 7 of 10 steps.
    assert (a0, a1, b0, b1) == pytest.approx((0.025, 0.475, 0.475, 0.925))
    widened = DECODER.decode(probabilities, width=400, height=100)
    assert widened.characters[0].span == pytest.approx((10, 190))
    assert widened.pixels == 40_000


def test_alternatives_are_other_texts() -> None:
    """As many are given as requested, the best first, each with its own confidence."""
    probabilities = rows({"a": 0.5, "b": 0.3, "_": 0.2})
    reading = DECODER.decode(probabilities, Question(alternatives=2))
    assert reading.text == "a"
    found = [(other.text, round(other.confidence, 6)) for other in reading.alternatives]
    assert found == [("b", 0.3), ("", 0.2)]
    assert DECODER.decode(probabilities).alternatives == ()


def test_the_text_satisfies_the_constraint() -> None:
    """It is the most probable of these texts, with its own probability and spans."""
    probabilities = rows({"a": 0.8, "b": 0.1, "_": 0.1}, {"_": 1.0}, {"a": 0.9, "b": 0.1})
    constraint = of_symbols("b", "abc").intersect(of_length(2, 2, "abc")).trimmed()
    reading = DECODER.decode(probabilities, Question(constraint=constraint))
    assert reading.text == "bb"
    assert reading.confidence == pytest.approx(0.01, abs=1e-6)
    assert [c.span[0] < 0.5 for c in reading.characters] == [True, False]


def test_an_impossible_constraint_gives_no_text() -> None:
    """The reading says that no text satisfies the constraint."""
    three = of_length(3, 3, "abc")
    reading = DECODER.decode(rows({"a": 1.0}, {"a": 1.0}), Question(constraint=three))
    assert (reading.text, reading.confidence, reading.satisfied) == ("", 0.0, False)


def test_the_matrix_is_returned_only_on_request() -> None:
    """The matrix has the tempered probabilities, even if no text satisfies the constraint."""
    probabilities = rows({"a": 0.9, "b": 0.1}, {"_": 1.0})
    assert DECODER.decode(probabilities).matrix is None
    flat = Decoder(CODEC, Calibration(temperature=2.0))
    impossible = Question(constraint=of_length(3, 3, "abc"), matrix=True)
    for question in (Question(matrix=True), impossible):
        matrix = flat.decode(probabilities, question).matrix
        assert matrix is not None
        assert np.array(matrix) == pytest.approx(
            np.array([[0.75, 0.25, 0, 0], [0, 0, 0, 1]]), abs=1e-3
        )


def test_calibration_is_applied() -> None:
    """The temperature applies to time steps, the logistic functions to texts and characters."""
    probabilities = rows({"a": 0.9, "b": 0.1})
    flat = Decoder(CODEC, Calibration(temperature=2.0)).decode(probabilities)
    assert flat.confidence == pytest.approx(0.75, abs=1e-4)  # square roots are as 3 to 1
    doubled = Calibration(text=Logistic(2.0, 0.0), character=Logistic(1.0, -np.log(9)))
    reading = Decoder(CODEC, doubled).decode(probabilities)
    assert reading.confidence == pytest.approx(81 / 82, abs=1e-6)
    assert reading.characters[0].confidence == pytest.approx(0.5, abs=1e-6)


def test_the_default_calibration_changes_nothing() -> None:
    probabilities = distribution(6, 4, seed=1)
    assert Calibration().tempered(probabilities) == pytest.approx(probabilities, abs=1e-6)
    assert [Logistic()(p) for p in (0.1, 0.5, 0.999)] == pytest.approx([0.1, 0.5, 0.999])
    assert [Logistic(100, -100)(p) for p in (0, 1)] == [0, 1]


def test_a_sure_text_that_satisfies_the_constraint_needs_no_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text is more probable than all others together. A less sure text needs a search."""
    searches = []

    def counted(*arguments: object) -> list[tuple[tuple[int, ...], float]]:
        searches.append(arguments)
        return most_probable(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decoder, "most_probable", counted)
    sure = rows({"a": 0.9, "_": 0.1}, {"_": 1.0}, {"b": 0.8, "c": 0.2})
    two = Question(constraint=of_length(2, 2, "abc"))
    assert DECODER.decode(sure, two) == DECODER.decode(sure)
    assert not searches
    assert DECODER.decode(sure, ONE).text == "b"
    assert DECODER.decode(rows({"a": 0.4, "b": 0.35, "_": 0.25}), ONE).text == "a"
    assert len(searches) == 2
