"""Downloads the public data set of the tutorials from which this model comes."""

import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import Progress

from training.exceptions import DataError

URL = "https://github.com/AakashKumarNain/CaptchaCracker/raw/master/captcha_images_v2.zip"
DIGEST = "685eb971795d7c36bb33566e321b5475d438c590aecc583413b4becefdaeca2a"
"""The result of `training.data.dataset.digest_of` for its 1040 labelled pictures."""

WRONG_LABELS = {"cdcb3": "edcb3"}
"""Wrong labels of the public set, and the texts of their pictures. They are not corrected."""

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 16


def download(url: str, destination: Path) -> None:
    """Downloads a file, showing progress.

    Raises:
        DataError: the address cannot be reached, or the connection breaks.
    """
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            destination.open("wb") as file,
            Progress() as progress,
        ):
            size = int(response.headers.get("Content-Length") or 0) or None
            task = progress.add_task("downloading", total=size)
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                progress.advance(task, len(chunk))
            if size not in (None, file.tell()):
                raise OSError(f"the connection broke after {file.tell()} of {size} bytes")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(
            f"the public data set could not be downloaded from {url}: {reason}.\n"
            "Without a network, pass your own pictures: make data DATA=<a folder of "
            "<label>.png files, a zip of it, or a CSV/TSV manifest>."
        ) from error
