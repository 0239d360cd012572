"""Fits a model: configuration, training loop, checkpoints, warm start."""
