"""`python -m service.server.healthcheck`: exits with 0 if the local service is ready."""

import os
import socket
import sys

_TIMEOUT_SECONDS = 2


def main() -> int:
    """Asks `/health/ready` on the port of `OCR_PORT`."""
    # Not through the settings, nor Python's HTTP clients: a check every few seconds, in the memory
    # that the service has been given, should import next to nothing.
    port = os.environ.get("OCR_PORT") or "8000"
    url = f"http://127.0.0.1:{port}/health/ready"
    try:
        with socket.create_connection(("127.0.0.1", int(port)), _TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with connection.makefile("rb") as answer:
                status = answer.readline()
    except (OSError, ValueError, OverflowError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    if status.split()[1:2] != [b"200"]:
        print(f"{url}: {status.decode(errors='replace').strip() or 'no answer'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
