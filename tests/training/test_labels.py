"""Labels: contract section 3, against numbers by hand and against the naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.training.labels import FUTURE_BARS, LONG, NEUTRAL, SHORT, UNKNOWN, label, past

M15 = 900_000


def market(bars: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.004 * rng.standard_normal(bars)))
    high = close * (1 + 0.003 * rng.random(bars))
    low = close * (1 - 0.003 * rng.random(bars))
    return M15 * np.arange(bars, dtype=np.int64), high, low, close


def test_a_case_by_hand() -> None:
    close = np.full(49, 100.0)
    close[1], close[4], close[16], close[48] = 100.2, 99.6, 100.69, 98.9
    high, low = close + 0.1, close - 0.1
    low[3], high[15], low[17] = 97.0, 103.0, 50.0  # bar 17 is after the risks' 16 bars

    found = label(M15 * np.arange(49, dtype=np.int64), M15, high, low, close)

    assert found.at.tolist() == [0]
    np.testing.assert_allclose(found.returns[0], [0.002, -0.004, 0.0069, -0.011], atol=1e-6)
    assert found.directions[0].tolist() == [LONG, SHORT, NEUTRAL, SHORT]
    np.testing.assert_allclose(found.risks[0], [0.03, 0.003, 0.03, 0.03], atol=1e-6)


def test_risks_are_floored_at_zero() -> None:
    close = 100.0 + np.arange(60.0)
    rising = label(M15 * np.arange(60, dtype=np.int64), M15, close, close, close)
    falling = label(M15 * np.arange(60, dtype=np.int64), M15, close[::-1], close[::-1], close[::-1])

    assert (rising.risks[:, [0, 2]] == 0).all()
    assert (falling.risks[:, [1, 3]] == 0).all()


def test_the_arrays_agree_with_the_naive_loop() -> None:
    time, high, low, close = market(400)

    found = label(time, M15, high, low, close)

    assert found.at.tolist() == list(range(400 - 48))
    for k, t in enumerate(found.at.tolist()):
        for h, (bars, threshold) in enumerate(((1, 0.0015), (4, 0.003), (16, 0.007), (48, 0.010))):
            change = close[t + bars] / close[t] - 1
            assert abs(found.returns[k, h] - change) < 1e-7
            assert found.directions[k, h] == (LONG if change > threshold else SHORT if change < -threshold else NEUTRAL)
        for n, bars in enumerate((4, 16)):
            drawdown = max(1 - min(low[t + 1 : t + bars + 1]) / close[t], 0)
            rally = max(max(high[t + 1 : t + bars + 1]) / close[t] - 1, 0)
            np.testing.assert_allclose(found.risks[k, 2 * n : 2 * n + 2], [drawdown, rally], atol=1e-7)


def test_labels_look_at_the_future_only() -> None:
    time, high, low, close = market(200)
    before = label(time, M15, high, low, close)
    high[:100], low[:100], close[:100] = high[:100] * 3, low[:100] * 3, close[:100] * 3

    after = label(time, M15, high, low, close)

    np.testing.assert_array_equal(before.returns[100:], after.returns[100:])
    np.testing.assert_array_equal(before.risks[100:], after.risks[100:])


def test_rows_without_a_complete_future_are_dropped() -> None:
    for bars in (0, 1, FUTURE_BARS):
        assert len(label(*_ordered(market(bars))).at) == 0
    assert label(*_ordered(market(FUTURE_BARS + 1))).at.tolist() == [0]


def test_a_label_that_spans_a_gap_is_dropped() -> None:
    time, high, low, close = market(300)
    keep = np.arange(300) != 150
    found = label(time[keep], M15, high[keep], low[keep], close[keep])

    kept = time[keep][found.at] // M15
    assert kept.tolist() == [t for t in range(300 - 48) if not t <= 150 <= t + 48]


def test_a_doubled_candle_does_not_hide_a_gap() -> None:
    time, high, low, close = market(300)
    rows = np.array([t for t in range(300) for _ in range(2 if t == 140 else 0 if t == 150 else 1)])

    found = label(time[rows], M15, high[rows], low[rows], close[rows])

    assert all(not (t < 140 < t + 48 or t <= 150 <= t + 48) for t in (time[rows][found.at] // M15).tolist())


@pytest.mark.parametrize("price", [1.0, 1e-7, 64_000.0])
def test_only_a_return_beyond_the_threshold_has_a_direction(price: float) -> None:
    time = M15 * np.arange(49, dtype=np.int64)
    for sign, side in ((1, LONG), (-1, SHORT)):
        for factor, expected in ((1 - 1e-9, NEUTRAL), (1 + 1e-9, side)):
            close = np.full(49, price)
            for bars, threshold in ((1, 0.0015), (4, 0.003), (16, 0.007), (48, 0.010)):
                close[bars] = price * (1 + sign * threshold * factor)
            assert label(time, M15, close, close, close).directions[0].tolist() == [expected] * 4


def test_the_past_is_the_label_that_has_just_become_known() -> None:
    time, high, low, close = market(400)
    keep = np.arange(400) != 150  # a gap
    columns = (time[keep], M15, high[keep], low[keep], close[keep])
    at = label(*columns).at

    before = past(*columns, at)

    bars_there = set((columns[0] // M15).tolist())
    known = np.array([all(b - n in bars_there for n in range(49)) for b in (columns[0][at] // M15).tolist()])
    np.testing.assert_array_equal(before.directions[:, 0] != UNKNOWN, known)
    assert 50 < known.sum() < len(at) - 90
    assert np.isnan(before.returns[~known]).all() and np.isnan(before.risks[~known]).all()
    _, _, high, low, close = columns
    for k in np.flatnonzero(known).tolist():
        t = int(at[k])
        for h, (bars, threshold) in enumerate(((1, 0.0015), (4, 0.003), (16, 0.007), (48, 0.010))):
            change = close[t] / close[t - bars] - 1
            assert abs(before.returns[k, h] - change) < 1e-7
            assert before.directions[k, h] == (
                LONG if change > threshold else SHORT if change < -threshold else NEUTRAL
            )
        for n, bars in enumerate((4, 16)):
            drawdown = max(1 - min(low[t - bars + 1 : t + 1]) / close[t - bars], 0)
            rally = max(max(high[t - bars + 1 : t + 1]) / close[t - bars] - 1, 0)
            np.testing.assert_allclose(before.risks[k, 2 * n : 2 * n + 2], [drawdown, rally], atol=1e-7)


def test_the_past_knows_no_future() -> None:
    time, high, low, close = market(300)
    at = np.arange(150)
    before = past(time, M15, high, low, close, at)
    high[150:], low[150:], close[150:] = high[150:] * 3, low[150:] * 3, close[150:] * 3

    after = past(time, M15, high, low, close, at)

    np.testing.assert_array_equal(before.returns, after.returns)
    np.testing.assert_array_equal(before.risks, after.risks)


def _ordered(columns: tuple[np.ndarray, ...]) -> tuple:
    time, high, low, close = columns
    return time, M15, high, low, close
