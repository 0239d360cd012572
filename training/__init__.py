"""Trains a Keras CRNN and exports it to the ONNX model that `service` loads."""
