"""Signals and what they amount to, over gRPC and the real PostgreSQL, against cases computed by hand."""

import asyncio
import json
import math
import time
from contextlib import asynccontextmanager

import grpc
import pytest

from candlecast.client import AsyncClient, ServerError
from candlecast.server.history_service import HistoryService
from candlecast.server.performance_service import PerformanceService
from candlecast.server.wire import TolerantServer
from candlecast.signal_log import SignalLog
from candlecast.store.pool import open_pool
from candlecast.v1 import history_pb2_grpc, performance_pb2_grpc
from candlecast.v1 import performance_pb2 as pb
from tests.integration.test_outcomes import settle, told, walk, write
from tests.stack import free_port

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000  # 2024-01-01


@asynccontextmanager
async def serving(pool, port=0):
    server = grpc.aio.server()
    tolerant = TolerantServer(server)
    performance_pb2_grpc.add_PerformanceServicer_to_server(PerformanceService(pool), tolerant)
    history_pb2_grpc.add_HistoryServicer_to_server(HistoryService(pool), tolerant)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@pytest.fixture
async def client(pool):
    async with serving(pool) as address, AsyncClient(address) as client:
        yield client


async def traded(
    client, side, entry, exit_price, *, size=1.0, fees=(0.0, 0.0), at_ms=START_MS, held_ms=HOUR_MS, **more
):
    """Log a trade that ended at `at_ms`."""
    opened = await client.log_signal(
        more.get("strategy", "mine"), more.get("symbol", "BTCUSDT"), side, entry, size, fees=fees[0],
        entry_time_ms=at_ms - held_ms,
    )  # fmt: skip
    closed = await client.close_signal(opened.signal.key, exit_price, fees=fees[1], exit_time_ms=at_ms)
    assert closed.closed
    return closed.signal


@pytest.mark.parametrize(
    ("side", "exit_price", "pnl"),
    [
        ("LONG", 110.0, 2 * 10 - 3),
        ("long", 90.0, 2 * -10 - 3),
        ("Short", 90.0, 2 * 10 - 3),
        ("sHORT", 110.0, 2 * -10 - 3),
    ],
)
async def test_pnl_of_both_sides_with_fees(client, side, exit_price, pnl):
    signal = await traded(client, side, 100.0, exit_price, size=2.0, fees=(1.0, 2.0))
    assert signal.pnl == pytest.approx(pnl)
    assert signal.is_winner == (pnl > 0)
    assert signal.status == pb.SIGNAL_STATUS_CLOSED
    assert (signal.exit_price, signal.fees, signal.realised_pnl) == (exit_price, 3.0, pytest.approx(pnl))


async def test_numbers_of_a_strategy_are_those_computed_by_hand(client):
    day = [START_MS + i * DAY_MS + 12 * HOUR_MS for i in range(4)]
    await traded(client, "long", 100, 110, at_ms=day[0], held_ms=HOUR_MS)  # +10
    await traded(client, "short", 100, 104, at_ms=day[0] + HOUR_MS, held_ms=HOUR_MS)  # -4
    await traded(client, "long", 100, 97, at_ms=day[0] + 2 * HOUR_MS, held_ms=2 * HOUR_MS, symbol="ETHUSDT")  # -3
    await traded(client, "long", 50, 55, size=2, fees=(1, 1), at_ms=day[1], held_ms=4 * HOUR_MS)  # +8
    await traded(client, "short", 200, 212, at_ms=day[3], held_ms=2 * HOUR_MS)  # -12
    await client.log_signal("mine", "BTCUSDT", "long", 100.0, entry_time_ms=day[3])  # open
    await traded(client, "long", 100, 999, strategy="another", at_ms=day[0])
    found = await client.get_strategy("mine")
    assert (found.signals, found.closed, found.open_positions, found.wins, found.losses) == (6, 5, 1, 2, 3)
    assert (found.total_pnl, found.gross_profit, found.gross_loss, found.fees) == (-1.0, 18.0, 19.0, 2.0)
    assert found.win_rate == pytest.approx(2 / 5)
    assert found.profit_factor == pytest.approx(18 / 19)
    assert found.expectancy == pytest.approx(-1 / 5)
    returns = [10 / 100, -4 / 100, -3 / 100, 8 / 100, -12 / 200]
    mean = sum(returns) / 5
    assert found.mean_return == pytest.approx(mean)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in returns) / 4)
    assert found.trade_sharpe == pytest.approx(mean / deviation)
    daily = [3.0, 8.0, 0.0, -12.0]  # the third day is without a close
    mean = sum(daily) / 4
    deviation = math.sqrt(sum((p - mean) ** 2 for p in daily) / 3)
    assert found.sharpe == pytest.approx(mean / deviation * math.sqrt(365))
    # 10, 6, 3, 11, -1: from 11 to -1
    assert found.max_drawdown == pytest.approx(12)
    assert found.mean_holding_s == pytest.approx((1 + 1 + 2 + 4 + 2) / 5 * 3600)
    weekly = await client.get_strategy("mine", periods_per_year=52)
    assert weekly.sharpe == pytest.approx(found.sharpe * math.sqrt(52 / 365))
    assert weekly.periods_per_year == 52

    first = await client.get_strategy("mine", to_ms=day[0])
    assert (first.closed, first.total_pnl, first.max_drawdown) == (3, 3.0, 7.0)  # within the day: 10 to 3
    assert not first.HasField("sharpe")  # of one day there is none
    assert first.open_positions == 1
    of_btc = await client.get_strategy("mine", symbol="BTCUSDT", to_ms=day[1])
    assert (of_btc.closed, of_btc.total_pnl, of_btc.max_drawdown) == (3, 14.0, 4.0)
    nothing = await client.get_strategy("mine", from_ms=day[3] + DAY_MS)
    assert (nothing.closed, nothing.total_pnl, nothing.HasField("win_rate")) == (0, 0.0, False)
    with pytest.raises(ServerError) as unknown:
        await client.get_strategy("nobody")
    assert (unknown.value.code, unknown.value.server_reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")

    winner = await client.get_strategy("another")
    assert not winner.HasField("profit_factor")  # without a loss
    listed = await client.list_strategies()
    assert [one.strategy for one in listed.strategies] == ["another", "mine"]
    assert listed.strategies[1] == found


async def test_a_loss_at_the_very_beginning_is_a_drawdown(client):
    await traded(client, "long", 100, 95, at_ms=START_MS + HOUR_MS)
    assert (await client.get_strategy("mine")).max_drawdown == 5.0


async def test_a_close_that_is_told_late_counts_where_it_belongs(client):
    at = START_MS + 12 * HOUR_MS
    await traded(client, "long", 100, 110, at_ms=at)
    await traded(client, "long", 100, 105, at_ms=at + 2 * HOUR_MS)
    assert (await client.get_strategy("mine")).max_drawdown == 0.0
    await traded(client, "long", 100, 80, at_ms=at + HOUR_MS)  # between the two
    found = await client.get_strategy("mine")
    assert (found.closed, found.max_drawdown) == (3, 20.0)


async def test_partial_closes_add_up_and_are_repeated_without_harm(client):
    key = (await client.log_signal("mine", "BTCUSDT", "short", 100.0, 4.0, 0.7, "k1", fees=1.0)).signal.key
    assert key == "k1"
    first = await client.close_signal("k1", 90.0, size=1.0, fees=0.5, close_key="a")
    assert first.closed
    assert (first.signal.status, first.signal.closed_size) == (pb.SIGNAL_STATUS_OPEN, 1.0)
    assert first.signal.realised_pnl == pytest.approx(10 - 1.5)
    assert not first.signal.HasField("pnl")
    again = await client.close_signal("k1", 90.0, size=1.0, fees=0.5, close_key="a")
    assert not again.closed
    assert again.signal == first.signal
    with pytest.raises(ServerError, match="more than the 3 that are open"):
        await client.close_signal("k1", 90.0, size=3.5)
    found = await client.get_strategy("mine")
    assert (found.closed, found.open_positions, found.total_pnl) == (0, 1, 0.0)
    last = (await client.close_signal("k1", 110.0, fees=0.5)).signal
    assert last.exit_price == pytest.approx((90 + 3 * 110) / 4)
    assert last.pnl == pytest.approx(10 - 3 * 10 - 2.0)
    assert last.is_winner is False
    assert not (await client.close_signal("k1", 70.0)).closed
    assert (await client.get_strategy("mine")).total_pnl == pytest.approx(-22.0)


async def test_the_same_key_again_changes_nothing(client):
    forecast = pb.PredictionKey()
    first = await client.log_signal("mine", "BTCUSDT", "long", 100.0, 1.0, 0.7, "same", metadata={"why": "trend"})
    again = await client.log_signal("mine", "BTCUSDT", "short", 200.0, 9.0, 0.1, "same")
    assert (first.created, again.created) == (True, False)
    assert again.signal == first.signal
    assert dict(first.signal.metadata) == {"why": "trend"}
    assert not first.signal.HasField("prediction"), forecast
    assert (await client.get_strategy("mine")).signals == 1


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("side", {"side": "up"}),
        ("entry_price", {"entry_price": 0.0}),
        ("entry_price", {"entry_price": math.nan}),
        ("size", {"size": -1.0}),
        ("fees", {"fees": -0.1}),
        ("strategy", {"strategy": ""}),
        ("strategy", {"strategy": "candlecast"}),
        ("symbol", {"symbol": "btc usdt"}),
        ("confidence", {"confidence": 1.5}),
        ("entry_time_ms", {"entry_time_ms": 99_999_999_999_999}),
        ("key", {"key": "k" * 129}),
        ("metadata", {"metadata": {"a": "x" * 10_000}}),
    ],
)
async def test_a_malformed_signal_is_refused_and_its_field_named(client, field, changed):
    good = {"strategy": "mine", "symbol": "BTCUSDT", "side": "long", "entry_price": 100.0}
    with pytest.raises(ServerError, match=f"{field}: ") as refused:
        await client.log_signal(**{**good, **changed})
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_closes_that_cannot_be_are_refused(client):
    with pytest.raises(ServerError, match="no signal has the key"):
        await client.close_signal("nobody", 100.0)
    await client.log_signal("mine", "BTCUSDT", "long", 100.0, key="k")
    for match, values in (
        ("exit_price", {"exit_price": -1.0}),
        ("before the entry", {"exit_price": 1.0, "exit_time_ms": START_MS}),
    ):
        with pytest.raises(ServerError, match=match):
            await client.close_signal("k", **values)
    with pytest.raises(ServerError, match="close_key"):
        await client.ask("CloseSignal", pb.CloseSignalRequest(key="k", exit_price=1, size=0.5), pb.CloseSignalResponse)


async def test_positions_are_there_after_a_restart_and_come_in_pages(pool):
    async with serving(pool) as address, AsyncClient(address) as client:
        for i in range(5):
            await client.log_signal("mine", f"S{i}USDT", "long", 100.0, key=f"k{i}", entry_time_ms=START_MS + i)
        await client.log_signal("other", "S9USDT", "short", 100.0, key="other", entry_time_ms=START_MS + 9)
        await client.close_signal("k2", 101.0)
    async with serving(pool) as address, AsyncClient(address) as client:
        assert [s.key async for s in client.list_signals("mine", open_only=True)] == ["k4", "k3", "k1", "k0"]
        assert [s.key async for s in client.list_signals()] == ["other", "k4", "k3", "k2", "k1", "k0"]
        assert [s.key async for s in client.list_signals("mine", symbol="S2USDT")] == ["k2"]
        request, seen = pb.ListSignalsRequest(page_size=2), []
        while True:
            page = await client.ask("ListSignals", request, pb.ListSignalsResponse)
            seen += [signal.key for signal in page.signals]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == ["other", "k4", "k3", "k2", "k1", "k0"]
        with pytest.raises(ServerError, match="page_token"):
            await client.ask("ListSignals", pb.ListSignalsRequest(page_token="nonsense"), pb.ListSignalsResponse)


async def test_trainings_of_any_strategy_are_logged_once(client):
    for expected in (True, False):
        answer = await client.log_training("rl_ml", "finished", "t1", accuracy=0.41, duration_s=12.5, data_points=900)
        assert answer.created is expected
    await client.log_training("rl_ml", "failed", "t0", error="no data", trained_at_ms=START_MS)
    (training,) = (await client.list_strategies()).trainings
    assert (training.strategy, training.status, training.accuracy, training.data_points) == (
        "rl_ml",
        "finished",
        0.41,
        900,
    )
    with pytest.raises(ServerError, match="accuracy"):
        await client.log_training("rl_ml", "finished", accuracy=math.inf)


async def test_accuracy_and_stored_forecasts_are_told_with_their_outcomes(pool, client):
    candles = walk(120, seed=23)
    given = told(candles, seed=25)
    await write(pool, candles, given)
    await settle(pool)
    rows = await client.get_accuracy(model="patchtst")
    assert [row.horizon_bars for row in rows] == [1, 4, 16, 48]
    views = await pool.fetch("SELECT * FROM ml_accuracy ORDER BY horizon_bars")
    for row, view in zip(rows, views, strict=True):
        assert row.forecasts == view["forecasts"] == 120 - row.horizon_bars
        for name in ("hit_rate", "base_rate", "log_loss", "base_log_loss", "skill", "brier", "base_brier", "mae"):
            assert getattr(row, name) == pytest.approx(view[name]), name
        assert sum(part.forecasts for part in row.calibration) == row.forecasts
    by_day = await client.get_accuracy(horizon_bars=1, by_day=True, by_symbol=True)
    assert len(by_day) == 3
    assert sum(row.forecasts for row in by_day) == 119
    assert {row.symbol for row in by_day} == {"BTCUSDT"}
    assert await client.get_accuracy(model="nobody") == []
    with pytest.raises(ServerError, match="horizon_bars"):
        await client.get_accuracy(horizon_bars=2)

    page = await client.list_predictions("BTCUSDT", page_size=100)
    rest = await client.list_predictions("BTCUSDT", page_size=100, page_token=page.next_page_token)
    stored = [*page.predictions, *rest.predictions]
    assert rest.next_page_token == ""
    assert [p.forecast.close_time_ms for p in stored] == sorted(given.close_time_ms.tolist(), reverse=True)
    oldest = stored[-1]
    assert oldest.outcomes[3].actual_return == pytest.approx(candles.values[48, 3] / candles.values[0, 3] - 1, rel=1e-6)
    assert not stored[0].outcomes[0].HasField("actual_return")
    assert oldest.forecast.horizons[2].p_short == pytest.approx(given.meaning.probabilities[0, 2, 1])
    assert oldest.forecast.model.name == "patchtst"
    assert list(oldest.outputs) == pytest.approx(given.outputs[0].tolist())
    assert oldest.features.count == 86
    assert {p.exit_reason for p in stored} & {"STOP", "TAKE", "TIME"}


async def test_a_strategy_goes_on_while_the_server_is_away_and_loses_nothing(pool, tmp_path):
    port, path = free_port(), tmp_path / "signals.queue"

    def trade(count):
        with SignalLog(path, f"127.0.0.1:{port}", leave_s=0, timeout_s=1) as log:
            started = time.perf_counter()
            for i in range(count):
                key = log.log_signal("offline", "BTCUSDT", "long", 100.0 + i, key=f"k{i}")
                log.close_signal(key, 101.0 + i)
            log.close_signal("nobody", 1.0)  # the server will never take it
            log.log_training("offline", "finished", "t")
            return (time.perf_counter() - started) / (2 * count)

    taken_s = await asyncio.to_thread(trade, 100)
    assert taken_s < 0.005
    with path.open("ab") as torn:  # as a crash in the middle of a write leaves it
        torn.write(b'["log_signal",{"key":"to')
    async with serving(pool, port):
        with SignalLog(path, f"127.0.0.1:{port}") as log:
            assert log.waiting_bytes > 0
            assert await asyncio.to_thread(log.flush, 30)
            async with AsyncClient(f"127.0.0.1:{port}") as client:
                found = await client.get_strategy("offline")
                trainings = (await client.list_strategies()).trainings
            assert log.set_aside == 1
    assert (found.closed, found.wins, found.total_pnl) == (100, 100, pytest.approx(100.0))
    assert [training.strategy for training in trainings] == ["offline"]
    (aside,) = [json.loads(line) for line in path.with_name("signals.queue.refused").read_text().splitlines()]
    assert "no signal has the key" in aside["why"]
    assert path.stat().st_size in (0, *range(1, 200_000))


async def test_a_full_queue_refuses_what_is_new_and_keeps_what_it_has(pool, tmp_path, caplog):
    port, path = free_port(), tmp_path / "signals.queue"
    with SignalLog(path, f"127.0.0.1:{port}", bytes_max=2_000, leave_s=0, timeout_s=1) as log:
        keys = [log.log_signal("full", "BTCUSDT", "long", 100.0, key=f"k{i}") for i in range(50)]
        kept = [key for key in keys if key is not None]
        assert 5 < len(kept) < 20
        assert kept == [f"k{i}" for i in range(len(kept))]
        assert log.refused == 50 - len(kept)
        assert log.close_signal(None, 1.0) is False
        with pytest.raises(OSError):
            SignalLog(path)
    assert "is full" in caplog.text
    async with serving(pool, port):
        with SignalLog(path, f"127.0.0.1:{port}", bytes_max=2_000) as log:
            assert await asyncio.to_thread(log.flush, 30)
            assert log.log_signal("full", "BTCUSDT", "long", 100.0, key="later") == "later"  # there is room again
            assert await asyncio.to_thread(log.flush, 30)
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            assert (await client.get_strategy("full")).signals == len(kept) + 1


async def test_a_database_that_is_away_is_unavailable_and_not_an_error(dsn):
    async with open_pool(dsn) as pool, serving(pool) as address, AsyncClient(address, timeout_s=2) as client:
        await pool.fetch("ALTER TABLE ml_strategy_signals RENAME TO gone")
        with pytest.raises(ServerError) as away:
            await client.log_signal("mine", "BTCUSDT", "long", 100.0)
        assert away.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
