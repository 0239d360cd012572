"""ASGI middleware: request id and access log, body limit."""
