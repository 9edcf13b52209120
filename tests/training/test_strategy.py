"""Strategies over bars: by hand, as live, and with scores of their own time."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast import cli
from candlecast.strategies import ensemble_ml
from candlecast.strategies.trader import Trader
from candlecast.training.replay import Said
from candlecast.training.simulator import FLAT, Bars, Rules, Signals, simulate
from candlecast.training.strategy import Traded, as_of
from candlecast.v1.types_pb2 import DIRECTION_LONG, DIRECTION_NEUTRAL, DIRECTION_SHORT, Forecast, Horizon

INTERVAL_MS = 900_000
START_MS = 1_704_067_200_000
COSTS = Rules(fees=0.001, slippage=0.002)


def market(count=400, seed=3):
    """Return bars of two symbols that open where they closed, as a market that never sleeps, and forecasts of them."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, (count, 2)), axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    times = START_MS + INTERVAL_MS * np.arange(count, dtype=np.int64)
    high, low = np.maximum(opened, close) * 1.003, np.minimum(opened, close) * 0.997
    bars = Bars(("AAAUSDT", "BBBUSDT"), INTERVAL_MS, times, opened, high, low, close)
    shape = close.shape
    said = Said(
        is_forecast=rng.random(shape) < 0.9,
        direction=rng.choice([0, 0, 0, 1, -1], shape).astype(np.int8),
        strength=rng.integers(0, 3, shape).astype(np.int8),
        reasons=np.zeros(shape, np.uint32),
        confidence=rng.random(shape).astype(np.float32),
        stop_loss=rng.uniform(0.005, 0.025, shape),
        take_profit=rng.uniform(0.01, 0.05, shape),
        edge=rng.uniform(-1, 1, shape).astype(np.float32),
        agreement=rng.choice([0.5, 0.85, 1.0], shape).astype(np.float32),
        expected=rng.normal(0, 0.01, shape).astype(np.float32),
    )
    return bars, said


class Log:
    """Takes trades down as the simulator does: (symbol, side, entry bar, exit bar, entry, exit)."""

    def __init__(self):
        self.open, self.trades = {}, []

    def log_signal(self, strategy, symbol, side, price, size, confidence, key, **more):
        self.open[key] = (symbol, 1 if side == "long" else -1, more["entry_time_ms"], price)
        return key

    def close_signal(self, key, price, *, fees, exit_time_ms):
        symbol, side, entry_ms, entry = self.open.pop(key)
        self.trades.append((symbol, side, entry_ms, exit_time_ms, entry, price))
        return True


def test_what_is_backtested_is_what_is_traded_live():
    bars, said = market()
    outcome = Traded(bars, said, COSTS).whole(ensemble_ml.decide)
    log = Log()
    trader = Trader("mine", ensemble_ml.decide, log, fees=COSTS.fees, slippage=COSTS.slippage)
    sides = {1: DIRECTION_LONG, -1: DIRECTION_SHORT, 0: DIRECTION_NEUTRAL}
    for t, s in np.argwhere(said.is_forecast).tolist():
        trader.act(
            Forecast(
                symbol=bars.symbols[s], interval_ms=INTERVAL_MS, close=bars.close[t, s],
                close_time_ms=START_MS + (t + 1) * INTERVAL_MS, direction=sides[int(said.direction[t, s])],
                agreement=said.agreement[t, s], size_multiplier=1.5 if said.strength[t, s] == 2 else 1.0,
                stop_loss=said.stop_loss[t, s], take_profit=said.take_profit[t, s],
                horizons=[Horizon(expected_return=said.expected[t, s])] * 4,
            )
        )  # fmt: skip
    trades = outcome.trades
    backtested = sorted(
        (bars.symbols[s], side, START_MS + entry_bar * INTERVAL_MS, START_MS + exit_bar * INTERVAL_MS, entry, left)
        for s, side, entry_bar, exit_bar, entry, left, why in zip(
            *(getattr(trades, name).tolist() for name in ("symbol", "side", "entry_bar", "exit_bar", "entry", "exit")),
            trades.why.tolist(), strict=True,
        )
        if why == 2  # all but those that the end of the data closed
    )  # fmt: skip
    live = sorted(one for one in log.trades if one[3] < START_MS + 400 * INTERVAL_MS)  # there is no bar after the last
    assert len(live) > 20
    assert [one[:4] for one in live] == [one[:4] for one in backtested]
    np.testing.assert_allclose([one[4:] for one in live], [one[4:] for one in backtested], rtol=1e-12)


def test_flat_closes_at_the_next_open_and_opens_nothing():
    prices = np.array([[100.0], [100.0], [103.0], [103.0]])
    bars = Bars(("A",), INTERVAL_MS, START_MS + INTERVAL_MS * np.arange(4, dtype=np.int64), *[prices] * 4)
    direction = np.array([[1], [FLAT], [FLAT], [0]], dtype=np.int8)
    never = np.full((4, 1), np.inf)
    outcome = simulate(bars, Signals(direction, np.ones((4, 1)), never, never), Rules(fees=0, slippage=0))
    assert (outcome.trades.entry_bar.tolist(), outcome.trades.exit_bar.tolist()) == ([1], [2])
    assert outcome.equity[-1] == pytest.approx(1.03)


def test_a_score_counts_from_the_close_that_follows_its_publication():
    bars, _ = market(6)
    closes = bars.open_time_ms + INTERVAL_MS
    ts_ms = np.array([closes[3], closes[1] + 1, closes[1]], dtype=np.int64)
    score, age_ms = as_of(bars, ["AAAUSDT"] * 3, ts_ms, np.array([0.3, 0.2, 0.1]))
    np.testing.assert_array_equal(score[:, 0], [np.nan, 0.1, 0.2, 0.3, 0.3, 0.3])
    np.testing.assert_array_equal(age_ms[1:5, 0], [0, INTERVAL_MS - 1, 0, INTERVAL_MS])
    assert np.isnan(score[:, 1]).all()


def test_the_command_wants_scores_for_sentiment_alone(tmp_path, capsys):
    for arguments in (["--strategy", "sentiment_ml"], ["--strategy", "lstm_ml", "--sentiment", "x.csv"]):
        assert cli.main(["backtest", "--data", str(tmp_path / "none-15m.parquet"), *arguments]) == 78
        assert "sentiment" in capsys.readouterr().err
