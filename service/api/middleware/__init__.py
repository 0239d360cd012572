"""ASGI middleware: request id and access log, bounds of load and bodies, and what proxies say."""
