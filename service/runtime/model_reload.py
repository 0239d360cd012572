"""Serves a newly exported model without a gap."""

import asyncio
import fcntl
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from service.ocr.exceptions import ModelCheckError, ModelMetadataError
from service.runtime.predictor import FileState, Predictor, file_state, load_predictor
from service.settings import Settings

_MAX_RETRY_SECONDS = 60.0

logger = logging.getLogger("service")


async def watch(
    settings: Settings,
    served: FileState,
    switch: Callable[[Predictor], None],
    failed: Callable[[str], None],
) -> None:
    """Looks at the model file for ever, and switches to what is exported there.

    A new file is loaded and checked in a thread, while the old model answers. One that fails leaves
    the old one in place. A file that is gone or cannot be read, for which there may be a passing
    reason, is tried again, less and less often; one whose content is wrong only when it changes.

    Args:
        served: the state of the file when the model that is served now was read.
        switch: is called with the model to serve from now on.
        failed: is called with the reason why the newest one is not served.
    """
    seconds = settings.reload_seconds
    tried, retry_at, pause = served, float("inf"), seconds
    while seconds:
        await asyncio.sleep(seconds)
        found = file_state(settings.model_path)
        is_new = found != tried
        if not is_new and time.monotonic() < retry_at:
            continue
        if is_new:
            pause = seconds
        tried, retry_at = found, float("inf")
        try:
            switch(await asyncio.to_thread(_load_alone, settings))
        except Exception as error:  # whatever it is, the next file may be a good one
            if not isinstance(error, ModelCheckError | ModelMetadataError):
                retry_at = time.monotonic() + pause
                pause = min(2 * pause, _MAX_RETRY_SECONDS)
            if is_new:
                reason = str(error) or type(error).__name__
                failed(reason)
                logger.error("the model file is not served, the old model still is: %s", reason)


def _load_alone(settings: Settings) -> Predictor:
    """Loads the model while no other worker does: all at once might need too much memory."""
    with ExitStack() as stack:
        with suppress(OSError):  # a file system may have no locks
            # Any file serves that all workers have; the lock ends with this process, too.
            fcntl.flock(stack.enter_context(Path(__file__).open()), fcntl.LOCK_EX)
        return load_predictor(settings)
