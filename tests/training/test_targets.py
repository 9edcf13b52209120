"""Targets of the tabular kind: by hand, against the naive loop, and from nothing but the future."""

from __future__ import annotations

import math

import numpy as np
import pytest

from candlecast.errors import ConfigurationError
from candlecast.training.targets import BUY, HOLD, SELL, Target

M15 = 900_000
NAMES = ("direction", "volatility", "profitable")


def market(bars: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(seed).standard_normal(bars)))
    return M15 * np.arange(bars, dtype=np.int64), close


def test_a_direction_by_hand() -> None:
    close = np.array([100.0, 1.0, 1.0, 1.0, 102.01, 0.9799, 1.019, 0.981, 102.01])
    found = Target("direction", hours=1).of(M15 * np.arange(9), M15, close)

    # After: +2.01 %, -2.01 %, +1.9 %, -1.9 %, 0 %.
    assert found[:5, 0].tolist() == [BUY, SELL, HOLD, HOLD, HOLD]
    assert np.isnan(found[5:, 0]).all()
    assert np.isnan(found[:4, 1]).all()
    assert found[4:, 1].tolist() == found[:5, 0].tolist()


def test_a_volatility_by_hand() -> None:
    close = np.array([100.0, 110.0, 99.0, 99.0])
    found = Target("volatility", hours=0.5).of(M15 * np.arange(4), M15, close)

    up, down = math.log(1.1), math.log(0.9)
    np.testing.assert_allclose(found[:2, 0], [math.hypot(up, down), abs(down)], rtol=1e-12)
    np.testing.assert_allclose(found[2:, 1], found[:2, 0])


def test_profitable_by_hand() -> None:
    close = np.array([100.0, 100.1, 100.5, 100.5, 100.0])
    found = Target("profitable", hours=0.25, costs=0.002).of(M15 * np.arange(5), M15, close)

    assert found[:4, 0].tolist() == [0.0, 1.0, 0.0, 0.0]  # +0.1 %, +0.4 %, 0 %, -0.5 %


@pytest.mark.parametrize("name", NAMES)
def test_the_arrays_agree_with_the_naive_loop(name: str) -> None:
    time, close = market(300)
    found = Target(name, hours=5, threshold=0.03, costs=0.01).of(time, M15, close)

    for t in range(300 - 20):
        change = close[t + 20] / close[t] - 1
        naive = {
            "direction": BUY if change > 0.03 else SELL if change < -0.03 else HOLD,
            "volatility": math.sqrt(sum(math.log(close[k + 1] / close[k]) ** 2 for k in range(t, t + 20))),
            "profitable": float(change > 0.01),
        }[name]
        assert math.isclose(found[t, 0], naive, rel_tol=1e-9)
        assert found[t + 20, 1] == found[t, 0]


@pytest.mark.parametrize("name", NAMES)
def test_what_came_after_looks_at_the_future_only_and_what_came_before_at_the_past(name: str) -> None:
    time, close = market(200)
    target = Target(name, hours=2)
    whole = target.of(time, M15, close)

    for cut in (50, 100, 150):
        seen = target.of(time[:cut], M15, close[:cut])  # as it was known at that time
        np.testing.assert_array_equal(seen[:, 1], whole[:cut, 1])
        np.testing.assert_array_equal(seen[: cut - 8, 0], whole[: cut - 8, 0])
        assert np.isnan(seen[cut - 8 :, 0]).all()
        later = target.of(time[cut:], M15, close[cut:])  # without its past
        np.testing.assert_array_equal(later[:, 0], whole[cut:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_on_the_way_leaves_it_unknown(name: str) -> None:
    time, close = market(100)
    keep = np.arange(100) != 50
    found = Target(name, hours=2).of(time[keep], M15, close[keep])

    unknown = time[keep][np.isnan(found[:, 0])] // M15
    assert unknown.tolist() == [t for t in range(100) if t != 50 and (t < 50 <= t + 8 or t + 8 > 99)]


@pytest.mark.parametrize("bars", [0, 1, 8])
def test_too_few_candles_leave_all_unknown(bars: int) -> None:
    time, close = market(bars)
    assert np.isnan(Target("direction", hours=2).of(time, M15, close)).all()


@pytest.mark.parametrize("hours", [0, -1, 0.1, 1.1])
def test_hours_that_are_no_whole_number_of_candles_are_refused(hours: float) -> None:
    with pytest.raises(ConfigurationError, match="no whole number of candles"):
        Target("direction", hours=hours).bars(M15)


def test_a_target_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="direction, volatility, profitable"):
        Target("moon")  # type: ignore[arg-type]
