"""Every row of the contract's table of inputs at the gRPC door: real core, real wire, fake model and table."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from candlecast import features as feature_state
from candlecast import results
from candlecast.client import (
    AsyncClient,
    Candle,
    Client,
    Results,
    ServerError,
    columns,
    direction,
    messages,
    state,
    verdict,
)
from candlecast.features import Features
from candlecast.packed import pack_candles
from candlecast.server import door as server_door
from candlecast.server.service import ForecastsService
from candlecast.server.wire import TolerantServer
from candlecast.v1 import forecasts_pb2, forecasts_pb2_grpc, types_pb2
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import INTERVAL_MS, candles


class Door:
    def __init__(self, client, model, recorder, features, address, service, listening):
        self.client, self.model, self.recorder, self.features = client, model, recorder, features
        self.address, self.service, self.listening = address, service, listening
        self.history = []  # what warmed up the newest symbol

    @property
    def need(self):
        return self.features.need


def listening_for(service, address="127.0.0.1:0"):
    server = grpc.aio.server()
    forecasts_pb2_grpc.add_ForecastsServicer_to_server(service, TolerantServer(server))
    return server_door.Door(address, server, service, message_bytes_max=4 * 1024**2, grace_ms=1_000)


@pytest.fixture
async def door():
    model, recorder, features = FakeModel(), FakeRecorder(), Features(symbols_max=50, conflicts_max=3)
    forecaster = fakes.forecaster(features, model, recorder)
    async with forecaster:
        service = ForecastsService(
            forecaster, features, candles_per_message_max=1_024, unary_timeout_ms=5_000, answer_timeout_ms=5_000
        )
        listening = listening_for(service)
        async with listening as address, AsyncClient(address) as client:
            yield Door(client, model, recorder, features, address, service, listening)


async def warmed(door, symbol="BTCUSDT", extra=8):
    """Backfill a symbol until READY; return its next candles as messages."""
    history = messages(candles(symbol, door.need + extra))
    door.history = history[: door.need]
    await door.client.backfill(door.history)
    return history[door.need :]


def changed(candle, **fields):
    copy = Candle()
    copy.CopyFrom(candle)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


async def test_the_next_expected_candle_moves_the_state_and_gives_a_forecast_of_its_own_row(door):
    first, second, *_ = await warmed(door)
    for candle in (first, second):
        (result,) = await door.client.predict([candle])
        assert (verdict(result), state(result)) == ("ACCEPTED", "READY")
        assert result.forecast.close_time_ms == candle.open_time_ms + INTERVAL_MS
        key = ("BTCUSDT", INTERVAL_MS, result.forecast.close_time_ms)
        horizons = [h.expected_return for h in result.forecast.horizons]
        np.testing.assert_array_equal(horizons, door.recorder.forecasts[key][:4].astype(float))
        assert result.forecast.features_hash < 2**56
    assert len(door.recorder.forecasts) == 2


async def test_symbols_warm_up_in_sight_and_have_no_forecast_before(door):
    history = messages(candles("ETHUSDT", door.need))
    assert (await door.client.get_symbol("ETHUSDT")).status.state == 1  # COLD
    results = await door.client.predict(history)
    assert [result.status.have for result in results] == list(range(1, door.need + 1))
    assert {result.status.need for result in results} == {door.need}
    assert [state(result) for result in results] == ["WARMING"] * (door.need - 1) + ["READY"]
    assert [result.HasField("forecast") for result in results] == [False] * (door.need - 1) + [True]


async def test_the_same_candle_again_is_a_duplicate_and_changes_nothing(door):
    candle, following, *_ = await warmed(door)
    await door.client.predict([candle])
    again, before = await door.client.predict([candle, door.history[-1]])
    assert (verdict(again), verdict(before)) == ("DUPLICATE", "DUPLICATE")
    assert len(door.recorder.forecasts) == 1
    assert again.forecast.already_stored  # whoever lost the answer to the newest candle gets it again
    assert not before.HasField("forecast")
    (result,) = await door.client.predict([following])
    assert verdict(result) == "ACCEPTED"


async def test_the_same_candle_with_other_values_is_a_conflict_and_changes_nothing(door):
    candle, following, *_ = await warmed(door)
    await door.client.predict([candle])
    (again,) = await door.client.predict([changed(candle, volume=candle.volume + 1)])
    assert (verdict(again), again.HasField("forecast")) == ("CONFLICT", False)
    assert (await door.client.get_symbol("BTCUSDT")).conflicts == 1
    (result,) = await door.client.predict([following])
    assert verdict(result) == "ACCEPTED"


async def test_repeated_conflicts_quarantine_the_symbol_and_no_other(door):
    candle, following, *_ = await warmed(door)
    (other, *_) = await warmed(door, "ETHUSDT")
    await door.client.predict([candle])
    for i in range(3):
        await door.client.predict([changed(candle, volume=candle.volume + 1 + i)])
    results = await door.client.predict([following, other])
    assert [state(result) for result in results] == ["QUARANTINED", "READY"]
    assert direction(results[0].forecast) == "NEUTRAL"
    assert "QUARANTINED" in results[0].forecast.reasons
    assert "QUARANTINED" not in results[1].forecast.reasons


async def test_an_old_candle_is_a_duplicate_when_storage_has_it_and_late_when_it_has_not(door):
    history = messages(candles("BTCUSDT", 300))
    await door.client.backfill(history[1:])
    results = await door.client.predict([history[0], history[1], changed(history[2], volume=history[2].volume + 1)])
    assert [verdict(result) for result in results] == ["LATE", "DUPLICATE", "CONFLICT"]
    symbol = await door.client.get_symbol("BTCUSDT")
    assert (symbol.status.have, symbol.conflicts) == (299, 1)
    (past,) = await door.client.predict([changed(history[1], volume=9, forming=True)])
    assert verdict(past) == "LATE"


@pytest.mark.parametrize("missing", [1, 4])
async def test_a_small_gap_is_filled_flagged_and_gives_no_signal(door, missing):
    nexts = await warmed(door)
    (result,) = await door.client.predict([nexts[missing]])
    assert (verdict(result), state(result)) == ("ACCEPTED", "READY")
    assert result.forecast.gap_filled
    assert direction(result.forecast) == "NEUTRAL"
    assert "GAP_FILLED" in result.forecast.reasons
    assert len(door.recorder.candles) == door.need + 1  # the filled ones are no candles of the market


async def test_a_gap_of_five_starts_the_symbol_anew(door):
    nexts = await warmed(door)
    (result,) = await door.client.predict([nexts[5]])
    assert (verdict(result), state(result), result.status.have) == ("ACCEPTED", "WARMING", 1)


HOUR_AHEAD = 3_600_000
BAD = [
    ({"close": float("nan")}, "close", "NOT_FINITE"),
    ({"open": float("inf")}, "open", "NOT_FINITE"),
    ({"low": float("-inf")}, "low", "NOT_FINITE"),
    ({"volume": float("nan")}, "volume", "NOT_FINITE"),
    ({"low": 0.0}, "low", "NOT_POSITIVE"),
    ({"close": -1.0}, "close", "NOT_POSITIVE"),
    ({"volume": -1.0}, "volume", "NEGATIVE"),
    ({"quote_volume": -1.0}, "quote_volume", "NEGATIVE"),
    ({"symbol": "btc usdt"}, "symbol", "BAD_SYMBOL"),
    ({"symbol": ""}, "symbol", "BAD_SYMBOL"),
    ({"symbol": "X" * 33}, "symbol", "BAD_SYMBOL"),
    ({"interval_ms": -900_000}, "interval_ms", "BAD_INTERVAL"),
]


@pytest.mark.parametrize(("fields", "field", "reason"), BAD)
async def test_a_malformed_candle_is_refused_with_field_and_reason_and_harms_no_other(door, fields, field, reason):
    good, following, *_ = await warmed(door)
    (other, *_) = await warmed(door, "ETHUSDT")
    results = await door.client.predict([good, changed(following, **fields), other])
    assert [verdict(result) for result in results] == ["ACCEPTED", "REFUSED", "ACCEPTED"]
    assert (results[1].refusal.field, results[1].refusal.reason) == (field, reason)
    (result,) = await door.client.predict([following])  # the state was not moved
    assert verdict(result) == "ACCEPTED"
    assert not result.forecast.gap_filled


@pytest.mark.parametrize(
    ("shift_ms", "reason"), [(1, "UNALIGNED"), (200 * 365 * 86_400_000 // INTERVAL_MS * INTERVAL_MS, "IN_FUTURE")]
)
async def test_a_candle_out_of_step_or_in_the_future_is_refused(door, shift_ms, reason):
    (candle, *_) = await warmed(door)
    (result,) = await door.client.predict([changed(candle, open_time_ms=candle.open_time_ms + shift_ms)])
    assert (verdict(result), result.refusal.field, result.refusal.reason) == ("REFUSED", "open_time_ms", reason)


async def test_prices_that_contradict_each_other_are_refused(door):
    (candle, *_) = await warmed(door)
    inverted = changed(candle, high=candle.low, low=candle.high)
    outside = changed(candle, close=candle.high * 2)
    results = await door.client.predict([inverted, outside])
    assert [verdict(result) for result in results] == ["REFUSED", "REFUSED"]
    assert results[0].refusal.reason == "HIGH_BELOW_LOW"
    assert results[1].refusal.reason == "OUTSIDE_HIGH_LOW"


async def test_a_forming_candle_is_peeked_at_and_moves_and_stores_nothing(door):
    (candle, *_) = await warmed(door)
    (peek,) = await door.client.predict([changed(candle, forming=True)])
    assert (verdict(peek), peek.forecast.forming, peek.forecast.durability) == ("PEEKED", True, 0)
    assert not peek.forecast.already_stored
    assert door.recorder.forecasts == {}
    (closed,) = await door.client.predict([candle])
    assert verdict(closed) == "ACCEPTED"
    assert closed.forecast.features_hash == peek.forecast.features_hash
    assert len(door.recorder.forecasts) == 1


async def test_a_stream_answers_batches_in_order_with_every_symbol(door):
    nexts = {symbol: await warmed(door, symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")}
    batches = [[nexts[symbol][i] for symbol in nexts] for i in range(8)]

    async def source():
        for batch in batches:
            yield batch

    answers = [results async for results in door.client.stream(source())]
    assert [[r.open_time_ms for r in results] for results in answers] == [[c.open_time_ms for c in b] for b in batches]
    assert [[r.forecast.symbol for r in results] for results in answers] == [list(nexts)] * 8
    assert len(door.recorder.forecasts) == 24


async def test_a_symbol_alone_asks_for_its_newest_candle_which_is_stale_when_long_past(door):
    (candle, *_) = await warmed(door)
    (sent,) = await door.client.predict([candle])
    asked, unknown, bad = await door.client.predict(symbols=["BTCUSDT", "NEVERSEEN", "no symbol"])
    assert asked.forecast.close_time_ms == sent.forecast.close_time_ms
    assert asked.forecast.features_hash == sent.forecast.features_hash
    assert (state(asked), asked.forecast.already_stored) == ("STALE", True)
    assert "STALE" in asked.forecast.reasons
    assert (state(unknown), unknown.HasField("forecast")) == ("COLD", False)
    assert (verdict(bad), bad.refusal.field, bad.refusal.reason) == ("REFUSED", "symbol", "BAD_SYMBOL")


async def test_symbols_that_come_with_candles_are_answered_behind_them_and_after_they_have_moved_the_state(door):
    (candle, *_) = await warmed(door)
    async with grpc.aio.insecure_channel(door.address) as channel:
        request = forecasts_pb2.PredictRequest(candles=[candle], symbols=["no symbol", "BTCUSDT", "BTCUSDT"])
        answered = (await forecasts_pb2_grpc.ForecastsStub(channel).Predict(request)).results
    assert [result.symbol for result in answered] == ["BTCUSDT", "no symbol", "BTCUSDT", "BTCUSDT"]
    assert (verdict(answered[0]), verdict(answered[1])) == ("ACCEPTED", "REFUSED")
    closes = {result.forecast.close_time_ms for result in (answered[0], *answered[2:])}
    assert closes == {candle.open_time_ms + INTERVAL_MS} and len(door.recorder.forecasts) == 1


async def test_backfill_moves_state_stores_candles_and_counts(door):
    history = messages(candles("BTCUSDT", 1_500))
    bad = changed(history[700], high=0.5)
    answer = await door.client.backfill([*history[:700], bad, *history[700:], *history[-50:]])
    assert (answer.accepted, answer.duplicates, answer.refused_count) == (1_500, 50, 1)
    assert answer.refused[0].open_time_ms == bad.open_time_ms
    assert answer.symbols[f"BTCUSDT@{INTERVAL_MS}"].have == 1_500
    assert (len(door.recorder.candles), door.recorder.forecasts) == (1_500, {})


async def test_while_the_model_is_away_candles_still_count_and_the_call_says_so(door):
    candle, following, *_ = await warmed(door)
    door.model.broken = True
    async with grpc.aio.insecure_channel(door.address) as channel:  # ours would try again until the model is back
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            request = forecasts_pb2.PredictRequest(candles=[candle])
            async with asyncio.timeout(3):  # at once, not at the deadline of 5 s
                await forecasts_pb2_grpc.ForecastsStub(channel).Predict(request)
    assert (failed.value.code(), ServerError(failed.value).server_reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "MODEL_UNAVAILABLE",
    )
    door.model.broken = False
    (missed,) = await door.client.predict([candle])
    assert (verdict(missed), missed.forecast.close_time_ms) == ("DUPLICATE", candle.open_time_ms + INTERVAL_MS)
    assert len(door.recorder.candles) == door.need + 1
    (result,) = await door.client.predict([following])
    assert verdict(result) == "ACCEPTED"


@pytest.mark.parametrize(
    ("wait", "durability"),
    [
        (types_pb2.WAIT_UNSPECIFIED, types_pb2.DURABILITY_SPOOLED),
        (types_pb2.WAIT_DURABLE, types_pb2.DURABILITY_SPOOLED),
        (types_pb2.WAIT_FAST, types_pb2.DURABILITY_PENDING),
    ],
)
async def test_a_request_says_what_its_reply_waits_for_and_the_reply_how_safe_it_is(door, wait, durability):
    first, second, *_ = await warmed(door)
    async with grpc.aio.insecure_channel(door.address) as channel:
        stub = forecasts_pb2_grpc.ForecastsStub(channel)
        called = await stub.Predict(forecasts_pb2.PredictRequest(candles=[first], wait=wait))
        asked = await stub.Predict(forecasts_pb2.PredictRequest(symbols=["BTCUSDT"], wait=wait))
        (streamed,) = [r async for r in stub.Stream(iter([forecasts_pb2.StreamRequest(candles=[second], wait=wait)]))]
    for response in (called, asked, streamed):
        assert response.results[0].forecast.durability == durability


async def test_an_empty_or_oversized_request_is_refused_with_the_field(door):
    async with grpc.aio.insecure_channel(door.address) as channel:
        stub = forecasts_pb2_grpc.ForecastsStub(channel)
        oversized = forecasts_pb2.PredictRequest(candles=[Candle(symbol="A")] * 1_025)
        for request, field in ((forecasts_pb2.PredictRequest(), "candles"), (oversized, "candles")):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Predict(request)
            status = rpc_status.from_call(failed.value)
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            assert status.details[0].Unpack(info) and status.details[1].Unpack(bad)
            assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert (info.reason, info.domain) == ("INVALID_REQUEST", "candlecast")
            assert bad.field_violations[0].field == field


@pytest.mark.parametrize("letter", ["a", "₿"])
async def test_an_error_that_quotes_what_was_sent_stays_short_enough_for_headers(door, letter):
    async with grpc.aio.insecure_channel(door.address) as channel:
        stub = forecasts_pb2_grpc.ForecastsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetSymbol(forecasts_pb2.GetSymbolRequest(symbol=letter * 70_000))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().endswith("…") and rpc_status.from_call(refused.value) is not None


async def test_more_symbols_than_the_limit_are_refused_and_known_ones_go_on(door):
    await door.client.predict([messages(candles(f"S{i}", 1))[0] for i in range(50)])
    results = await door.client.predict([messages(candles("ONEMORE", 1))[0], messages(candles("S7", 2))[1]])
    assert [verdict(result) for result in results] == ["REFUSED", "ACCEPTED"]
    assert results[0].refusal.reason == "SYMBOL_LIMIT"


async def test_stopping_answers_what_a_stream_sent_and_then_ends_it(door):
    nexts, sent = await warmed(door), asyncio.Event()

    async def source():
        yield nexts[:1]
        yield nexts[1:3]
        await sent.wait()  # an idle client keeps its stream open

    answers = []
    async with AsyncClient(door.address, resume_s=0) as client:  # ours would wait for the server to come back
        with pytest.raises(ServerError) as ended:
            async for results in client.stream(source()):
                answers.append(len(results))
                if len(answers) == 2:
                    door.listening.stop()
    assert answers == [1, 2]
    assert (ended.value.code, ended.value.server_reason) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")


async def test_a_mistake_in_the_clients_own_candles_comes_out_as_it_is(door):
    async def source():
        yield await warmed(door)
        raise ValueError("my feed broke")

    with pytest.raises(ValueError, match="my feed broke"):
        async for _ in door.client.stream(source()):
            pass


@pytest.mark.parametrize(("ahead_ms", "expected"), [(1_000, "ACCEPTED"), (900_000, "REFUSED")])
async def test_a_candle_may_close_at_most_two_seconds_ahead_of_the_clock(door, monkeypatch, ahead_ms, expected):
    (candle, *_) = await warmed(door)
    monkeypatch.setattr(feature_state, "now_ms", lambda: candle.open_time_ms + INTERVAL_MS - ahead_ms)
    (result,) = await door.client.predict([candle])
    assert verdict(result) == expected


async def test_packed_candles_get_the_same_answers_as_messages(door):
    (first, *_) = await warmed(door)
    (other, *_) = await warmed(door, "ETHUSDT")
    conflict = changed(door.history[-1], volume=door.history[-1].volume + 1)
    late = changed(door.history[0], open_time_ms=door.history[0].open_time_ms - INTERVAL_MS)
    bad = changed(first, symbol="no symbol")
    worse = changed(first, high=float("nan"))
    peeked = changed(first, forming=True, trades=7.0)
    batch = [peeked, conflict, late, bad, worse, door.history[-1], changed(other, forming=True)]
    batch += [changed(first, symbol=f"NEW{i}", interval_ms=0) for i in range(20)]
    async with AsyncClient(door.address) as friendly:
        answers = []
        for carried in (batch, columns(batch)):
            request = forecasts_pb2.PredictRequest(
                **({"candles": carried} if carried is batch else results.asking(carried))
            )
            answers.append(await friendly._stub.Predict(request))
        by_message, packed = answers[0].results, Results(answers[1])
    assert len(answers[1].results) == 0 and len(packed) == len(by_message) == len(batch)
    # What the first request brought is known to the second: that is the only difference, beside the time it took.
    for theirs, ours in zip(by_message[:7], packed[:7], strict=True):
        for result in (theirs, ours):
            result.forecast.times.Clear()
            result.forecast.already_stored = result.status.have = 0
        assert ours == theirs
    assert [verdict(result) for result in packed[7:]] == ["DUPLICATE"] * 20
    assert {result.interval_ms for result in packed[7:]} == {INTERVAL_MS}
    assert packed.forecasts == sum(result.HasField("forecast") for result in packed) > 0
    assert packed.columns["has_forecast"].sum() == packed.forecasts


async def test_a_stream_of_columns_is_answered_in_columns_and_many_messages_travel_packed(door):
    ahead = [await warmed(door, f"S{i}") for i in range(20)]
    bars = [[candles_of[bar] for candles_of in ahead] for bar in range(3)]

    async def source():
        yield columns(bars[0])
        yield bars[1]
        yield bars[2][:1]

    results = [result async for result in door.client.stream(source())]
    assert [len(result) for result in results] == [20, 20, 1]
    for one, bar in zip(results[:2], bars[:2], strict=True):
        assert one.columns["symbol"].tolist() == [candle.symbol.encode() for candle in bar]
        assert one.forecasts == 20
        keys = [(candle.symbol, INTERVAL_MS, candle.open_time_ms + INTERVAL_MS) for candle in bar]
        expected = np.array([door.recorder.forecasts[key][:4] for key in keys], dtype=np.float64)
        np.testing.assert_array_equal(one.columns["returns"], expected)
    with pytest.raises(ValueError, match="came as messages"):
        _ = results[2].columns


async def test_bytes_that_are_no_records_and_candles_in_both_forms_are_refused(door):
    (candle, *_) = await warmed(door)
    good = pack_candles(columns([candle]))
    cases = [({"packed": good[:-1]}, "packed"), ({"packed": good, "candles": [candle]}, "packed")]
    cases += [({"packed": good, "symbols": ["BTCUSDT"]}, "symbols"), ({"packed": good * 1_025}, "candles")]
    for fields, field in cases:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await door.client._stub.Predict(forecasts_pb2.PredictRequest(packed_layout=2, **fields))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        details = rpc_status.from_call(error.value).details
        request = error_details_pb2.BadRequest()
        assert any(detail.Unpack(request) for detail in details)
        assert request.field_violations[0].field == field
    assert (await door.client.get_symbol("BTCUSDT")).status.have == door.need


async def test_a_reader_of_an_older_layout_of_results_is_refused_and_told_which_there_is(door):
    (candle, *_) = await warmed(door)
    request = forecasts_pb2.PredictRequest(packed=pack_candles(columns([candle])))
    with pytest.raises(grpc.aio.AioRpcError, match="packed results have layout 2, this caller reads 1"):
        await door.client._stub.Predict(request)
    assert (await door.client.get_symbol("BTCUSDT")).status.have == door.need
    request.packed_layout = 2
    response = await door.client._stub.Predict(request)
    assert Results(response).columns["size_multiplier"][0] in (1.0, 1.5)
    response.packed.layout = 3
    with pytest.raises(ValueError, match="layout 3, this client reads 2"):
        Results(response)


async def test_packed_history_is_counted_as_messages_are(door):
    history = messages(candles("BTCUSDT", 1_500))
    bad = changed(history[3], symbol="X" * 33)
    first = await door.client.backfill([*history[:700], bad])  # a name without room in a record: as messages
    assert (first.accepted, first.refused_count, first.refused[0].symbol) == (700, 1, "X" * 33)
    worse = columns([changed(history[3], high=-1.0), *history[600:]])
    second = await door.client.backfill(worse)
    assert (second.accepted, second.duplicates, second.refused_count) == (800, 100, 1)
    assert second.refused[0].refusal.field == "high"
    assert second.symbols[f"BTCUSDT@{INTERVAL_MS}"].have == 1_500


@pytest.mark.parametrize("blocking", [True, False], ids=["Client", "AsyncClient"])
async def test_a_stream_goes_on_when_its_server_is_back_and_nothing_is_sent_twice_unanswered(door, blocking):
    nexts, answered = await warmed(door, extra=40), []
    is_down, may_go_on = asyncio.Event(), threading.Event()

    def heard(results):
        answered.append([(result.open_time_ms, verdict(result)) for result in results])
        if len(answered) == 3:
            loop.call_soon_threadsafe(is_down.set)
            may_go_on.wait(5)

    def blocking_stream():
        with Client(address) as client:
            for results in client.stream([candle] for candle in nexts):
                heard(results)

    async def stream():
        async def source():
            for candle in nexts:
                yield [candle]

        async with AsyncClient(address) as client:
            async for results in client.stream(source()):
                await asyncio.to_thread(heard, results)

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        first = listening_for(door.service)
        async with first as address:
            running = asyncio.create_task(asyncio.to_thread(blocking_stream) if blocking else stream())
            await is_down.wait()
            first.stop()  # what it accepted is answered, then its streams end
            may_go_on.set()
        async with listening_for(door.service, address):
            await running
    assert [[time for time, _ in results] for results in answered] == [[c.open_time_ms] for c in nexts]
    assert {said for results in answered for _, said in results} <= {"ACCEPTED", "DUPLICATE"}
    assert len(door.recorder.forecasts) == len(nexts)


async def test_a_mistake_in_what_a_blocking_stream_is_given_comes_out_as_it_is(door):
    first, *_ = await warmed(door)

    def batches():
        yield [first]
        raise KeyError("no such file")

    def run():
        with Client(door.address) as client:
            for _ in client.stream(batches()):
                pass

    with pytest.raises(KeyError, match="no such file"):
        await asyncio.to_thread(run)


async def test_a_burst_does_not_push_a_single_call_past_its_deadline(door):
    (lone, *_) = await warmed(door)
    many = [await warmed(door, f"S{i}") for i in range(30)]
    batches = [columns([candles_of[bar] for candles_of in many]) for bar in range(8)]
    answer, order, begun = door.model.__class__.__call__, [], asyncio.Event()

    async def slow(self, windows):
        order.append(len(windows))
        begun.set()
        await asyncio.sleep(0.02)
        return await answer(self, windows)

    door.model.__class__ = type("SlowModel", (door.model.__class__,), {"__call__": slow})

    async def burst():
        async def source():
            for batch in batches:
                yield batch

        return [len(results) async for results in door.client.stream(source())]

    under_way = asyncio.create_task(burst())
    await begun.wait()
    (result,) = await door.client.predict([lone])  # 240 windows are before it, 12 at a time: 200 ms
    assert result.HasField("forecast")
    assert len(order) <= 8 and not under_way.done()
    assert await under_way == [30] * 8
