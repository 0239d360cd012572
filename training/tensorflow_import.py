"""Imports TensorFlow without the lines that it writes while it is imported."""

import os
import sys
import tempfile


def import_tensorflow(gpu: bool = True) -> None:
    """Imports TensorFlow and Keras; shows what they write to standard error only on failure.

    Args:
        gpu: whether TensorFlow may use a GPU.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        # C++ code writes the lines, so only the file descriptor can be redirected.
        os.dup2(hidden.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        except BaseException:
            hidden.seek(0)
            os.write(shown, hidden.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
