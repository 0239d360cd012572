"""The loss of the base, in `keras.ops`: CTC, or frame cross-entropy for flagged pictures."""

from typing import Any

from keras import ops

from training.base.pool import LONGEST

Tensor = Any
EPSILON = 1e-7
"""The same value as in `training.models.loss`, which needs TensorFlow."""


def aligned_or_ctc(truth: Tensor, probabilities: Tensor) -> Tensor:
    """The loss of each picture, `(n,)`, in nats: frame cross-entropy if it is flagged, else CTC.

    Args:
        truth: labels, frames and flags side by side, int32 `(n, LONGEST + time steps + 1)`.
        probabilities: float32 `(n, time steps, classes)`, the blank last.
    """
    truth = ops.cast(truth, "int32")
    labels, frames, aligned = truth[:, :LONGEST], truth[:, LONGEST:-1], truth[:, -1]
    logarithms = ops.log(probabilities + EPSILON)
    _, steps, classes = logarithms.shape
    lengths = ops.sum(ops.cast(labels >= 0, "int32"), axis=1)
    ctc = ops.ctc_loss(
        ops.maximum(labels, 0), logarithms, lengths, ops.zeros_like(lengths) + steps,
        mask_index=classes - 1,
    )  # fmt: skip
    likely = ops.take_along_axis(logarithms, frames[:, :, None], axis=2)[:, :, 0]
    return ops.where(ops.equal(aligned, 1), -ops.sum(likely, axis=1), ctc)
