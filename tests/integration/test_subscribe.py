"""Subscribe at the gRPC door: real core, real wire, fake model; storage is the real one where it is asked."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest

from candlecast.client import AsyncClient, Client, ServerError, direction
from candlecast.errors import SubscriberBehind
from candlecast.features import Features
from candlecast.server.door import Door
from candlecast.server.service import ForecastsService
from candlecast.server.stored import StoredForecasts
from candlecast.server.subscriptions import Subscriptions, chunk
from candlecast.server.wire import TolerantServer
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc
from candlecast.values import Recorded
from candlecast.work import Answer
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.integration.conftest import forecasts
from tests.market_simulator import candles
from tests.recorders import Store, until

LIMIT_S = 20


def answer(given, new=None):
    """What a forecaster says of these forecasts; `new` by row."""
    new = np.ones(len(given), dtype=np.bool_) if new is None else np.array(new)
    return Answer(None, None, {}, given, Recorded(new, np.zeros_like(new)), True, 7, None)


class Fan:
    """A server with nothing but subscriptions."""

    def __init__(self, subscriptions, address):
        self.subscriptions, self.address = subscriptions, address

    async def joined(self, count):
        await until(lambda: len(self.subscriptions) >= count)


@asynccontextmanager
async def fan(storage=None, *, address="127.0.0.1:0", backlog_max=64, subscribers_max=8):
    features = Features(symbols_max=1, conflicts_max=3)
    forecaster = fakes.forecaster(features, FakeModel(), FakeRecorder())
    async with Subscriptions(storage, subscribers_max=subscribers_max, backlog_max=backlog_max) as subscriptions:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service = ForecastsService(
            forecaster, features, candles_per_message_max=9, unary_timeout_ms=5_000, answer_timeout_ms=5_000,
            subscriptions=subscriptions,
        )  # fmt: skip
        forecasts_pb2_grpc.add_ForecastsServicer_to_server(service, TolerantServer(server))
        async with Door(address, server, service, message_bytes_max=1024**2, grace_ms=200) as listening:
            try:
                yield Fan(subscriptions, listening)
            finally:
                service.stop()


async def taken(stream, count):
    """The next `count` forecasts of a subscription."""
    found = []
    async with asyncio.timeout(LIMIT_S):
        while len(found) < count:
            found.append(await anext(stream))
    return found


def key(forecast):
    return forecast.symbol, forecast.close_time_ms


def keys(given):
    return list(zip(given.names, given.close_time_ms.tolist(), strict=True))


async def test_every_subscriber_hears_each_new_forecast_once_as_the_answer_says_it():
    given = forecasts(5)
    async with fan() as server, AsyncClient(server.address) as client:
        streams = [client.subscribe() for _ in range(3)]
        waiting = [asyncio.create_task(taken(stream, 4)) for stream in streams]
        await server.joined(3)
        server.subscriptions.publish(answer(given, [True, True, False, True, True]))
        heard = await asyncio.gather(*waiting)
        assert [list(map(key, one)) for one in heard] == [[keys(given)[i] for i in (0, 1, 3, 4)]] * 3
        assert heard[0] == heard[1]
        m, one = given.meaning, heard[0][0]
        assert (one.confidence, one.quality, one.model.version) == (m.confidence[0], m.quality[0], 3)
        assert [forecast.close for forecast in heard[0]] == [given.close[i] for i in (0, 1, 3, 4)]
        assert (one.rule_score, one.size_multiplier, one.durability) == (
            given.rule_score[0], given.size_multiplier[0], 1
        )  # fmt: skip


async def test_filters_are_those_of_the_request_also_of_symbols_that_come_later():
    given = [forecasts(12, symbol=name, seed=i) for i, name in enumerate(("AUSDT", "BUSDT", "CUSDT"))]
    wanted = [
        ({"symbols": ["BUSDT"]}, lambda f, i: f.names[i] == "BUSDT"),
        (
            {"symbols": ["BUSDT", "CUSDT"], "directions": ["SHORT"]},
            lambda f, i: f.names[i] != "AUSDT" and f.direction[i] < 0,
        ),
        ({"min_confidence": 0.6}, lambda f, i: f.meaning.confidence[i] >= 0.6),
        ({"directions": ["LONG", "NEUTRAL"]}, lambda f, i: f.direction[i] >= 0),
    ]
    async with fan() as server, AsyncClient(server.address) as client:
        expected = [[keys(f)[i] for f in given for i in range(12) if fits(f, i)] for _, fits in wanted]
        assert all(0 < len(some) < 36 for some in expected)
        tasks = [
            asyncio.create_task(taken(client.subscribe(**fields), len(some)))
            for (fields, _), some in zip(wanted, expected, strict=True)
        ]
        await server.joined(4)
        for one in given:
            server.subscriptions.publish(answer(one))
            await asyncio.sleep(0)
        assert [list(map(key, some)) for some in await asyncio.gather(*tasks)] == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"symbols": ["no symbol"]}, "symbols"),
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"min_confidence": float("nan")}, "min_confidence"),
        ({"directions": [0]}, "directions"),
        ({"directions": [77]}, "directions"),
        ({"from_close_time_ms": 1}, "reads no storage"),
        ({"from_close_time_ms": -(1 << 63)}, "ms since 1970"),
        ({"from_close_time_ms": (1 << 63) - 1}, "ms since 1970"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(fields, said):
    async with fan() as server, AsyncClient(server.address) as client:
        with pytest.raises(grpc.aio.AioRpcError, match=said) as error:
            async with asyncio.timeout(LIMIT_S):
                async for _ in client._stub.Subscribe(pb.SubscribeRequest(**fields)):
                    pass
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(server.subscriptions) == 0


async def test_one_subscriber_too_many_is_refused_and_a_place_is_free_again_when_one_leaves():
    async with fan(subscribers_max=1) as server, AsyncClient(server.address, resume_s=0) as client:
        first = client._stub.Subscribe(pb.SubscribeRequest())
        assert (await anext(aiter(first))).live
        with pytest.raises(ServerError, match="QUEUE_FULL"):
            await anext(client.subscribe())
        first.cancel()
        await until(lambda: not len(server.subscriptions))
        assert (await anext(aiter(client._stub.Subscribe(pb.SubscribeRequest())))).live


def of_bars(symbols, bars, seed=0):
    """Forecasts of symbols at each of `bars` closes, close by close."""
    parts = [forecasts(len(bars), symbol=name, seed=seed + i) for i, name in enumerate(symbols)]
    for b, bar in enumerate(bars):
        rows = [part.take(np.array([b])) for part in parts]
        one = type(rows[0]).joined(rows)
        yield replace(one, close_time_ms=np.full(len(symbols), 1_700_000_100_000 + 900_000 * bar))


async def read(subscriptions, request, gate, seen, limit=None):
    """A subscriber that takes a message whenever the gate is open."""
    async for message in subscriptions.subscribe(request):
        seen.append(pb.SubscribeResponse.FromString(message))
        if limit and len(seen) >= limit:
            return
        await gate.wait()


async def test_who_is_too_far_behind_gets_the_newest_of_each_symbol_and_is_told_how_many_it_missed():
    async with Subscriptions(None, subscribers_max=4, backlog_max=16) as fan_out:
        gate, open_gate, seen, others = asyncio.Event(), asyncio.Event(), [], []
        open_gate.set()
        slow = asyncio.create_task(read(fan_out, pb.SubscribeRequest(), gate, seen))
        fast = asyncio.create_task(read(fan_out, pb.SubscribeRequest(), open_gate, others))
        await until(lambda: seen and others)
        published = list(of_bars(("AUSDT", "BUSDT", "CUSDT"), range(20)))
        for given in published:
            fan_out.publish(answer(given))
            await until(lambda given=given: others[-1].forecasts and key(others[-1].forecasts[-1]) == keys(given)[-1])
        gate.set()
        await until(lambda: len(seen) > 1)
        assert list(map(key, seen[1].forecasts)) == keys(published[-1])
        assert seen[1].skipped == 60 - 3
        assert [key(f) for response in others for f in response.forecasts] == [k for g in published for k in keys(g)]
        for task in (slow, fast):
            task.cancel()
        await asyncio.gather(slow, fast, return_exceptions=True)
        assert len(fan_out) == 0


async def test_who_wants_all_of_them_is_ended_when_it_is_too_far_behind():
    async with Subscriptions(None, subscribers_max=4, backlog_max=16) as fan_out:
        gate, seen = asyncio.Event(), []
        request = pb.SubscribeRequest(when_behind=pb.WHEN_BEHIND_END)
        slow = asyncio.create_task(read(fan_out, request, gate, seen))
        await until(lambda: seen)
        for given in of_bars(("AUSDT",), range(17)):
            fan_out.publish(answer(given))
        gate.set()
        with pytest.raises(Exception, match="17 forecasts were made since"):
            await slow


async def test_what_was_made_and_could_not_be_told_is_not_passed_over_in_silence():
    async with Subscriptions(None, subscribers_max=4, backlog_max=16) as fan_out:
        gate, seen = asyncio.Event(), []
        gate.set()
        request = pb.SubscribeRequest(when_behind=pb.WHEN_BEHIND_END)
        strict = asyncio.create_task(read(fan_out, request, gate, []))
        lax = asyncio.create_task(read(fan_out, pb.SubscribeRequest(), gate, seen))
        await until(lambda: len(fan_out) == 2 and seen)
        fan_out.publish(answer(forecasts(3)))
        await until(lambda: len(seen) == 2)
        fan_out.publish(None)
        with pytest.raises(SubscriberBehind):
            async with asyncio.timeout(LIMIT_S):
                await strict
        await until(lambda: len(seen) == 3)
        assert seen[2].skipped and not seen[2].forecasts
        fan_out.publish(answer(forecasts(1, seed=5)))
        await until(lambda: len(seen) == 4 and len(seen[3].forecasts) == 1)
        lax.cancel()
        await asyncio.gather(lax, return_exceptions=True)


async def test_a_forecast_is_encoded_once_however_many_hear_it(monkeypatch):
    made = []
    monkeypatch.setattr("candlecast.server.subscriptions.chunk", lambda forecast: made.append(1) or chunk(forecast))
    async with Subscriptions(None, subscribers_max=100, backlog_max=64) as fan_out:
        gate, all_seen = asyncio.Event(), [[] for _ in range(50)]
        gate.set()
        tasks = [asyncio.create_task(read(fan_out, pb.SubscribeRequest(), gate, seen)) for seen in all_seen]
        await until(lambda: all(all_seen))
        fan_out.publish(answer(forecasts(40)))
        await until(lambda: all(sum(len(r.forecasts) for r in seen) == 40 for seen in all_seen))
        assert len(made) == 40
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_hundred_subscribers_at_a_thousand_forecasts_a_second_all_get_all_of_them():
    published = [forecasts(50, symbol=f"S{i}USDT", seed=i) for i in range(20)]
    whole = sorted(k for given in published for k in keys(given))
    async with fan(subscribers_max=100, backlog_max=2_048) as server, AsyncClient(server.address) as client:
        tasks = [asyncio.create_task(taken(client.subscribe(every=True), len(whole))) for _ in range(100)]
        await server.joined(100)
        for given in published:
            server.subscriptions.publish(answer(given))
            await asyncio.sleep(0.05)
        for heard in await asyncio.gather(*tasks):
            assert sorted(map(key, heard)) == whole


async def test_forecasts_of_the_door_reach_subscribers_and_repetitions_do_not():
    features, recorder = Features(symbols_max=4, conflicts_max=3), FakeRecorder()
    forecaster = fakes.forecaster(features, FakeModel(), recorder, cache_ttl_s=60)
    history = candles("BTCUSDT", features.need + 2)
    async with forecaster, Subscriptions(None, subscribers_max=4, backlog_max=64) as fan_out:
        forecaster.listeners.append(fan_out.publish)
        gate, seen = asyncio.Event(), []
        gate.set()
        task = asyncio.create_task(read(fan_out, pb.SubscribeRequest(), gate, seen, limit=3))
        await until(lambda: seen)
        await forecaster.accept(history.take(np.arange(features.need)), forecast=False)
        for bar in (0, 0, 1):
            await forecaster.accept(history.take(np.array([features.need + bar])))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(LIMIT_S):
            await task
        closes = [f.close_time_ms for response in seen for f in response.forecasts]
        assert closes == (history.open_time_ms[-2:] + 900_000).tolist()


@pytest.fixture
async def store(pool, tmp_path):
    async with Store(tmp_path / "journal", pool) as store:
        yield store


def storage_of(store, pool, rows_max=10_000):
    return StoredForecasts(pool, store.recorder.drained, rows_max=rows_max)


async def test_what_is_stored_comes_first_then_what_is_made_without_gap_or_repetition(pool, store):
    published = list(of_bars(("AUSDT", "BUSDT", "CUSDT"), range(40)))
    for given in published[:30]:
        await store.record(None, given)
    async with fan(storage_of(store, pool)) as server, AsyncClient(server.address) as client:
        since, [sentinel] = int(published[10].close_time_ms[0]), of_bars(("ZUSDT",), [99])

        async def raw():  # the client would drop repetitions itself
            found = []
            async for response in client._stub.Subscribe(pb.SubscribeRequest(from_close_time_ms=since)):
                found += response.forecasts
                if found and key(found[-1]) == keys(sentinel)[0]:
                    break
            return found[:-1]

        task = asyncio.create_task(raw())
        await server.joined(1)
        for given in published[28:]:  # the first two are in the table, too
            recorded = await store.record(None, given)
            server.subscriptions.publish(replace(answer(given), recorded=replace(recorded, new=np.full(3, True))))
        server.subscriptions.publish(answer(sentinel))
        async with asyncio.timeout(LIMIT_S):
            heard = await task
        assert sorted(map(key, heard)) == sorted(k for given in published[10:] for k in keys(given))
        assert len(set(map(key, heard))) == len(heard)
        stored = next(f for f in heard if f.already_stored)
        row = next(g for g in published if keys(g)[0] == key(stored) or key(stored) in keys(g))
        i = keys(row).index(key(stored))
        assert (stored.quality, stored.hybrid_score, stored.features_hash) == pytest.approx(
            (row.meaning.quality[i], row.hybrid_score[i], int(row.features_hash[i])), nan_ok=True
        )
        assert stored.close == row.close[i]
        assert direction(stored) == {1: "LONG", -1: "SHORT", 0: "NEUTRAL"}[int(row.direction[i])]
        assert [h.p_long for h in stored.horizons] == pytest.approx(row.meaning.probabilities[i, :, 0], rel=1e-6)


async def test_storage_is_asked_with_the_filters_and_no_more_than_its_limit(pool, store):
    for given in of_bars(("AUSDT", "BUSDT"), range(20)):
        await store.record(None, given)
    async with fan(storage_of(store, pool, rows_max=30)) as server, AsyncClient(server.address) as client:
        stream = client.subscribe(from_close_time_ms=0, symbols=["BUSDT"], min_confidence=0.0)
        assert {f.symbol for f in await taken(stream, 20)} == {"BUSDT"}
        with pytest.raises(ServerError, match="more than 30 forecasts were made since"):
            await anext(client.subscribe(from_close_time_ms=0))


@pytest.mark.parametrize("blocking", [True, False], ids=["Client", "AsyncClient"])
async def test_a_subscription_goes_on_when_its_server_is_back_without_gap_or_repetition(pool, store, blocking):
    published, heard = list(of_bars(("AUSDT", "BUSDT"), range(12))), []

    def in_thread(address):
        with Client(address) as client:
            for forecast in client.subscribe():
                heard.append(forecast)
                if len(heard) == 24:
                    return

    async def awaited(address):
        async with AsyncClient(address) as client:
            async for forecast in client.subscribe():
                heard.append(forecast)
                if len(heard) == 24:
                    return

    async with fan(storage_of(store, pool)) as server:
        address = server.address
        task = asyncio.create_task(asyncio.to_thread(in_thread, address) if blocking else awaited(address))
        await server.joined(1)
        for given in published[:4]:
            await store.record(None, given)
            server.subscriptions.publish(answer(given))
        await until(lambda: len(heard) == 8)
    for given in published[4:8]:  # while it is away
        await store.record(None, given)
    async with fan(storage_of(store, pool), address=address) as server:
        await server.joined(1)
        for given in published[8:]:
            await store.record(None, given)
            server.subscriptions.publish(answer(given))
        async with asyncio.timeout(LIMIT_S):
            await task
    assert sorted(map(key, heard)) == sorted(k for given in published for k in keys(given))
