"""Reads many pictures on all cores, in order, holding only a few of them at a time.

Threads are enough, because the model and the decoding of pictures release the GIL. A batch takes
one call of the model, which costs less than one call per picture.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from service.cli.pictures import read_bytes
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import PictureError
from service.ocr.recognizer import Recognizer

_BATCH = 8

Outcome = Reading | PictureError | OSError


def read_pictures(
    recognizer: Recognizer,
    pictures: Iterable[str],
    question: Question,
    threads: int,
    pipes: Collection[str] = (),
) -> Iterator[tuple[str, Outcome]]:
    """Yields every picture, in order, with its reading or the error that prevents it.

    Args:
        pictures: files, or `-` for the standard input.
        threads: number of batches that are read at the same time; as many more are queued.
        pipes: the pictures that may be pipes or devices, whose data are waited for.
    """
    waiting: deque[Future[list[tuple[str, Outcome]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in _batches(pictures):
                waiting.append(pool.submit(_read_batch, recognizer, batch, question, pipes))
                if len(waiting) >= 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            # If the caller stops early, the rest is not read.
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(pictures: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(pictures)
    while batch := list(itertools.islice(remaining, _BATCH)):
        yield batch


def _read_batch(
    recognizer: Recognizer, pictures: list[str], question: Question, pipes: Collection[str]
) -> list[tuple[str, Outcome]]:
    files = [_bytes_or_error(picture, picture in pipes) for picture in pictures]
    sound = [file for file in files if isinstance(file, bytes)]
    outcomes = iter(recognizer.read_all(sound, question))
    return [
        (picture, next(outcomes) if isinstance(file, bytes) else file)
        for picture, file in zip(pictures, files, strict=True)
    ]


def _bytes_or_error(picture: str, wait: bool) -> bytes | OSError:
    try:
        return read_bytes(picture, wait)
    except OSError as error:
        return error.with_traceback(None)
