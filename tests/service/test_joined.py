import asyncio
from unittest.mock import Mock, call

from service.server.joined import Joined


async def a_turn() -> None:
    await asyncio.sleep(0)


def transport() -> Mock:
    return Mock(is_closing=Mock(return_value=False))


async def written(*pieces: bytes) -> Mock:
    """The transport behind, after these were written one after the other."""
    behind = transport()
    joined = Joined(behind, asyncio.get_running_loop())
    for piece in pieces:
        joined.write(piece)
    assert not behind.writelines.called
    await a_turn()
    return behind


def test_what_is_written_in_a_turn_is_sent_together() -> None:
    """Head and body are one write, in their order; nothing is sent twice."""
    behind = asyncio.run(written(b"head", b"body"))
    assert behind.mock_calls == [call.is_closing(), call.writelines([b"head", b"body"])]


def test_later_turns_send_by_themselves() -> None:
    """What a stream gives is not held back until it ends."""

    async def stream() -> Mock:
        behind = transport()
        joined = Joined(behind, asyncio.get_running_loop())
        for piece in (b"1", b"2"):
            joined.write(piece)
            await a_turn()
        return behind

    behind = asyncio.run(stream())
    assert behind.writelines.call_args_list == [call([b"1"]), call([b"2"])]


def test_closing_sends_first_and_aborting_does_not() -> None:
    """An answer is whole before the end of its connection; an abort sends nothing more."""

    async def end(how: str) -> list[str]:
        behind = transport()
        joined = Joined(behind, asyncio.get_running_loop())
        joined.write(b"answer")
        getattr(joined, how)()
        await a_turn()
        return [name for name, *_ in behind.mock_calls if name != "is_closing"]

    assert asyncio.run(end("close")) == ["writelines", "close"]
    assert asyncio.run(end("write_eof")) == ["writelines", "write_eof"]
    assert asyncio.run(end("abort")) == ["abort"]


def test_nothing_is_written_to_a_lost_connection() -> None:
    """What was written in the turn in which the connection was lost is dropped."""

    async def lose() -> Mock:
        behind = transport()
        Joined(behind, asyncio.get_running_loop()).write(b"answer")
        behind.is_closing.return_value = True
        await a_turn()
        return behind

    assert not asyncio.run(lose()).writelines.called
