"""`python -m service.server.healthcheck`: exits with 0 if the local service is ready."""

import os
import socket
import sys

_TIMEOUT_SECONDS = 2
_LOOPBACK = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}


def main() -> int:
    """Asks `/health/ready` at the address in `OCR_HOST` and `OCR_PORT`."""
    # Imports neither the settings nor an HTTP client: the check runs every few seconds, in the
    # memory of the service's container.
    host = os.environ.get("OCR_HOST") or "127.0.0.1"
    port = os.environ.get("OCR_PORT") or "8000"
    if "://" in port:  # Kubernetes sets this variable for a Service named ocr
        port = "8000"
    problem = ""
    for address in _LOOPBACK.get(host, (host,)):
        problem = _problem(address, port)
        if not problem:
            return 0
        print(f"{address} port {port}: {problem}", file=sys.stderr)
    return 1


def _problem(host: str, port: str) -> str:
    """Why the service at this address is not ready; empty if it is ready."""
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with connection.makefile("rb") as answer:
                status = answer.readline()
    except (OSError, ValueError, OverflowError) as error:
        return str(error)
    if status.split()[1:2] != [b"200"]:
        return status.decode(errors="replace").strip() or "no answer"
    return ""


if __name__ == "__main__":
    sys.exit(main())
