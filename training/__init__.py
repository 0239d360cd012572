"""Trains a Keras CRNN and exports it to the ONNX model that `service` loads."""

import os

# Before TensorFlow is imported: with oneDNN, version 2.21 writes past its memory on some processors
# where it trains a residual-crnn, which ends the process.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
