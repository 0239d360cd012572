"""Metrics, logs, tracing and request timing."""
