"""Serves a newly exported model without a gap."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from service.api.handlers import Engine
from service.ocr.recognizer import Recognizer

logger = logging.getLogger("service")

Stamp = tuple[int, int, int] | None
"""What tells two states of a file apart; None: there is no file."""


async def watch(
    engine: Engine, path: Path, seconds: float, load: Callable[[], Recognizer], served: Stamp
) -> None:
    """Looks at the model file for ever, and switches to what is exported there; 0 s: never.

    A new file is loaded and checked aside, in a thread, while the old model answers; one that
    fails leaves the old one in place, with the reason in the log and in `engine.reload_error`.

    Args:
        load: gives the checked model of the file.
        served: of the file before the model was read that is served now.
    """
    while seconds:
        await asyncio.sleep(seconds)
        found = stamp_of(path)
        if found == served or found is None:
            continue
        served = found
        try:
            engine.switch(await asyncio.to_thread(load))
            engine.reload_error = None
        except Exception as error:  # whatever it is, the next file may be a good one
            engine.reload_error = str(error) or type(error).__name__
            engine.metrics.reload_failed()
            logger.error("the new model is not served, the old one still is: %s", error)


def stamp_of(path: Path) -> Stamp:
    """Changes whenever the file is replaced or written to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
