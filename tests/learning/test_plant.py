"""The plant itself: what the oracle says is what the market does."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np

from candlecast import outputs
from candlecast.training.labels import label
from tests.learning.plant import DRIFT, INTERVAL_MS, NOISE, STATES, market, oracle


def test_the_oracle_of_one_bar_is_the_normal_distribution() -> None:
    def above(x: float, mean: float) -> float:
        return 0.5 * (1 - erf((x - mean) / NOISE / sqrt(2)))

    theta = outputs.THRESHOLDS[0]
    rose, fell = ([above(theta, sign * mean) for mean in DRIFT] for sign in (1, -1))
    exact = np.stack([rose, fell, 1 - np.add(rose, fell)], axis=1)
    np.testing.assert_allclose(oracle(20_000)[:, 0], exact, atol=0.01)


def test_labels_of_the_market_come_as_often_as_the_oracle_says() -> None:
    candles, state = market(3, 60_000)
    time, high, low, close = (candles[name].to_numpy() for name in ("ts", "high", "low", "close"))
    found = label(time, INTERVAL_MS, high, low, close)
    said = oracle(20_000)
    for k in range(len(STATES)):
        mine = found.directions[state[found.at] == k]
        came = np.stack([(mine == c).mean(axis=0) for c in range(3)], axis=1)
        np.testing.assert_allclose(came, said[k], atol=0.035)
