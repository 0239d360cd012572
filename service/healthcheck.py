"""`python -m service.healthcheck`: exits with 0 where the service on this machine is ready."""

import http.client
import os
import sys
import urllib.request

_TIMEOUT_SECONDS = 2


def main() -> int:
    """Asks `/health/ready` on the port of `OCR_PORT`."""
    # Not through the settings: a check every few seconds should not import pydantic.
    url = f"http://127.0.0.1:{os.environ.get('OCR_PORT', '8000')}/health/ready"
    try:
        # Not through a proxy, which containers are often given: this machine is meant.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=_TIMEOUT_SECONDS):
            return 0
    except (OSError, http.client.HTTPException) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
