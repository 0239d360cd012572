"""Exports a run to ONNX, with calibration and checks."""
