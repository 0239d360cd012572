"""When lines of the log are written, and how many at once."""

import asyncio
import io
import logging
import select
import weakref
from unittest.mock import patch

import pytest

from service.observability.logs import TurnHandler

REQUEST = {"extra": {"fields": {}}}


class Writes(io.StringIO):
    """A stream that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def write(self, text: str) -> int:
        """Remembers what is written at once."""
        self.all.append(text)
        return len(text)


@pytest.fixture
def log() -> tuple[logging.Logger, Writes]:
    """A logger, and what it has written through the handler of the service."""
    logger, writes = logging.Logger("a"), Writes()
    logger.addHandler(TurnHandler(writes))
    return logger, writes


def test_requests_of_one_turn_are_one_write(log: tuple[logging.Logger, Writes]) -> None:
    """Answers that were ready together; those of the next turn are another one."""
    logger, writes = log

    async def answer() -> None:
        for turn in ("first", "second"):
            for number in range(3):
                logger.info("%s %d", turn, number, **REQUEST)
            await asyncio.sleep(0)

    asyncio.run(answer())
    assert writes.all == ["first 0\nfirst 1\nfirst 2\n", "second 0\nsecond 1\nsecond 2\n"]


def test_all_else_is_written_at_once(log: tuple[logging.Logger, Writes]) -> None:
    """Behind the requests that were logged before it."""
    logger, writes = log

    async def fail() -> None:
        logger.info("a request", **REQUEST)
        logger.info("something else")
        assert writes.all == ["a request\nsomething else\n"]
        logger.info("another request", **REQUEST)
        await asyncio.get_running_loop().run_in_executor(None, logger.info, "a thread")
        assert "".join(writes.all[1:]) == "another request\na thread\n"

    asyncio.run(fail())


def test_no_write_is_longer_than_a_pipe_takes_undivided(
    log: tuple[logging.Logger, Writes],
) -> None:
    """Lines of several workers, which share a pipe, are never mixed."""
    logger, writes = log

    async def answer() -> None:
        for number in range(100):
            logger.info("%d %s", number, "x" * 250, **REQUEST)

    asyncio.run(answer())
    assert max(map(len, writes.all)) <= select.PIPE_BUF
    assert len(writes.all) < 10
    lines = "".join(writes.all).splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(100))


def test_nothing_is_lost_where_the_loop_ends(log: tuple[logging.Logger, Writes]) -> None:
    """What its last turn logged is written when the process ends."""
    logger, writes = log
    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: logger.info("the end", **REQUEST))
    loop.run_forever()
    loop.close()
    assert writes.all == []
    logging.shutdown([weakref.ref(logger.handlers[0])])
    assert writes.all == ["the end\n"]


def test_a_log_that_nobody_reads_harms_nobody(log: tuple[logging.Logger, Writes]) -> None:
    """A closed stream fails neither a request nor the loop."""
    logger, writes = log
    writes.close()
    failures: list[object] = []

    async def answer() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context)
        )
        logger.info("unread", **REQUEST)
        await asyncio.sleep(0)

    with patch.object(writes, "write", side_effect=ValueError("closed")):
        asyncio.run(answer())
    assert not failures
