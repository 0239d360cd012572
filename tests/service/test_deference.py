"""The event loop gives the threads that read the precedence while it refuses."""

import asyncio
import os
import sys

import pytest

from service.runtime.deference import Deference

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux' scheduler")


def policy() -> int:
    return os.sched_getscheduler(0)


def test_it_defers_while_it_is_asked_to() -> None:
    """From the first time it is asked until a moment after the last; those who read do not."""

    async def test() -> None:
        deference = Deference()
        assert policy() == await asyncio.to_thread(policy) == os.SCHED_OTHER
        for _ in range(5):
            deference.ask()
            assert policy() == os.SCHED_BATCH
            assert await asyncio.to_thread(policy) == os.SCHED_OTHER
            await asyncio.sleep(0.05)
        assert policy() == os.SCHED_BATCH
        for _ in range(100):
            if policy() == os.SCHED_OTHER:
                break
            await asyncio.sleep(0.05)
        assert policy() == os.SCHED_OTHER
        deference.ask()
        assert policy() == os.SCHED_BATCH
        while policy() == os.SCHED_BATCH:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_system_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are refused all the same."""

    def forbidden(*arguments: object) -> None:
        raise PermissionError

    async def test() -> None:
        Deference().ask()

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    asyncio.run(test())
    monkeypatch.delattr(os, "sched_setscheduler")
    asyncio.run(test())
