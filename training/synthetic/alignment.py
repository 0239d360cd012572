"""Says where the characters of generated pictures are, so that CTC need not find out.

With CTC alone, a model emits only blanks at first, for tens of thousands of pictures where the
pictures differ much. Trained with a class for every time step, it reads after a few thousand.
"""

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import PIXELS_PER_TIME_STEP, time_steps_of
from training.synthetic.generate import Drawing

_WIDE = 4 * PIXELS_PER_TIME_STEP
"""Least width in pixels of a character that takes two time steps; blanks still part equal ones."""


def frames_of(drawing: Drawing, width: int, codec: CtcCodec) -> NDArray[np.int32]:
    """The class of every time step of a generated picture, `(time steps,)`.

    A character is emitted in the middle of its ink, and the blank in all other time steps.
    """
    frames = np.full(time_steps_of(width), codec.blank_index, np.int32)
    classes = codec.encode(drawing.text, time_steps_of(width))
    for cls, (left, _, right, _) in zip(classes, drawing.boxes, strict=True):
        middle = (left + right) / 2 / PIXELS_PER_TIME_STEP
        emitting = 2 if right - left >= _WIDE else 1
        first = int(middle - (emitting - 1) / 2)
        frames[first : first + emitting] = cls
    return frames
