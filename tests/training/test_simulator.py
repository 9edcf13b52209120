"""The simulator against cases computed by hand, its numbers against empyrical."""

from __future__ import annotations

import empyrical
import numpy as np
import pytest

from candlecast.training.performance import drawdown, profit_factor, returns_of, sharpe, sortino, summary
from candlecast.training.simulator import Bars, Exit, Rules, Signals, buy_and_hold, simulate

HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000 + HOUR_MS  # 01:00, an hour after funding
FREE = Rules(fees=0, slippage=0, hold_bars=3)
FLAT = (100.0, 100.0, 100.0, 100.0)
LONG, SHORT = 1, -1


def bars(*rows, symbols=("AAA",)):
    """Return hourly bars; a row is (open, high, low, close), or one of these for each symbol, or None."""
    prices = np.full((len(rows), len(symbols), 4), np.nan)
    for t, row in enumerate(rows):
        for s, prices_of_bar in enumerate([row] if len(symbols) == 1 else row):
            if prices_of_bar is not None:
                prices[t, s] = prices_of_bar
    times = START_MS + HOUR_MS * np.arange(len(rows), dtype=np.int64)
    return Bars(symbols, HOUR_MS, times, *(np.ascontiguousarray(prices[:, :, k]) for k in range(4)))


def signals(of, directions, *, stop=0.02, take=0.04, multiplier=1.0):
    """Return signals at {bar: side}, or {(bar, symbol): side}, all with the same limits."""
    shape = of.open.shape
    direction = np.zeros(shape, dtype=np.int8)
    for at, side in directions.items():
        direction[at if isinstance(at, tuple) else (at, 0)] = side
    return Signals(direction, np.full(shape, multiplier), np.full(shape, stop), np.full(shape, take))


def only(outcome):
    """Return the one trade of an outcome as plain values."""
    trades = outcome.trades
    assert len(trades) == 1
    return {name: getattr(trades, name)[0].item() for name in trades.__slots__} | {"why": Exit(trades.why[0])}


def test_a_long_enters_at_the_next_open_and_leaves_at_the_close_of_its_last_bar():
    of = bars(FLAT, (100, 101, 99, 100.5), (100.5, 102, 100, 101), (101, 102.5, 100.5, 102), FLAT)
    outcome = simulate(of, signals(of, {0: LONG}), FREE)
    trade = only(outcome)
    assert (trade["entry_bar"], trade["exit_bar"], trade["why"]) == (1, 3, Exit.TIME)
    assert (trade["entry"], trade["exit"], trade["size"]) == (100, 102, 0.01)
    assert trade["pnl"] == pytest.approx(0.02)
    np.testing.assert_allclose(outcome.equity, [1, 1.005, 1.01, 1.02, 1.02])


def test_a_short_gains_what_the_price_loses():
    of = bars(FLAT, (100, 101, 99, 99.5), (99.5, 100, 98, 99), (99, 100, 98, 98.5))
    outcome = simulate(of, signals(of, {0: SHORT}), FREE)
    assert only(outcome)["pnl"] == pytest.approx(0.015)
    np.testing.assert_allclose(outcome.equity, [1, 1.005, 1.01, 1.015])


def test_fees_are_paid_on_the_value_of_both_fills_and_slippage_is_against_us():
    of = bars(FLAT, FLAT, FLAT, (100, 102, 100, 102))
    trade = only(simulate(of, signals(of, {0: LONG}), Rules(fees=0.001, slippage=0.002, hold_bars=3)))
    entry, left = 100 * 1.002, 102 * 0.998
    size = 1 / entry
    assert (trade["entry"], trade["exit"]) == pytest.approx((entry, left))
    assert trade["fees"] == pytest.approx(0.001 * size * (entry + left))
    assert trade["pnl"] == pytest.approx((left - entry) * size - trade["fees"])
    trade = only(simulate(of, signals(of, {0: SHORT}, stop=0.1), Rules(fees=0.001, slippage=0.002, hold_bars=3)))
    assert (trade["entry"], trade["exit"]) == pytest.approx((99.8, 102.204))


@pytest.mark.parametrize(
    ("side", "bar", "price", "why"),
    [
        (LONG, (100, 101, 97.9, 99), 98, Exit.STOP),
        (LONG, (100, 104.5, 99, 103), 104, Exit.TAKE),
        (LONG, (100, 104.5, 97.9, 103), 98, Exit.STOP),  # both were touched: the worse is taken to be first
        (LONG, (97, 99, 96, 98.5), 97, Exit.STOP),  # the open is past the stop: no better price was there
        (LONG, (105, 106, 97, 104), 104, Exit.TAKE),  # the open is past the take: never better than asked
        (SHORT, (100, 102.1, 99, 101), 102, Exit.STOP),
        (SHORT, (100, 101, 95.5, 97), 96, Exit.TAKE),
        (SHORT, (100, 102.1, 95.5, 97), 102, Exit.STOP),
        (SHORT, (103, 104, 101, 101.5), 103, Exit.STOP),
        (SHORT, (95, 103, 94, 96), 96, Exit.TAKE),
    ],
)
def test_stop_and_take_within_a_bar(side, bar, price, why):
    of = bars(FLAT, FLAT, bar, FLAT)
    trade = only(simulate(of, signals(of, {0: side}), FREE))
    assert (trade["exit_bar"], trade["exit"], trade["why"]) == (2, pytest.approx(price), why)
    assert trade["pnl"] == pytest.approx(side * (price - 100) / 100)


def test_a_stop_slips_and_a_take_does_not():
    rules = Rules(fees=0, slippage=0.001, hold_bars=3)
    for bar, price in (((100, 101, 90, 99), 100.1 * 0.98 * 0.999), ((100, 110, 99, 103), 100.1 * 1.04)):
        of = bars(FLAT, FLAT, bar)
        assert only(simulate(of, signals(of, {0: LONG}), rules))["exit"] == pytest.approx(price)


def test_the_bar_of_the_entry_can_already_stop_it():
    of = bars(FLAT, (100, 100, 95, 100), FLAT)
    trade = only(simulate(of, signals(of, {0: LONG}), FREE))
    assert (trade["entry_bar"], trade["exit_bar"], trade["exit"]) == (1, 1, 98)


def test_an_opposite_signal_turns_the_position_at_the_next_open_and_a_like_one_changes_nothing():
    of = bars(FLAT, FLAT, FLAT, (101, 101, 101, 101), (101, 101, 101, 101))
    outcome = simulate(of, signals(of, {0: LONG, 1: LONG, 2: SHORT}), Rules(fees=0, slippage=0, hold_bars=10))
    trades = outcome.trades
    assert trades.side.tolist() == [LONG, SHORT]
    assert trades.entry_bar.tolist() == [1, 3]
    assert trades.exit_bar.tolist() == [3, 4]
    assert [Exit(why) for why in trades.why] == [Exit.OPPOSITE, Exit.END]
    np.testing.assert_allclose(trades.pnl, [0.01, 0], atol=1e-15)


def test_a_signal_that_was_ignored_for_an_open_position_does_not_act_when_the_next_open_stops_that():
    of = bars(FLAT, FLAT, FLAT, (97, 97, 97, 97), (97, 97, 97, 97))
    assert only(simulate(of, signals(of, {0: LONG, 2: LONG}), FREE))["exit_bar"] == 3


def test_what_is_open_at_the_end_is_closed_at_the_last_close_and_pays_for_it():
    of = bars(FLAT, FLAT, (100, 102, 100, 101))
    outcome = simulate(of, signals(of, {0: LONG, 2: LONG}), Rules(fees=0.001, slippage=0, hold_bars=9))
    trade = only(outcome)
    assert (trade["exit_bar"], trade["exit"], trade["why"]) == (2, 101, Exit.END)
    assert outcome.equity[-1] == pytest.approx(1 + trade["pnl"]) == pytest.approx(1.01 - 0.001 * 2.01)


def test_a_signal_before_a_missing_bar_lapses_and_a_position_over_one_goes_on():
    of = bars(FLAT, None, FLAT, FLAT)
    assert len(simulate(of, signals(of, {0: LONG}), FREE).trades) == 0
    of = bars(FLAT, FLAT, None, None, (103, 104, 102, 102))  # its third bar is missing: out at the next open
    trade = only(simulate(of, signals(of, {0: LONG}, take=0.2), FREE))
    assert (trade["exit_bar"], trade["exit"], trade["why"]) == (4, 103, Exit.TIME)


@pytest.mark.parametrize("side", [LONG, SHORT])
def test_funding_is_charged_at_8_h_utc_on_the_last_close_to_who_held_before(side):
    rows = [FLAT] * 6 + [(100, 110, 100, 110)] + [(110, 110, 110, 110)] * 3  # bar 6 opens at 07:00, bar 7 at 08:00
    of, rules = bars(*rows), Rules(fees=0, slippage=0, funding=0.001, hold_bars=50)
    trade = only(simulate(of, signals(of, {1: side}, stop=0.5, take=0.5), rules))
    assert trade["funding"] == pytest.approx(side * 0.001 * 0.01 * 110)
    assert trade["pnl"] == pytest.approx(side * 0.1 - trade["funding"])
    late = only(simulate(of, signals(of, {6: side}, stop=0.5, take=0.5), rules))  # enters at 08:00 itself
    assert late["funding"] == 0


def test_stakes_are_shares_of_the_equity_at_the_last_close_times_the_multiplier():
    up, still = (100, 104, 100, 104), FLAT
    of = bars((still, still), (up, still), (FLAT, still), (FLAT, still), symbols=("AAA", "BBB"))
    said = signals(of, {(0, 0): LONG, (1, 1): LONG}, multiplier=1.5)
    outcome = simulate(of, said, Rules(fees=0, slippage=0, hold_bars=1))
    np.testing.assert_allclose(outcome.trades.size, [0.75 / 100, 0.75 * 1.03 / 100])
    np.testing.assert_allclose(outcome.equity, [1, 1.03, 1.03, 1.03])


def test_a_ruin_ends_the_trading():
    of = bars(FLAT, FLAT, (250, 250, 250, 250), FLAT, FLAT, FLAT)
    outcome = simulate(of, signals(of, {0: SHORT, 2: LONG, 3: LONG}), FREE)
    trade = only(outcome)
    assert (trade["exit"], trade["pnl"]) == (250, pytest.approx(-1.5))
    np.testing.assert_allclose(outcome.equity[2:], -0.5)
    np.testing.assert_allclose(returns_of(outcome.equity), [0, 0, -1.5, 0, 0, 0])


def test_symbols_do_not_touch_each_other_but_for_the_stake():
    rng = np.random.default_rng(0)
    symbols = tuple("ABCDEFGH")
    of, said = random_market(rng, symbols, 600)
    together = simulate(of, said, FREE).trades
    for s, symbol in enumerate(symbols):
        alone_of = Bars(
            (symbol,), of.interval_ms, of.open_time_ms, *(x[:, [s]] for x in (of.open, of.high, of.low, of.close))
        )
        alone_said = Signals(*(getattr(said, name)[:, [s]] for name in Signals.__slots__))
        alone, mine = simulate(alone_of, alone_said, FREE).trades, together.take(together.symbol == s)
        for name in ("side", "entry_bar", "exit_bar", "entry", "exit", "why"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(mine, name))


def random_market(rng, symbols, count):
    shape = count, len(symbols)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(shape), axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * (1 + 0.002 * rng.standard_normal(shape))
    high = np.maximum(opened, close) * (1 + 0.005 * rng.random(shape))
    low = np.minimum(opened, close) * (1 - 0.005 * rng.random(shape))
    prices = np.stack([opened, high, low, close])
    prices[:, rng.random(shape) < 0.02] = np.nan
    times = START_MS + HOUR_MS * np.arange(count, dtype=np.int64)
    direction = (rng.choice([-1, 0, 1], shape, p=[0.1, 0.8, 0.1]) * np.isfinite(prices[0])).astype(np.int8)
    stop, take = rng.uniform(0.005, 0.025, shape), rng.uniform(0.01, 0.05, shape)
    return Bars(symbols, HOUR_MS, times, *prices), Signals(direction, rng.choice([1.0, 1.5], shape), stop, take)


def test_the_equity_moves_by_what_the_trades_earn_and_nothing_else():
    of, said = random_market(np.random.default_rng(1), tuple("ABCDE"), 800)
    said.direction[-2] = LONG  # so that something is open at the end
    outcome = simulate(of, said, Rules(fees=0.0004, slippage=0.0002, funding=0.0001, hold_bars=16))
    trades = outcome.trades
    assert len(trades) > 100
    assert set(trades.why.tolist()) == set(Exit)
    assert outcome.equity[-1] == pytest.approx(1 + trades.pnl.sum(), abs=1e-12)
    np.testing.assert_allclose(
        trades.pnl, trades.side * (trades.exit - trades.entry) * trades.size - trades.fees - trades.funding, atol=1e-15
    )
    assert (trades.exit_bar >= trades.entry_bar).all()
    for s in range(5):  # one position at a time: an entry may be in the bar of the last exit, never before
        mine = trades.take(trades.symbol == s)
        assert (mine.entry_bar[1:] >= mine.exit_bar[:-1]).all()


def test_the_future_of_a_bar_changes_nothing_before_it():
    of, said = random_market(np.random.default_rng(2), tuple("ABC"), 400)
    cut = 250
    changed = [np.where(np.arange(400)[:, None] < cut, x, x * 1.1) for x in (of.open, of.high, of.low, of.close)]
    other = Bars(of.symbols, of.interval_ms, of.open_time_ms, *changed)
    first, second = (simulate(market, said, FREE) for market in (of, other))
    np.testing.assert_array_equal(first.equity[:cut], second.equity[:cut])
    assert not np.array_equal(first.equity, second.equity)


def test_buy_and_hold_is_an_equal_share_of_each_symbol_from_its_first_bar_to_its_last():
    of = bars(
        (FLAT, None),
        ((100, 110, 100, 110), (50, 50, 50, 50)),
        ((110, 110, 99, 99), (50, 60, 50, 60)),
        symbols=("A", "B"),
    )
    np.testing.assert_allclose(buy_and_hold(of, FREE), [1, 1.05, 1 - 0.005 + 0.1])
    paid = buy_and_hold(of, Rules(fees=0.001, slippage=0))
    np.testing.assert_allclose(paid, [1 - 0.0005, 1.05 - 0.001, 1.095 - 0.001 - 0.0005 * 0.99 - 0.0005 * 1.2])


def test_ratios_and_drawdown_are_those_of_empyrical():
    returns = np.random.default_rng(3).normal(0.0002, 0.01, 2000)
    returns[500:600] -= 0.01
    assert sharpe(returns, 35_040) == pytest.approx(empyrical.sharpe_ratio(returns, annualization=35_040), rel=1e-10)
    assert sortino(returns, 35_040) == pytest.approx(empyrical.sortino_ratio(returns, annualization=35_040), rel=1e-10)
    assert drawdown(returns).max() == pytest.approx(-empyrical.max_drawdown(returns), rel=1e-10)
    assert drawdown(np.array([-0.1, 0.05])).tolist() == pytest.approx([0.1, 0.055])  # from the start on
    wins, losses = returns[returns > 0].sum(), returns[returns < 0].sum()
    assert profit_factor(returns) == pytest.approx(-wins / losses, rel=1e-12)


def test_numbers_that_do_not_exist_are_none():
    still = np.zeros(10)
    assert (sharpe(still, 1), sortino(still, 1)) == (None, None)
    assert profit_factor(np.array([1.0, 2.0])) is None
    of = bars(FLAT, FLAT)
    nothing = summary(simulate(of, signals(of, {}), FREE), of, {})
    assert (nothing["trades"], nothing["win_rate"], nothing["profit_factor"], nothing["sharpe"]) == (
        0,
        None,
        None,
        None,
    )


def test_the_parts_of_a_summary_add_up_to_the_whole():
    of, said = random_market(np.random.default_rng(4), tuple("ABCD"), 24 * 75)
    outcome = simulate(of, said, Rules(hold_bars=16))
    early = np.arange(len(of.open_time_ms)) < 700
    numbers = summary(outcome, of, {"early": early, "late": ~early})
    assert list(numbers["months"]) == ["2024-01", "2024-02", "2024-03"]
    for parts in ("symbols", "sides", "months", "spans"):
        assert sum(part["trades"] for part in numbers[parts].values()) == numbers["trades"]
        assert sum(part["pnl"] for part in numbers[parts].values()) == pytest.approx(numbers["pnl"])
    for parts in ("months", "spans"):
        assert np.prod([1 + part["return"] for part in numbers[parts].values()]) == pytest.approx(numbers["equity"])
    assert sum(numbers["exits"].values()) == numbers["trades"]
    assert np.prod(1 + returns_of(outcome.equity)) == pytest.approx(outcome.equity[-1])


def test_numbers_of_a_backtest_by_hand():
    up, back, down = (100, 102, 100, 102), (102, 102, 102, 102), (100, 101, 100, 101)
    of = bars(FLAT, FLAT, up, back, back, FLAT, down, (101, 101, 101, 101))
    free = Rules(fees=0, slippage=0, hold_bars=2)
    outcome = simulate(of, signals(of, {0: LONG, 4: SHORT}), free)
    np.testing.assert_allclose(outcome.equity, [1, 1, 1.02, 1.02, 1.02, 1.02, 1.0098, 1.0098])

    numbers = summary(outcome, of, {})

    assert numbers["trades"] == 2
    assert numbers["win_rate"] == 0.5
    assert numbers["expectancy"] == pytest.approx(0.005)  # of +2 % and -1 %, whatever was staked
    assert numbers["profit_factor"] == pytest.approx(0.02 / 0.0102)
    assert numbers["exposure"] == 0.5  # 2 bars each of 8
    assert numbers["holding_h"] == 2
    # (100 + 102) / 100 and 1.02 (100 + 101) / 100 are filled in a third of a day, at a mean equity of 8.0996 / 8
    assert numbers["turnover_per_day"] == pytest.approx((2.02 + 2.0502) / (8.0996 / 8) * 3)
    # returns 0.02 and -0.01 among 8: mean 0.00125, variance (0.0005 - 8 * 0.00125 ** 2) / 7
    assert numbers["t_statistic"] == pytest.approx(0.00125 / (0.0004875 / 7) ** 0.5 * 8**0.5)
    assert numbers["sharpe"] == pytest.approx(0.00125 / (0.0004875 / 7) ** 0.5 * 8760**0.5)
    assert (numbers["return"], numbers["max_drawdown"]) == pytest.approx((0.0098, 0.01))


def test_numbers_of_each_symbol_are_those_of_an_account_with_its_share_of_the_capital():
    up, back, down = (100, 102, 100, 102), (102, 102, 102, 102), (100, 101, 100, 101)
    mine = [FLAT, FLAT, up, back, back, FLAT, down, (101, 101, 101, 101)]
    fallen = (100, 100, 99, 99)
    theirs = [FLAT, FLAT, fallen, *[(99, 99, 99, 99)] * 4, None]
    of = bars(*zip(mine, theirs, strict=True), symbols=("AAA", "BBB"))
    said = signals(of, {(0, 0): LONG, (4, 0): SHORT, (0, 1): LONG})
    outcome = simulate(of, said, Rules(fees=0, slippage=0, hold_bars=2))
    # Stakes are halves: of 1 at first, of 1.005 when AAA is sold short.
    np.testing.assert_allclose(outcome.gains[:, 0], [0, 0, 0.01, 0.01, 0.01, 0.01, 0.004975, 0.004975], atol=1e-15)
    np.testing.assert_allclose(outcome.gains[:, 1], [0, 0, -0.005, -0.005, -0.005, -0.005, -0.005, -0.005], atol=1e-15)

    numbers = summary(outcome, of, {})["symbols"]

    a, b = numbers["AAA"], numbers["BBB"]
    assert (a["return"], b["return"]) == pytest.approx((0.00995, -0.01))
    assert (a["max_drawdown"], b["max_drawdown"]) == pytest.approx((0.01005 / 1.02, 0.01))
    assert (a["exposure"], b["exposure"]) == (4 / 8, 2 / 7)
    assert (a["win_rate"], b["win_rate"]) == (0.5, 0)
    returns = np.array([0, 0, 0.02, 0, 0, 0, -0.01005 / 1.02, 0])
    assert a["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 8760**0.5)
    assert a["sortino"] == pytest.approx(returns.mean() / (returns[6] ** 2 / 8) ** 0.5 * 8760**0.5)
    assert b["sharpe"] == pytest.approx(-0.01 / 8 / ((1e-4 - 8 * (0.01 / 8) ** 2) / 7) ** 0.5 * 8760**0.5)
    # Of its half: filled are 1, 1.02, 1.005 and 1.005 * 1.01; its equity is 1 for 2 bars, 1.02 for 4, 1.00995 for 2.
    filled, mean = 1 + 1.02 + 1.005 * 2.01, (2 + 4 * 1.02 + 2 * 1.00995) / 8
    assert a["turnover_per_day"] == pytest.approx(filled / mean * 3)
    assert b["turnover_per_day"] == pytest.approx(1.99 / ((2 + 6 * 0.99) / 8) * 3)


def test_what_symbols_have_brought_is_what_the_equity_has_gained():
    of, said = random_market(np.random.default_rng(5), tuple("ABCDE"), 800)
    said.direction[-2] = LONG
    outcome = simulate(of, said, Rules(fees=0.0004, slippage=0.0002, funding=0.0001, hold_bars=16))
    np.testing.assert_allclose(outcome.equity, 1 + outcome.gains.sum(axis=1), atol=1e-12)
    pnl = np.bincount(outcome.trades.symbol, outcome.trades.pnl)
    np.testing.assert_allclose(outcome.gains[-1], pnl, atol=1e-12)


def test_turnover_of_a_span_is_that_of_the_fills_within_it():
    up, back, down = (100, 102, 100, 102), (102, 102, 102, 102), (100, 101, 100, 101)
    of = bars(FLAT, FLAT, up, back, back, FLAT, down, (101, 101, 101, 101))
    outcome = simulate(of, signals(of, {0: LONG, 4: SHORT}), Rules(fees=0, slippage=0, hold_bars=2))
    early = np.arange(8) < 6  # the second trade is entered in bar 5 and left in bar 6
    spans = summary(outcome, of, {"early": early, "late": ~early})["spans"]
    # 1 + 1.02 and 1.02 in six hours, at a mean equity of 6.08 / 6; 1.02 * 1.01 in two, at 1.0098
    assert spans["early"]["turnover_per_day"] == pytest.approx(3.04 / (6.08 / 6) * 4)
    assert spans["late"]["turnover_per_day"] == pytest.approx(1.0302 / 1.0098 * 12)
