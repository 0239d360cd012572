"""Lines of the log wait in a queue, so that logging never waits."""

import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from service.observability.logs import QueuedHandler

LINES = 100


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe, to read from and to write to."""
    readable, writable = os.pipe()
    yield readable, writable
    os.close(readable)
    os.close(writable)


@pytest.fixture
def handler(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> QueuedHandler:
    """A handler that writes to the pipe."""
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(fileno=lambda: pipe[1]))
    return QueuedHandler(LINES)


@pytest.fixture
def logger(handler: QueuedHandler) -> logging.Logger:
    """A logger with the handler."""
    logger = logging.Logger("a")
    logger.addHandler(handler)
    return logger


def test_lines_are_written_in_their_order(
    logger: logging.Logger, handler: QueuedHandler, pipe: tuple[int, int]
) -> None:
    """A flush waits until all of them are written."""
    for number in range(LINES // 2):
        logger.info("line %d", number)
    handler.flush()
    expected = "".join(f"line {number}\n" for number in range(LINES // 2))
    assert os.read(pipe[0], 65536).decode() == expected
    assert handler.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_counted(
    logger: logging.Logger, handler: QueuedHandler, pipe: tuple[int, int]
) -> None:
    """Logging goes on. When the log is read again, new lines are written."""
    for _ in range(LINES):
        logger.info("x" * 1000)
    logged = LINES
    while not handler.dropped:
        logger.info("x" * 1000)
        logged += 1
        assert logged < 10 * LINES
    dropped = handler.dropped
    reader = threading.Thread(
        target=lambda: [os.read(pipe[0], 1001) for _ in range(logged - dropped)]
    )
    reader.start()
    handler.flush()
    reader.join(30)
    assert not reader.is_alive()
    logger.info("again")
    handler.flush()
    assert os.read(pipe[0], 65536) == b"again\n"
    assert handler.dropped == dropped


def test_lines_that_cannot_be_written_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        handler = QueuedHandler(LINES)
        logger = logging.Logger("a")
        logger.addHandler(handler)
        for number in range(LINES // 2):
            logger.info("line %d", number)
        handler.flush()
    assert handler.dropped == LINES // 2


def test_a_line_that_is_cut_off_does_not_spoil_the_next(
    logger: logging.Logger, handler: QueuedHandler, pipe: tuple[int, int]
) -> None:
    """As on a disk that gets full within a line, and later has space again."""
    os.set_blocking(pipe[1], False)  # a full pipe takes a part of a long line, and then fails
    for number in range(2):
        logger.info("x" * 1_000_000)
        handler.flush()
        assert handler.dropped == number + 1
    part = os.read(pipe[0], 1_000_000)
    assert set(part) == set(b"x")
    logger.info("again")
    logger.info("and again")
    handler.flush()
    assert os.read(pipe[0], 65536) == b"\nagain\nand again\n"
    assert handler.dropped == 2


def test_a_logged_exception_is_not_kept_in_memory(
    logger: logging.Logger, handler: QueuedHandler
) -> None:
    """Only its text waits in the queue, and nothing that the exception refers to."""

    class Large:
        """For example the bytes that a request has received."""

    gone = threading.Event()
    large = Large()
    try:
        weakref.finalize(large, gone.set)
        raise ValueError(large)
    except ValueError:
        logger.exception("failed")
    del large
    assert gone.is_set()
