"""Switches to a newly exported model without downtime."""

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
    """Watches the model file for ever, and switches to every new model.

    A new file is loaded and checked in a thread, while the old model answers. If that fails, the
    old model stays. A file that is missing or cannot be read is tried again, less and less often,
    since the cause may be temporary. A file with wrong content is tried again only when it changes.

    Args:
        served: the state of the file from which the served model was loaded.
        switch: called with the model to serve from now on.
        failed: called with the reason why the newest file is not served.
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
        except Exception as error:  # after any error, the next file may be valid
            if not isinstance(error, ModelCheckError | ModelMetadataError):
                retry_at = time.monotonic() + pause
                pause = min(2 * pause, _MAX_RETRY_SECONDS)
            if is_new:
                reason = str(error) or type(error).__name__
                failed(reason)
                logger.error("the new model file is not served; the old model stays: %s", reason)


def _load_alone(settings: Settings) -> Predictor:
    """Loads the model while no other worker does: loading in all at once may exceed the memory."""
    with ExitStack() as stack:
        with suppress(OSError):  # a file system may not support locks
            # All workers lock the same file, whichever it is. The lock also ends with the process.
            fcntl.flock(stack.enter_context(Path(__file__).open()), fcntl.LOCK_EX)
        return load_predictor(settings)
