"""What the filters remember is after a restart what it was before, and without asking what a strategy's table says."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast import features as feature_state
from candlecast.features import Features
from candlecast.filters import BIT, Reason, Thresholds
from candlecast.portfolio import Candidates, Limits, Portfolio
from candlecast.server.positions import restore_portfolio
from candlecast.signals import Signals
from candlecast.values import Candles, symbols
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.integration.conftest import MODEL, forecasts
from tests.market_simulator import candles as market
from tests.recorders import Store

COLUMNS = ("side", "quality", "signal_ms", "until_ms", "entry", "mark", "stop_loss", "take_profit")
NAMES = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
BAR_MS = 900_000
BARS = 40
START = 1_700_000_100_000 // BAR_MS * BAR_MS
LIMITS = Limits(max_signals_per_minute=2, max_correlation=0.99, max_position_score=1e9)


@pytest.fixture
async def store(pool, tmp_path):
    async with Store(tmp_path / "journal", pool) as store:
        yield store


def signals():
    return Signals(feature_state.NAMES, feature_state.STATES, Thresholds(), Portfolio(LIMITS))


def bar(names, price, t):
    values = np.full((len(names), 8), np.nan)
    values[:, 0], values[:, 3], values[:, 4] = price[t], price[t + 1], 1.0
    values[:, 1], values[:, 2] = values[:, [0, 3]].max(axis=1) * 1.004, values[:, [0, 3]].min(axis=1) * 0.996
    count = len(names)
    opened = np.full(count, START + t * BAR_MS)
    return Candles(symbols(names), np.full(count, BAR_MS), opened, values, np.zeros(count, dtype=np.bool_))


def of_close(t):
    """Forecasts of all symbols at the close of bar t, none of which the filters made NEUTRAL yet."""
    whole = [forecasts(BARS, symbol=name, start_ms=START, seed=i).take(np.array([t])) for i, name in enumerate(NAMES)]
    return type(whole[0]).joined(whole)


async def test_positions_and_rate_are_after_a_restart_what_they_were(pool, store):
    before, rng = signals(), np.random.default_rng(2)
    price = 100 * np.exp(np.cumsum(rng.normal(0, 0.006, (BARS + 1, len(NAMES))), axis=0))
    for t in range(BARS):
        source, given = bar(NAMES, price, t), of_close(t)
        passes = rng.random(len(NAMES)) < 0.2
        series = before.series.of(source.symbol, source.interval_ms)
        candidates = Candidates(
            series, source.interval_ms, given.close_time_ms, source.values[:, :4],
            given.meaning.side, given.meaning.quality, given.meaning.stop_loss, given.meaning.take_profit, passes,
            given.forming,
        )  # fmt: skip
        bits = before.portfolio.judge(candidates, np.zeros((len(NAMES), 96), dtype=np.float32))
        side = np.where(passes & (bits == 0), given.meaning.side, 0).astype(np.int8)
        reasons = bits | np.where(passes, 0, BIT[Reason.LOW_CONFIDENCE]).astype(np.uint32)
        said = replace(given, direction=side, reasons=reasons, close=source.values[:, 3])
        await store.record(source, said)
        # A shadow sees signals everywhere: they are nobody's.
        alone = {"direction": np.ones(len(NAMES), dtype=np.int8), "reasons": np.zeros(len(NAMES), dtype=np.uint32)}
        await store.record(None, replace(said, **alone, model=replace(MODEL, version=2), shadow=True))
    await store.caught_up()
    after = signals()
    last = START + BARS * BAR_MS
    closes = [(name, BAR_MS, last) for name in NAMES]
    await restore_portfolio(after, Features(symbols_max=9, conflicts_max=3), pool, bars_max=16, closes=closes)
    held, again = before.portfolio.core.open, after.portfolio.core.open
    names = {int(before.series.of(symbols([name]), np.array([BAR_MS]))[0]): name for name in NAMES}
    assert 0 < len(held.series) < len(NAMES) + 1
    theirs = {int(after.series.of(symbols([name]), np.array([BAR_MS]))[0]): name for name in NAMES}
    of_before = {names[s]: i for i, s in enumerate(held.series.tolist())}
    of_after = {theirs[s]: i for i, s in enumerate(again.series.tolist())}
    assert of_before.keys() == of_after.keys()
    for field in COLUMNS:
        for name, i in of_before.items():
            expected = pytest.approx(getattr(again, field)[of_after[name]], nan_ok=True)
            assert getattr(held, field)[i] == expected, field
    recent = [ms for ms in before.portfolio.core.signals_ms if ms > START + (BARS - 14) * BAR_MS]
    assert [ms for ms in after.portfolio.core.signals_ms if ms > START + (BARS - 14) * BAR_MS] == recent
    for ours, theirs_too in ((before, after),):  # the newest close again: the same verdict, and nothing opens
        column, intervals = symbols(NAMES), np.full(len(NAMES), BAR_MS)
        verdicts = [
            one.portfolio.judge(
                replace(candidates, series=one.series.of(column, intervals)),
                np.zeros((len(NAMES), 96), dtype=np.float32),
            ).tolist()
            for one in (ours, theirs_too)
        ]
        assert verdicts[0] == verdicts[1] == bits.tolist()
    assert after.portfolio.core.open.series.tolist() == again.series.tolist()
    assert not any(
        after.portfolio.core.trades(series)[0] for series in again.series.tolist()
    )  # those are read from the strategy's table


async def test_closed_trades_of_the_servers_own_strategy_are_remembered(pool, dsn):
    gains = [0.01, -0.02, 0.03]
    for i, gain in enumerate(gains):
        await pool.fetch(
            "INSERT INTO ml_strategy_signals (strategy, symbol, side, key, status, pnl, entry_price, size, entry_time,"
            " exit_time, prediction_interval_ms) VALUES ('candlecast', 'BUSDT', 'LONG', $1, 'CLOSED', $2, 50, 0.02,"
            " to_timestamp($3::bigint), to_timestamp($3::bigint + 900), 900000)",
            f"key {i}",
            gain,
            1_700_000_000 + 900 * i,
        )
    restored = signals()
    await restore_portfolio(restored, Features(symbols_max=9, conflicts_max=3), pool, bars_max=16, closes=[])
    series = restored.series.of(symbols(["BUSDT"]), np.array([BAR_MS]))
    trades, _, sharpe = restored.portfolio.core.trades(int(series[0]))
    assert trades == 3
    years = 3 * BAR_MS / (365 * 86_400_000)
    expected = np.mean(gains) / np.std(gains, ddof=1) * np.sqrt(3 / years)
    assert sharpe == pytest.approx(expected)


async def test_correlations_with_open_positions_are_known_before_their_next_candle(pool, store):
    features, recorder = Features(symbols_max=9, conflicts_max=3), FakeRecorder()
    names = ["AUSDT", "BUSDT"]
    histories = [market(name, features.need + 1) for name in names]
    limits = Limits(max_correlation=1.0)
    async with fakes.forecaster(features, FakeModel(), recorder, limits=limits) as forecaster:
        for history in histories:
            await forecaster.accept(history.take(np.arange(features.need)), forecast=False)
            answer = await forecaster.accept(history.take(np.array([features.need])))
    given = [forecasts(1, symbol=name) for name in names]
    close_ms = answer.forecasts.close_time_ms
    for one in given:
        await store.record(None, replace(one, close_time_ms=close_ms, direction=np.array([1], dtype=np.int8)))
    await store.caught_up()
    restored = signals()
    await restore_portfolio(restored, features, pool, bars_max=16, closes=[])

    def correlation(of):
        a, b = of.series.of(symbols(names), np.full(2, BAR_MS)).tolist()
        return of.portfolio.core.correlation(a, b)

    assert correlation(restored) == correlation(forecaster._signals)
    assert np.isfinite(correlation(restored))
