"""ASGI middleware: request id and access log, load shedding, and headers of proxies."""
