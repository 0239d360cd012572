"""The losses, computed from the softmax that the model outputs."""

from collections.abc import Callable

import tensorflow as tf

EPSILON = 1e-7
"""Added to probabilities before the logarithm, as Keras has done since its first CTC cost."""


def ctc_loss(blank_index: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes the loss: the negative log-likelihood of the label, summed over all alignments.

    Follows Graves et al. 2006, "Connectionist Temporal Classification".

    Args:
        blank_index: the class of the blank.

    Returns:
        A function from labels, int32 `(n, longest label)` padded with a negative number, and
        probabilities, float32 `(n, time steps, classes)`, to the loss of each, `(n,)`, in nats.
    """

    def loss(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        labels = tf.cast(labels, tf.int32)
        shape = tf.shape(probabilities)
        return tf.nn.ctc_loss(
            labels=tf.maximum(labels, 0),
            # The softmax of log-probabilities is the probabilities, so they can serve as logits.
            logits=tf.math.log(probabilities + EPSILON),
            label_length=tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1),
            logit_length=tf.fill([shape[0]], shape[1]),
            logits_time_major=False,
            blank_index=blank_index,
        )

    return loss


def frame_loss(frames: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of every picture, summed over its time steps, `(n,)`, in nats.

    Args:
        frames: int32 `(n, time steps)`, the class of each time step.
        probabilities: float32 `(n, time steps, classes)`.
    """
    likely = tf.gather(probabilities, tf.cast(frames, tf.int32), batch_dims=2)
    return -tf.reduce_sum(tf.math.log(likely + EPSILON), axis=1)
