"""The CTC codec: from labels to classes, and from class probabilities to text.

Conventions (Graves et al. 2006, "Connectionist Temporal Classification"): class `i` is the
i-th symbol of the alphabet, and the blank is a separate class with a given index.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.alignment import greedy_steps
from service.ocr.exceptions import LabelError


@dataclass(frozen=True, slots=True)
class CtcCodec:
    """Translates between text and the classes of one model.

    Args:
        alphabet: the symbols in the order of their classes, each one character, none twice.
        blank_index: the class of the blank. The exporter writes `len(alphabet)`; the codec
            works with any index; the symbols take the other classes in order.
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

    def text(self, label: Iterable[int]) -> str:
        """The text that classes spell."""
        symbols = self.symbols
        return "".join([symbols[index] for index in label])

    def decode(self, probabilities: NDArray[np.floating]) -> str:
        """Greedy decoding: the best class of every time step, repeats collapsed, blanks dropped.

        Args:
            probabilities: `(time steps, classes)`, the softmax output of one picture.
        """
        best = probabilities.argmax(axis=1).tolist()
        return self.text([best[start] for start, _ in greedy_steps(best, self.blank_index)])


def shortest_path(label: Sequence[object]) -> int:
    """Time steps that a label needs: one per character, one more between equal neighbours."""
    return len(label) + sum(a == b for a, b in itertools.pairwise(label))
