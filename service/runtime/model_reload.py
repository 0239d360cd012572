"""Switches to a newly exported model without downtime."""

import asyncio
import fcntl
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from service.ocr.exceptions import ModelCheckError, ModelMetadataError
from service.runtime.predictor import FileState, Predictor, file_state, load_predictor
from service.settings import Settings

_MAX_RETRY_SECONDS = 60.0

_LOCK_SECONDS = 0.1
"""How often a worker checks whether another still loads the model."""

logger = logging.getLogger("service")


async def watch(
    settings: Settings,
    served: FileState,
    switch: Callable[[Predictor], None],
    failed: Callable[[str], None],
    slow_seconds: float = 60,
) -> None:
    """Watches the model file for ever, and switches to every new model.

    A new file is loaded and checked in a thread, while the old model answers. If that fails, the
    old model stays. A file that is missing or cannot be read is tried again, less and less often,
    since the cause may be temporary. A file with wrong content is tried again only when it changes.

    Args:
        served: the state of the file from which the served model was loaded.
        switch: called with the model to serve from now on.
        failed: called with the reason why the newest file is not served.
        slow_seconds: how long a file may be loading before that, too, is such a reason. A worker
            waits half as long for another one that is loading the model.
    """

    def report(reason: str) -> None:
        failed(reason)
        logger.error("the new model file is not served; the old model stays: %s", reason)

    still_loading = f"the file has been loading for over {slow_seconds:g} s"
    loop = asyncio.get_running_loop()
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
        slow = loop.call_later(slow_seconds, report, still_loading)
        try:
            async with _alone(slow_seconds / 2):
                switch(await asyncio.to_thread(load_predictor, settings))
        except Exception as error:  # after any error, the next file may be valid
            if not isinstance(error, ModelCheckError | ModelMetadataError):
                retry_at = time.monotonic() + pause
                pause = min(2 * pause, _MAX_RETRY_SECONDS)
            if is_new:
                report(str(error) or type(error).__name__)
        finally:
            slow.cancel()


@asynccontextmanager
async def _alone(seconds: float) -> AsyncIterator[None]:
    """Waits until no other worker loads the model, but no longer than so many seconds.

    Loading in all workers at once may exceed the memory. But another worker may hang, or another
    program hold the lock.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # a file system may not support locks
            # All workers lock the same file, whichever it is. The lock also ends with the process.
            file = stack.enter_context(Path(__file__).open())
            for _ in range(round(seconds / _LOCK_SECONDS)):
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_LOCK_SECONDS)
        yield
