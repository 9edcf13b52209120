"""The gRPC door: real wire, real server behind it, methods of the test's own whose messages are plain bytes."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
import pytest

from candlecast import _rust
from candlecast.errors import ConfigurationError, InvalidRequest
from candlecast.server.door import STREAM_MESSAGES_MAX, Door
from tests.recorders import until

ONE, MANY, OTHER = "/test.Words/One", "/test.Words/Many", "/test.Words/Other"
MESSAGE_BYTES_MAX = 1_000


class Words:
    """Keeps calls, and answers those it knows an answer to."""

    METHODS = ((ONE, False), (MANY, True))

    def __init__(self):
        self.calls = []
        self.left = []

    def arrived(self, calls):
        for call in calls:
            self.calls.append(call)
            call.left = lambda call=call: self.left.append(call.message)
            if call.message == b"slow":
                time.sleep(0.2)
                call.answer(b"done")
            elif call.message == b"wrong":
                call.fail(InvalidRequest("word", "is wrong"))
            elif call.message.startswith(b"say "):
                call.answer(call.message.removeprefix(b"say "))

    def of(self, message):
        return next(call for call in self.calls if call.message == message)


def behind():
    """A server of grpc's own: each method of another path echoes a stream, and ends with words of its own."""

    async def echo(requests, context):
        seen = 0
        async for request in requests:
            seen += 1
            yield request * 2
        if not seen:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing é", (("why-bin", b"\x00\xff"),))

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Words", {"Other": handler}),))
    return server


@asynccontextmanager
async def opened(address="127.0.0.1:0", *, grace_ms=1_000):
    words = Words()
    door = Door(address, behind(), words, message_bytes_max=MESSAGE_BYTES_MAX, grace_ms=grace_ms)
    async with door as listening, grpc.aio.insecure_channel(listening) as channel:
        words.address, words.door = listening, door
        yield words, channel


@pytest.fixture
async def words():
    async with opened() as (words, channel):
        words.channel = channel
        yield words


async def test_a_call_is_answered_and_says_how_long_it_waits(words):
    one = words.channel.unary_unary(ONE)
    assert await one(b"say yes", timeout=5) == b"yes"
    assert 4_000 < words.of(b"say yes").timeout_ms <= 5_050  # grpc rounds up what it says, by 1 % at most
    assert await one(b"say " + b"x" * 900) == b"x" * 900
    assert words.calls[-1].timeout_ms is None
    assert not words.left


async def test_an_error_ends_a_call_with_its_status(words):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await words.channel.unary_unary(ONE)(b"wrong")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "is wrong" in refused.value.details()
    assert b"candlecast" in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert words.door.refused() == {}  # it was taken: who took it counts it


async def test_a_message_that_is_too_large_is_refused_and_the_next_one_is_not(words):
    for method, messages in ((ONE, None), (MANY, [b"say " + b"x" * MESSAGE_BYTES_MAX])):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            if messages is None:
                await words.channel.unary_unary(method)(b"say " + b"x" * MESSAGE_BYTES_MAX)
            else:
                _ = [answer async for answer in words.channel.stream_stream(method)(iter(messages))]
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"(1004 vs. {MESSAGE_BYTES_MAX})" in refused.value.details()
    assert await words.channel.unary_unary(ONE)(b"say yes") == b"yes"
    assert words.door.refused() == {"RESOURCE_EXHAUSTED": 2}


async def test_compressed_messages_are_read_and_other_kinds_refused_with_what_is_known(words):
    one = words.channel.unary_unary(ONE)
    assert await one(b"say " + b"x" * 800, compression=grpc.Compression.Gzip) == b"x" * 800
    with pytest.raises(grpc.aio.AioRpcError) as bomb:
        await one(b"say " + b"x" * 100_000, compression=grpc.Compression.Gzip)
    assert bomb.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await one(b"say " + b"x" * 800, compression=grpc.Compression.Deflate)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in refused.value.details()
    assert words.door.refused() == {"RESOURCE_EXHAUSTED": 1, "UNIMPLEMENTED": 1}


async def test_who_gives_up_is_told_of_and_harms_nobody(words):
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await words.channel.unary_unary(ONE)(b"never", timeout=0.1)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: words.left == [b"never"])
    words.of(b"never").answer(b"too late")
    stream = words.channel.stream_stream(MANY)()
    await stream.write(b"nothing")
    await stream.write(b"at all")
    await until(lambda: len(words.calls) == 3)
    stream.cancel()
    await until(lambda: sorted(words.left) == [b"at all", b"never", b"nothing"])
    assert await words.channel.unary_unary(ONE)(b"say yes") == b"yes"


async def test_whoever_left_before_its_message_was_taken_is_not_heard_at_all(words):
    one = words.channel.unary_unary(ONE)
    assert await one(b"say yes") == b"yes"
    calls = [one(b"never") for _ in range(100)]
    await asyncio.sleep(0)  # they are on their way
    for call in calls:
        call.cancel()
    time.sleep(0.2)  # noqa: ASYNC251 - the loop that takes messages stands still, the door does not
    assert await one(b"say yes") == b"yes"
    await until(lambda: not words.door._calls)
    assert len(words.left) == len(words.calls) - 2  # all that were heard were told of


async def test_a_stream_is_answered_in_its_order_whatever_that_of_the_answers(words):
    stream = words.channel.stream_stream(MANY)(iter([b"first", b"second", b"say third"]))
    await until(lambda: len(words.calls) == 3)
    words.of(b"second").answer(b"2")
    await asyncio.sleep(0.05)
    words.of(b"first").answer(b"1")
    assert [answer async for answer in stream] == [b"1", b"2", b"third"]


async def test_an_error_ends_a_stream_after_the_answers_before_it(words):
    stream, answers = words.channel.stream_stream(MANY)(), []
    for message in (b"first", b"wrong"):
        await stream.write(message)
    await until(lambda: len(words.calls) == 2)
    words.of(b"first").answer(b"1")
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while True:
            answers.append(await stream.read())
    assert (answers, ended.value.code()) == ([b"1"], grpc.StatusCode.INVALID_ARGUMENT)


async def test_what_is_behind_an_error_in_its_stream_is_not_taken(words):
    """What moves state by messages in their order must not take one whose forerunner failed: it will come again."""

    def ask(*messages):
        with grpc.insecure_channel(words.address) as channel, pytest.raises(grpc.RpcError):
            list(channel.stream_stream(MANY)(iter(messages)))

    await asyncio.to_thread(ask, b"slow", b"wrong", b"third", b"fourth")  # of these, all but one arrive together
    assert [call.message for call in words.calls] == [b"slow", b"wrong"]
    words.calls.clear()
    stream = words.channel.stream_stream(MANY)()
    await stream.write(b"first")
    await until(lambda: words.calls)
    await stream.write(b"wrong")
    await until(lambda: len(words.calls) == 2)
    with suppress(asyncio.InvalidStateError):  # its end is told only after the first answer
        await stream.write(b"third")
    await asyncio.sleep(0.1)
    assert [call.message for call in words.calls] == [b"first", b"wrong"]
    words.of(b"first").answer(b"1")


async def test_a_stream_that_is_faster_than_its_answers_is_slowed_down(words):
    sent = 3 * STREAM_MESSAGES_MAX
    stream = words.channel.stream_stream(MANY)(iter([b"%d" % i for i in range(sent)]))
    await until(lambda: len(words.calls) == STREAM_MESSAGES_MAX)
    await asyncio.sleep(0.1)
    assert len(words.calls) == STREAM_MESSAGES_MAX
    words.calls[0].answer(b"0")
    assert await stream.read() == b"0"
    await until(lambda: len(words.calls) == STREAM_MESSAGES_MAX + 1)
    stream.cancel()


async def test_all_other_calls_go_to_the_server_behind_as_they_are(words):
    other = words.channel.stream_stream(OTHER)
    assert [answer async for answer in other(iter([b"ab", b"c"]))] == [b"abab", b"cc"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await other(iter([])).read()
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "nothing é")
    assert dict(refused.value.trailing_metadata())["why-bin"] == b"\x00\xff"
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await words.channel.unary_unary("/test.Words/None")(b"")
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_an_address_that_is_taken_is_said(words):
    with pytest.raises(ConfigurationError, match=f"cannot listen on {words.address}.*another server"):
        async with opened(words.address):
            pass


async def test_closing_lets_calls_end_and_cuts_off_what_does_not():
    async with AsyncExitStack() as parts:
        listening = AsyncExitStack()
        words, _ = await listening.enter_async_context(opened(grace_ms=200))
        channel = await parts.enter_async_context(grpc.aio.insecure_channel(words.address))
        stays = asyncio.ensure_future(channel.unary_unary(ONE)(b"stays"))
        idle = channel.stream_stream(MANY)()
        await idle.write(b"say yes")
        assert await idle.read() == b"yes"
        await until(lambda: len(words.calls) == 2)
        words.door.stop()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await idle.read()
        stopping = grpc.StatusCode.UNAVAILABLE, "the server is shutting down"
        assert (ended.value.code(), ended.value.details()) == stopping
        assert not stays.done()
        await listening.aclose()
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await stays
        assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
        again, channel = await parts.enter_async_context(opened(words.address))  # the port is free
        assert await channel.unary_unary(ONE)(b"say yes") == b"yes"
        assert not again.left


async def test_a_full_inbox_is_said_at_once():
    door = _rust.Door(
        "127.0.0.1:0", "nobody-is-here", [(ONE, False)],
        message_bytes_max=100, inbox_max=2, full=(8, "full", b""), stream_messages_max=1, stream_bytes_max=100,
        keep_alive_ms=10_000, keep_alive_timeout_ms=10_000,
    )  # fmt: skip
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        one = channel.unary_unary(ONE)
        waiting = [asyncio.ensure_future(one(b"%d" % i)) for i in range(3)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        (refused,) = (call.exception() for call in done)
        assert (refused.code(), refused.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        taken = door.take()
        assert len(taken) == 2
        door.answer([(call, b"yes") for call, *_ in taken])
        assert sorted([call.result() for call in (await asyncio.wait(waiting))[0] if call.exception() is None]) == [
            b"yes",
            b"yes",
        ]
        with pytest.raises(grpc.aio.AioRpcError) as away:
            await channel.unary_unary(OTHER)(b"")
        assert away.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "behind the door" in away.value.details()
