"""ASGI middleware: request id and access log, load shedding, and what proxies say."""
