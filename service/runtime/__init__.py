"""Runs a model for many requests: predictor, batcher and CPU budget."""
