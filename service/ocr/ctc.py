"""The CTC codec: labels to class indices, class probabilities to text.

Conventions (Graves et al. 2006, "Connectionist Temporal Classification"): class `i` is the
i-th symbol of the alphabet, and the blank is a class of its own whose index is stated.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.ocr.exceptions import LabelError


@dataclass(frozen=True, slots=True)
class Character:
    """One character that was read, and how sure the model is of it, 0 to 1."""

    character: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one picture says.

    The confidence of a character is the highest probability that the model gives its symbol
    over the time steps that emit it. The confidence of a text is the product of those of its
    characters; of the empty text, the product of the blank's over all time steps. Both lie
    between 0 and 1.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...]


@dataclass(frozen=True, slots=True)
class CtcCodec:
    """Translates between text and the classes of one model.

    Args:
        alphabet: the symbols in the order of their classes, each one character, none twice.
        blank_index: the class of the blank. The exporter writes `len(alphabet)`; the codec
            holds for any index, the symbols taking the other classes in order.
    """

    alphabet: str
    blank_index: int

    @property
    def classes(self) -> int:
        """How many classes the model has: the symbols and the blank."""
        return len(self.alphabet) + 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol of every class, the empty string for the blank."""
        return (*self.alphabet[: self.blank_index], "", *self.alphabet[self.blank_index :])

    def encode(self, label: str, time_steps: int) -> list[int]:
        """The classes of a label.

        Raises:
            LabelError: a symbol is not in the alphabet, or the label does not fit in
                `time_steps`.
        """
        unknown = sorted(set(label) - set(self.alphabet))
        if unknown:
            raise LabelError(
                f"label {label!r} has {''.join(unknown)!r}, "
                f"which the alphabet {self.alphabet!r} lacks"
            )
        if shortest_path(label) > time_steps:
            raise LabelError(
                f"label {label!r} needs {shortest_path(label)} time steps "
                f"(one a character, one more between equal neighbours); there are {time_steps}"
            )
        class_of = {symbol: index for index, symbol in enumerate(self.symbols)}
        return [class_of[symbol] for symbol in label]

    def decode(self, probabilities: NDArray[np.float32]) -> Reading:
        """Greedy decoding: the best class of every time step, repeats collapsed, blanks dropped.

        Args:
            probabilities: `(time steps, classes)`, the softmax output of one picture.
        """
        best = probabilities.argmax(axis=1)
        maxima = probabilities[np.arange(len(best)), best]
        # Repeats collapse before blanks drop: "a a blank a" reads "aa", never "a".
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        peaks = np.maximum.reduceat(maxima, starts)
        emitted = best[starts] != self.blank_index
        symbols = self.symbols
        characters = tuple(
            Character(symbols[index], float(peak))
            for index, peak in zip(best[starts][emitted], peaks[emitted], strict=True)
        )
        certainties = peaks[emitted] if characters else maxima
        return Reading(
            text="".join(character.character for character in characters),
            confidence=float(np.prod(certainties, dtype=np.float64)),
            characters=characters,
        )


def shortest_path(label: str) -> int:
    """The fewest time steps in which CTC can emit a label: a blank must part equal neighbours."""
    return len(label) + sum(a == b for a, b in itertools.pairwise(label))
