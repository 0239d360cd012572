"""`python -m service.healthcheck`: exits with 0 where the service on this machine is ready."""

import os
import sys
import urllib.request

_TIMEOUT_SECONDS = 2


def main() -> int:
    """Asks `/health/ready` on the port of `OCR_PORT`."""
    # Not through the settings: a check every few seconds should not import pydantic.
    url = f"http://127.0.0.1:{os.environ.get('OCR_PORT', '8000')}/health/ready"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS):
            return 0
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
