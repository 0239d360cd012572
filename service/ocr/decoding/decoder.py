"""From class probabilities to a reading: the text, how sure it is, and where it stands."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.alignment import Steps, forced_steps, greedy_steps, spans
from service.ocr.decoding.beam_search import Label, most_probable
from service.ocr.decoding.calibration import Calibration
from service.ocr.decoding.constraints import Automaton
from service.ocr.decoding.ctc import CtcCodec
from service.ocr.decoding.likelihood import log_likelihood


class Character(NamedTuple):
    """One character of a reading.

    Its confidence is the probability that this position holds this character, given that one
    stands there: the character's probability in the surest of the time steps that emit it,
    calibrated. CTC emits a character in one or two time steps (Graves et al. 2006), in which this
    is nearly the posterior of the forward-backward algorithm, and ranks as well. `span` is its
    horizontal extent.
    """

    character: str
    confidence: float
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A text, and its confidence in the sense of `Reading`."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one picture says.

    The confidence of a text is its posterior probability, summed over all of its alignments
    (Graves et al. 2006) and calibrated: among many readings of confidence 0.9, nine in ten are
    right. `satisfied` is false where a constraint left no text at all. `matrix` is what the text
    was read from, where it was asked for: the tempered class probabilities of every time step.
    `pixels` is the picture's width × height.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    satisfied: bool = True
    matrix: list[list[float]] | None = None
    pixels: int = 1


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a picture besides its text.

    Args:
        alternatives: how many of the most probable other texts to give.
        constraint: the reading is then the most probable text that satisfies it, and so are the
            alternatives.
        matrix: whether to give the class probabilities, too.
    """

    alternatives: int = 0
    constraint: Automaton | None = None
    matrix: bool = False


PLAIN = Question()


class Decoder:
    """Decodes the probabilities of one model.

    Args:
        codec: of the model's alphabet.
        calibration: of the model's confidences.
    """

    def __init__(self, codec: CtcCodec, calibration: Calibration | None = None) -> None:
        self._codec = codec
        self._calibration = calibration or Calibration()

    def decode(
        self,
        probabilities: NDArray[np.floating],
        question: Question = PLAIN,
        width: int = 1,
        height: int = 1,
    ) -> Reading:
        """Decodes one picture.

        Args:
            probabilities: `(time steps, classes)`, the softmax output.
            question: without a constraint, the reading is the greedy best path's.
            width, height: of the picture, in the unit that spans are to be in.
        """
        blank = self._codec.blank_index
        alternatives, constraint = question.alternatives, question.constraint
        tempered = self._calibration.tempered(probabilities)
        best = probabilities.argmax(axis=1).tolist()
        steps = greedy_steps(best, blank)
        label: Label = tuple(best[start] for start, _ in steps)
        score = log_likelihood(tempered, label, blank)
        settled = constraint is None or self._is_the_best(label, score, constraint)
        found: list[tuple[Label, float]] = []
        if alternatives or not settled:
            found = most_probable(tempered, blank, alternatives + 1, constraint)
        if not settled:
            if not found:
                matrix = tempered.tolist() if question.matrix else None
                return Reading("", 0.0, (), satisfied=False, matrix=matrix, pixels=width * height)
            label, score = found[0]
            steps = forced_steps(tempered, label, blank)
        others = [(other, score) for other, score in found if other != label][:alternatives]
        return Reading(
            self._codec.text(label),
            self._text_confidence(score),
            self._characters(tempered, label, steps, width),
            alternatives=tuple(
                Alternative(self._codec.text(other), self._text_confidence(score))
                for other, score in others
            ),
            matrix=tempered.tolist() if question.matrix else None,
            pixels=width * height,
        )

    def _is_the_best(self, label: Label, score: float, constraint: Automaton) -> bool:
        """Whether no other text that satisfies a constraint can be more probable; this one does."""
        more_than_all_others = score > math.log(0.5)
        return more_than_all_others and constraint.accepts(
            self._codec.text(label), self._codec.alphabet
        )

    def _characters(
        self, tempered: NDArray[np.float64], label: Label, steps: Steps, width: int
    ) -> tuple[Character, ...]:
        confidences = [
            self._calibration.character(max(tempered[start:end, symbol].tolist()))
            for symbol, (start, end) in zip(label, steps, strict=True)
        ]
        symbols = self._codec.text(label)
        return tuple(map(Character, symbols, confidences, spans(steps, len(tempered), width)))

    def _text_confidence(self, log_likelihood: float) -> float:
        return self._calibration.text(math.exp(log_likelihood))
