"""Decodes class probabilities to a reading: the text, its confidence and its position."""

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
from service.ocr.exceptions import SlowPictureError
from service.ocr.preprocessing import Region


class Character(NamedTuple):
    """One character of a reading.

    `confidence` is the calibrated probability that this position holds this character. It is the
    largest probability of the character in the one or two time steps that emit it (Graves et al.
    2006), which is nearly the posterior of the forward-backward algorithm. `span` is the
    character's horizontal extent.
    """

    character: str
    confidence: float
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another text, and its confidence as defined in `Reading`."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The text of one picture, with its confidence and characters.

    `confidence` is the posterior probability of the text, summed over all of its alignments
    (Graves et al. 2006) and calibrated: among many readings of confidence 0.9, about nine in ten
    are right. `satisfied` is False if the constraint allows no text. `matrix` has the tempered
    class probabilities of every time step, if the question asks for them. `pixels` is the picture's
    width × height.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    satisfied: bool = True
    matrix: list[list[float]] | None = None
    pixels: int = 1


_SLOW_TRANSITIONS = 1200
"""States × symbols above which a constraint is slow; 1 to 12 characters of 79 symbols: 1,027."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a picture besides its text.

    Args:
        alternatives: how many of the most probable other texts to give.
        constraint: what the text and the alternatives must satisfy.
        matrix: whether to give the class probabilities.
        region: the only part of the picture to read; spans are relative to the whole picture.
    """

    alternatives: int = 0
    constraint: Automaton | None = None
    matrix: bool = False
    region: Region | None = None

    @property
    def is_slow(self) -> bool:
        """Whether decoding may take several times longer than the model, whatever the picture."""
        constraint = self.constraint
        return constraint is not None and constraint.transitions.size > _SLOW_TRANSITIONS


PLAIN = Question()


class Decoder:
    """Decodes the probabilities of one model.

    Args:
        codec: the codec of the model's alphabet.
        calibration: the calibration of the model's confidences.
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
        *,
        slow: bool = True,
    ) -> Reading:
        """Decodes one picture.

        Args:
            probabilities: `(time steps, classes)`, the softmax output.
            question: without a constraint, the text is that of the greedy best path.
            width, height: size of the picture or of its region; spans are in the same unit.
            slow: whether to search for a text if the greedy text does not settle the constraint;
                the search takes several times as long as the model.

        Raises:
            SlowPictureError: the search is needed, and `slow` is False.
        """
        blank = self._codec.blank_index
        alternatives, constraint = question.alternatives, question.constraint
        tempered = self._calibration.tempered(probabilities)
        best = probabilities.argmax(axis=1).tolist()
        steps = greedy_steps(best, blank)
        label: Label = tuple([best[start] for start, _ in steps])
        score = log_likelihood(tempered, label, blank)
        settled = constraint is None or self._is_the_best(label, score, constraint)
        if not settled and not slow:
            raise SlowPictureError("The text must be searched for, which takes long.")
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
        text = self._codec.text(label)
        return Reading(
            text,
            self._text_confidence(score),
            self._characters(tempered, text, label, steps, width, question.region),
            alternatives=tuple(
                [
                    Alternative(self._codec.text(other), self._text_confidence(score))
                    for other, score in others
                ]
            ),
            matrix=tempered.tolist() if question.matrix else None,
            pixels=width * height,
        )

    def _is_the_best(self, label: Label, score: float, constraint: Automaton) -> bool:
        """Whether the text satisfies the constraint and no other text can be more probable."""
        more_than_all_others = score > math.log(0.5)
        return more_than_all_others and constraint.accepts(
            self._codec.text(label), self._codec.alphabet
        )

    def _characters(
        self,
        tempered: NDArray[np.float64],
        text: str,
        label: Label,
        steps: Steps,
        width: int,
        region: Region | None,
    ) -> tuple[Character, ...]:
        confidences = [
            self._calibration.character(max(tempered[start:end, symbol].tolist()))
            for symbol, (start, end) in zip(label, steps, strict=True)
        ]
        places = spans(steps, len(tempered), width)
        if region is not None:
            places = [(region.x + left, region.x + right) for left, right in places]
        return tuple(map(Character, text, confidences, places))

    def _text_confidence(self, log_likelihood: float) -> float:
        return self._calibration.text(math.exp(log_likelihood))
