"""Each filter that remembers alone, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast.filters import reasons_of
from candlecast.portfolio import Candidates, Limits, Others, Portfolio

BAR = 900_000
START = 1_700_000_100_000
FREE = Limits(max_signals_per_minute=1_000, max_correlation=1.0, min_sharpe_ratio=-np.inf, max_position_score=1e9)
RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.3, (40, 400)).astype(np.float32)  # one-bar returns of series 0 to 39, by bar


class Market:
    """Bars of series whose returns are known, and a portfolio that sees them."""

    def __init__(self, limits, returns=NOISE):
        self.portfolio, self.returns = Portfolio(limits), returns.copy()

    def judge(
        self, bar, series, *, side=1, quality=0.5, passes=True, forming=False, ohlc=(100, 100, 100, 100), interval=BAR
    ):
        """Judge forecasts of one close; returns the reasons of each."""
        count = len(series)
        given = Candidates(
            series=np.array(series),
            interval_ms=np.full(count, interval),
            close_time_ms=np.full(count, START + bar * BAR),
            ohlc=np.broadcast_to(np.array(ohlc, dtype=float), (count, 4)),
            side=np.broadcast_to(np.array(side, dtype=np.int8), count),
            quality=np.broadcast_to(np.array(quality, dtype=float), count),
            stop_loss=np.full(count, 0.02),
            take_profit=np.full(count, 0.04),
            passes=np.broadcast_to(np.array(passes), count),
            forming=np.broadcast_to(np.array(forming), count),
        )
        windows = self.returns[series, bar - 95 : bar + 1]
        return [reasons_of(bits) for bits in self.portfolio.judge(given, windows).tolist()]

    @property
    def held(self):
        held = self.portfolio.core.open
        return dict(zip(held.series.tolist(), held.side.tolist(), strict=True))


def test_signals_of_a_minute_are_limited_and_the_best_of_a_close_go_first():
    market = Market(replace(FREE, max_signals_per_minute=3))
    quality = [0.1, 0.9, 0.5, 0.7, 0.3]
    assert market.judge(100, [0, 1, 2, 3, 4], quality=quality) == [
        ("RATE_LIMITED",), (), (), (), ("RATE_LIMITED",)
    ]  # fmt: skip
    assert market.judge(100, [5]) == [("RATE_LIMITED",)]  # another message of the same close
    assert market.judge(101, [5]) == [()]
    assert set(market.held) == {1, 2, 3, 5}


def test_what_is_held_back_anyway_takes_no_place_among_the_signals_of_a_minute():
    market = Market(replace(FREE, max_signals_per_minute=1))
    assert market.judge(100, [0, 1, 2], quality=[0.9, 0.8, 0.7], passes=[False, True, True], side=[1, 1, 0]) == [
        (), (), ()
    ]  # fmt: skip
    assert set(market.held) == {1}


def correlated(limit):
    """Series 1 goes with series 0 by about 0.9, series 2 against it, series 3 by chance."""
    returns = NOISE.copy()
    returns[1] = returns[0] + 0.45 * NOISE[20]
    returns[2] = -returns[0]
    return Market(replace(FREE, max_correlation=limit), returns), returns


def test_no_signal_goes_with_an_open_position_of_its_side_that_moves_alike():
    for limit, expected in ((0.8, [("CORRELATED_POSITION",), (), ()]), (0.999, [(), (), ()])):
        market, returns = correlated(limit)
        actual = np.corrcoef(returns[:4, 101 - 95 : 102])[0, 1]
        assert 0.8 < actual < 0.999
        assert market.judge(100, [0]) == [()]
        assert market.judge(101, [1, 2, 3]) == expected


def test_the_other_side_and_a_position_that_moves_against_it_are_no_hindrance():
    market, _ = correlated(0.8)
    assert market.judge(100, [0]) == [()]
    assert market.judge(101, [1, 2], side=[-1, 1]) == [(), ()]


def test_the_limit_of_correlation_is_numpys_correlation_of_96_bars_whatever_way_they_came():
    returns = RNG.normal(0.05, 0.3, (6, 400)).astype(np.float32)
    returns[1:] += returns[0]
    market = Market(FREE, returns)
    for bar in (100, 101, 102, 110, 111):  # with a gap, which the windows fill
        market.judge(bar, list(range(5)), passes=False)
    market.judge(112, [0, 1, 2], passes=False)  # two are a bar behind
    for i in range(3):
        for other in (1, 3, 4):
            if other == i:
                continue
            end = 112 if other == 1 else 111
            expected = np.corrcoef(returns[i, end - 95 : end + 1], returns[other, end - 95 : end + 1])[0, 1]
            assert market.portfolio.core.correlation(i, other) == pytest.approx(expected, abs=1e-5)


def test_a_series_is_not_compared_with_those_of_another_interval_and_always_with_itself():
    market = Market(replace(FREE, max_correlation=0.5))
    market.returns[30] = 0  # stands still: no correlation is defined
    assert market.judge(100, [0, 30]) == [(), ()]
    assert market.judge(101, [0, 30]) == [("CORRELATED_POSITION",)] * 2
    market.judge(100, [5], interval=BAR // 3)
    assert np.isnan(market.portfolio.core.correlation(5, 0))


def test_qualities_of_open_positions_of_a_side_are_capped_and_each_signal_counts_for_the_next():
    market = Market(replace(FREE, max_position_score=1.5))
    assert market.judge(100, [0, 1, 2], quality=[0.8, 0.6, 0.05]) == [(), (), ()]
    assert market.judge(101, [3, 4], quality=[0.1, 0.9], side=[1, -1]) == [("POSITION_LIMIT",), ()]
    assert market.judge(102, [5], quality=0.05) == [()]  # 1.45 + 0.05


def closed_trades(market, series, returns):
    for i, gain in enumerate(returns):
        market.portfolio.core.count(series, 1, gain, gain**2, START + i * BAR, START + (i + 1) * BAR)


@pytest.mark.parametrize(("trades", "mean", "reasons"), [(30, -1e-3, ("LOW_SHARPE",)), (29, -1e-3, ()), (30, 1e-3, ())])
def test_a_symbol_whose_closed_trades_lost_gives_no_signals_from_30_trades_on(trades, mean, reasons):
    market = Market(replace(FREE, min_sharpe_ratio=0.5))
    gains = mean + 0.0005 * (-1.0) ** np.arange(trades)
    closed_trades(market, 7, gains)
    assert market.judge(100, [7, 8]) == [reasons, ()]
    years = trades * BAR / (365 * 86_400_000)
    expected = gains.mean() / gains.std(ddof=1) * np.sqrt(trades / years)
    assert market.portfolio.core.trades(7)[2] == pytest.approx(expected)


def test_every_reason_is_listed_together():
    market = Market(Limits(max_position_score=0.6, max_signals_per_minute=1))
    closed_trades(market, 0, -0.001 + 0.0005 * (-1.0) ** np.arange(30))
    market.judge(100, [1], quality=0.5)
    market.returns[0] = market.returns[1]
    assert market.judge(101, [0], quality=0.5) == [("CORRELATED_POSITION", "LOW_SHARPE", "POSITION_LIMIT")]
    assert market.judge(101, [2, 3], quality=0.04) == [(), ("RATE_LIMITED",)]


def test_a_forecast_is_judged_once_and_its_repetition_is_not_another_signal():
    market = Market(replace(FREE, max_signals_per_minute=1))
    assert market.judge(100, [0, 0]) == [(), ()]
    assert market.judge(100, [0]) == [()]
    assert market.judge(100, [1]) == [("RATE_LIMITED",)]
    assert market.judge(101, [1]) == [()]
    assert market.judge(101, [1]) == [()]


def test_one_that_was_held_back_anyway_and_passes_now_is_judged_like_a_new_one():
    market = Market(replace(FREE, max_signals_per_minute=1))
    assert market.judge(100, [0, 1], passes=[False, True]) == [(), ()]
    assert market.judge(100, [0]) == [("RATE_LIMITED",)]  # said by another version of the model
    assert market.judge(100, [0]) == [("RATE_LIMITED",)]
    assert market.held == {1: 1}


def test_a_forming_candle_is_judged_and_opens_nothing():
    market = Market(FREE)
    assert market.judge(100, [0], forming=True) == [()]
    assert market.held == {}
    assert market.judge(100, [0]) == [()]
    assert market.held == {0: 1}


def test_a_signal_of_the_other_side_turns_the_position():
    market = Market(FREE)
    market.judge(100, [0])
    market.judge(101, [0], side=-1, ohlc=(100, 101, 99, 100.5))
    assert market.held == {0: -1}
    gain = 0.5 / 100 - FREE.trade_cost
    assert market.portfolio.core.trades(0)[1] == pytest.approx(gain)


def test_a_signal_of_its_own_side_leaves_a_position_as_it_is():
    market = Market(FREE)  # whose limit of correlation lets it through
    market.judge(100, [0], quality=0.4)
    assert market.judge(101, [0], quality=0.9) == [()]
    held = market.portfolio.core.open
    assert (held.quality.tolist(), held.signal_ms.tolist()) == ([0.4], [START + 100 * BAR])


@pytest.mark.parametrize(
    ("bars", "exit_price"),
    [
        ([(100, 101, 98, 99)], 98.0),  # the stop, in the bar of the entry
        ([(100, 104, 97, 100)], 98.0),  # both were touched: the worse
        ([(100, 104.5, 99, 100)], 104.0),  # the take, at its price
        ([(100, 101, 99, 100), (97, 98, 96, 97)], 97.0),  # opened past the stop
        ([(100, 101, 99, 100), (105, 106, 104, 105)], 104.0),  # opened past the take
        ([(100, 101, 99, 100)] * 15 + [(100, 101, 99, 100.5)], 100.5),  # had its 16 bars
    ],
)
def test_a_long_position_leaves_as_in_the_backtest(bars, exit_price):
    market = Market(FREE)
    market.judge(100, [0])
    for i, bar in enumerate(bars):
        assert market.held == {0: 1}
        market.judge(101 + i, [0], passes=False, ohlc=bar)
    assert market.held == {}
    trades, total, _ = market.portfolio.core.trades(0)
    assert (trades, total) == (1, pytest.approx(exit_price / 100 - 1 - FREE.trade_cost))


def test_a_short_position_leaves_at_the_mirrored_prices():
    for bar, exit_price in (((100, 102, 99, 100), 102.0), ((100, 101, 96, 100), 96.0)):
        market = Market(FREE)
        market.judge(100, [0], side=-1)
        market.judge(101, [0], passes=False, ohlc=bar)
        assert market.portfolio.core.trades(0)[1] == pytest.approx(1 - exit_price / 100 - FREE.trade_cost)


def test_a_position_whose_candles_stay_away_ends_with_its_time():
    market = Market(FREE)
    market.judge(100, [0])
    market.judge(101, [0], passes=False, ohlc=(100, 101, 99, 100.3))
    market.judge(116, [1], passes=False)
    assert market.held == {0: 1}  # its candle may come in another message
    market.judge(117, [1], passes=False)
    assert market.held == {}
    assert market.portfolio.core.trades(0)[1] == pytest.approx(0.003 - FREE.trade_cost)


def test_a_position_whose_candle_comes_in_a_later_message_of_the_close_ends_at_its_price():
    market = Market(FREE)
    market.judge(100, [0])
    market.judge(101, [0], passes=False, ohlc=(100, 101, 99, 100.3))
    market.judge(116, [1], passes=False)
    market.portfolio.follow(Others(np.array([2]), np.array([START + 116 * BAR]), np.full((1, 4), 100.0)))
    market.judge(116, [0], passes=False, ohlc=(100, 101, 99, 100.8))
    assert market.held == {}
    assert market.portfolio.core.trades(0)[1] == pytest.approx(0.008 - FREE.trade_cost)


def test_candles_without_forecasts_move_positions_too():
    market = Market(FREE)
    market.judge(100, [0, 1])
    bars = np.array([[100, 101, 99, 100], [100, 101, 97, 98.0]])
    market.portfolio.follow(Others(np.array([1, 0]), np.full(2, START + 101 * BAR), bars))
    assert market.held == {1: 1}


def test_many_closes_in_one_message_are_judged_like_one_by_one():
    rng = np.random.default_rng(3)
    bars, series = np.meshgrid(np.arange(100, 130), np.arange(8), indexing="ij")
    bars, series = bars.ravel(), series.ravel()
    count = len(bars)
    price = 100 + rng.normal(0, 1, (count, 4))
    given = Candidates(
        series, np.full(count, BAR), START + bars * BAR,
        np.column_stack([price[:, 0], price.max(axis=1), price.min(axis=1), price[:, 1]]),
        rng.integers(-1, 2, count).astype(np.int8), rng.random(count), np.full(count, 0.01), np.full(count, 0.02),
        rng.random(count) < 0.8, rng.random(count) < 0.1,
    )  # fmt: skip
    windows = np.array([NOISE[s, b - 95 : b + 1] for s, b in zip(series, bars, strict=True)])
    limits = Limits(max_signals_per_minute=3, max_correlation=0.1, max_position_score=2.5)
    at_once = Portfolio(limits).judge(given, windows)
    one_by_one, portfolio = np.zeros(count, dtype=np.uint32), Portfolio(limits)
    for bar in range(100, 130):
        at = np.flatnonzero(bars == bar)
        one_by_one[at] = portfolio.judge(given.take(at), windows[at])
    np.testing.assert_array_equal(at_once, one_by_one)
    assert len(set(at_once.tolist())) > 4
