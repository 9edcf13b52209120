"""Callers of one client share calls: each gets the answer to its own candles, and takes none from another."""

import asyncio
import math

import grpc
import numpy as np
import pytest

from candlecast import packed
from candlecast.client import WAIT_DURABLE, WAIT_FAST, AsyncClient, Candle, Candles, ServerError
from candlecast.packed import RESULT, RESULT_LAYOUT
from candlecast.shared_calls import CALLER_ROWS_MAX, CALLS_MAX, SharedCalls
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.types_pb2 import CandleResult, PackedResults
from candlecast.values import symbols

LIMIT_S = 20


def candles(*times):
    count = len(times)
    return Candles(
        symbol=symbols(["BTCUSDT"] * count),
        interval_ms=np.full(count, 60_000),
        open_time_ms=np.array(times, dtype=np.int64),
        values=np.ones((count, 8)),
        forming=np.zeros(count, dtype=np.bool_),
    )


def as_messages(*times):
    return [Candle(symbol="BTCUSDT", interval_ms=60_000, open_time_ms=time) for time in times]


def times_of(results):
    return [result.open_time_ms for result in results]


def request_times(request):
    if request.packed:
        return packed.unpack_candles(request.packed, 0).open_time_ms.tolist()
    return [candle.open_time_ms for candle in request.candles]


class Failed(grpc.RpcError):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "away"

    def trailing_metadata(self):
        return ()


class Server:
    """Answers each call when told to, with results that say which candles they are of."""

    def __init__(self):
        self.calls, self.cancelled, self.forgotten = [], [], 0

    async def __call__(self, request, timeout_s):
        answer = asyncio.get_running_loop().create_future()
        self.calls.append((request, timeout_s, answer))
        try:
            await answer
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        times = request_times(request)[self.forgotten :]
        if not request.packed:
            return pb.PredictResponse(results=[CandleResult(open_time_ms=time) for time in times])
        records = np.zeros(len(times), dtype=RESULT)
        records["open_time_ms"] = times
        return pb.PredictResponse(packed=PackedResults(records=records.tobytes(), layout=RESULT_LAYOUT))

    @property
    def sizes(self):
        return [len(request_times(request)) for request, _, _ in self.calls]

    def under_way(self):
        return [call for call in self.calls if not call[2].done()]

    async def reply(self, number, error=None):
        answer = self.calls[number][2]
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ask(server):
    shared = SharedCalls(server, timeout_s=5.0)

    def ask(batch, wait=WAIT_FAST):
        return asyncio.ensure_future(shared.predict(batch, wait))

    return ask


async def test_one_or_two_callers_go_at_once(server, ask):
    first = ask(candles(1))
    await settle()
    second = ask(candles(2))
    await settle()
    assert server.sizes == [1, 1]
    for request, timeout_s, _ in server.calls:
        assert (request.packed_layout, request.wait) == (RESULT_LAYOUT, WAIT_FAST)
        assert 4.0 < timeout_s <= 5.0
    await server.reply(1)
    await server.reply(0)
    assert (times_of(await first), times_of(await second)) == ([1], [2])


@pytest.mark.parametrize("batch_of", [candles, as_messages])
async def test_who_asks_at_once_shares_calls_and_gets_results_of_its_own(server, ask, batch_of):
    asked = {i: ask(batch_of(i, i + 100)) for i in range(16)}
    await settle()
    assert server.sizes == [8] * CALLS_MAX
    for number in range(CALLS_MAX):
        await server.reply(number)
    for i, answer in asked.items():
        assert times_of(await answer) == [i, i + 100]
        assert len(await answer) == 2


async def test_callers_who_come_back_keep_the_size_of_the_calls(server, ask):
    for i in range(32):
        ask(candles(i))
    await settle()
    for number in range(8):
        await server.reply(number)
        for i in range(8):
            ask(candles(100 * number + i))
        await settle()
    assert server.sizes == [8] * (CALLS_MAX + 8)


async def test_one_that_comes_while_large_calls_are_under_way_waits_for_all_but_one_of_them_at_most(server, ask):
    for i in range(32):
        ask(candles(i))
    await settle()
    late = ask(candles(99))
    await settle()
    for number in range(CALLS_MAX - 1):
        assert len(server.calls) == CALLS_MAX
        await server.reply(number)
    assert server.sizes[-1] == 1
    await server.reply(CALLS_MAX)
    assert times_of(await late) == [99]


async def test_waits_and_kinds_of_batches_do_not_mix(server, ask):
    batches = [(candles(1), WAIT_FAST), (candles(2), WAIT_DURABLE), (as_messages(3), WAIT_FAST)]
    asked = [ask(*one) for one in batches]
    await settle()
    assert [(request_times(r), r.wait, bool(r.packed)) for r, _, _ in server.calls] == [
        ([1], WAIT_FAST, True),
        ([2], WAIT_DURABLE, True),
        ([3], WAIT_FAST, False),
    ]
    for number in range(3):
        await server.reply(number)
    assert [times_of(await one) for one in asked] == [[1], [2], [3]]


async def test_a_call_that_fails_is_said_to_each_of_its_callers_and_to_no_other(server, ask):
    asked = [ask(candles(i)) for i in range(8)]
    await settle()
    assert server.sizes == [2] * 4
    await server.reply(0, Failed())
    for number in (1, 2, 3):
        await server.reply(number)
    said = []
    for one in asked[:2]:
        with pytest.raises(ServerError, match="away") as told:
            await one
        said.append(told.value)
    assert said[0] is not said[1]
    assert [times_of(await one) for one in asked[2:]] == [[i] for i in range(2, 8)]


async def test_a_message_that_is_refused_as_a_whole_is_asked_apart(server, ask):
    asked = [ask(candles(i)) for i in range(8)]
    await settle()
    await server.reply(0, Failed(grpc.StatusCode.INVALID_ARGUMENT))
    assert [request_times(request) for request, _, _ in server.calls[4:]] == [[0], [1]]
    await server.reply(4, Failed(grpc.StatusCode.INVALID_ARGUMENT))
    await server.reply(5)
    with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
        await asked[0]
    assert times_of(await asked[1]) == [1]
    asked[2].cancel()
    asked[3].cancel()
    await settle()
    assert len(server.cancelled) == 1


async def test_an_answer_that_lacks_results_is_nobodys(server, ask):
    server.forgotten = 1
    asked = [ask(candles(i)) for i in range(8)]
    await settle()
    await server.reply(0)
    for one in asked[:2]:
        with pytest.raises(ValueError, match="1 results came to 2 candles"):
            await one


async def test_who_leaves_takes_no_answer_from_others_and_ends_the_call_if_it_was_the_last(server, ask):
    asked = [ask(candles(i)) for i in range(8)]
    await settle()
    asked[0].cancel()
    await settle()
    assert not server.cancelled
    asked[2].cancel()
    asked[3].cancel()
    await settle()
    assert [request_times(request) for request in server.cancelled] == [[2, 3]]
    await server.reply(0)
    assert times_of(await asked[1]) == [1]


async def test_who_leaves_before_its_turn_is_not_asked_for(server, ask):
    for i in range(8):
        ask(candles(i))
    await settle()
    gone = ask(candles(99))
    await settle()
    gone.cancel()
    for number in range(CALLS_MAX):
        await server.reply(number)
    assert 99 not in [time for request, _, _ in server.calls for time in request_times(request)]
    last = ask(candles(100))
    await settle()
    await server.reply(-1)
    assert times_of(await last) == [100]


async def test_waiting_counts_against_the_time_of_a_caller():
    server = Server()
    shared = SharedCalls(server, timeout_s=0.5)
    many = [asyncio.ensure_future(shared.predict(candles(i), WAIT_FAST)) for i in range(8)]
    await settle()
    late = asyncio.ensure_future(shared.predict(candles(99), WAIT_FAST))
    await asyncio.sleep(0.3)
    for number in range(CALLS_MAX):
        await server.reply(number)
    _, timeout_s, _ = server.calls[-1]
    assert timeout_s <= 0.21
    await server.reply(-1)
    await asyncio.gather(*many, late)


@pytest.mark.parametrize("seed", range(20))
async def test_every_candle_is_sent_once_and_answered_to_whom_it_came_from(server, ask, seed):
    rng = np.random.default_rng(seed)
    asked, gone, number = {}, set(), 0
    async with asyncio.timeout(LIMIT_S):
        while len(asked) < 120 or server.under_way():
            for _ in range(rng.integers(0, 12) if len(asked) < 120 else 0):
                times = range(number, number + int(rng.integers(1, CALLER_ROWS_MAX + 1)))
                number = times.stop
                batch_of = candles if rng.random() < 0.7 else as_messages
                asked[times] = ask(batch_of(*times), WAIT_FAST if rng.random() < 0.8 else WAIT_DURABLE)
            if asked and rng.random() < 0.2:
                times = list(asked)[rng.integers(len(asked))]
                if asked[times].cancel():
                    gone.add(times)
            await settle()
            if (waiting := server.under_way()) and rng.random() < 0.7:
                waiting[rng.integers(len(waiting))][2].set_result(None)
            await settle()
    for times, answer in asked.items():
        if times not in gone:
            assert times_of(await answer) == list(times)
    sent = [time for request, _, _ in server.calls for time in request_times(request)]
    assert len(sent) == len(set(sent))
    assert set(range(number)) - set(sent) <= {time for times in gone for time in times}
    assert max(server.sizes) <= math.ceil(number / CALLS_MAX) + CALLER_ROWS_MAX


async def test_a_client_shares_calls_unless_told_not_to():
    client, apart = AsyncClient("127.0.0.1:1"), AsyncClient("127.0.0.1:1", share_calls=False)
    server = Server()
    client._predicted = apart._predicted = server
    client._shared._call = server
    for one, sizes in ((client, [2] * 4), (apart, [1] * 8)):
        server.calls.clear()
        asked = [asyncio.ensure_future(one.predict(candles(i))) for i in range(8)]
        await settle()
        assert server.sizes == sizes
        for number in range(len(sizes)):
            await server.reply(number)
        assert [times_of(await answer) for answer in asked] == [[i] for i in range(8)]
        await one.__aexit__(None, None, None)
