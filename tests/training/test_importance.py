"""The table of importance: ranks, shares, and correlations that NumPy confirms."""

from __future__ import annotations

import numpy as np

from candlecast.features import NAMES
from candlecast.training.data import Samples
from candlecast.training.importance import table
from candlecast.training.labels import Labels


def test_the_table_ranks_shares_beside_correlations_with_the_returns() -> None:
    rng = np.random.default_rng(0)
    count = len(NAMES)
    rows = rng.standard_normal((500, count)).astype(np.float32)
    rows[:, 5] = 0.1  # a column that does not move, in a number that float32 does not have
    returns = rng.normal(0, 0.01, (500, 4)).astype(np.float32)
    returns[:, 2] += 0.01 * rows[:, 7]
    end = np.arange(1, 501)
    labels = Labels(end, returns, np.zeros((500, 4), np.int8), np.zeros((500, 4), np.float32))
    index = np.arange(100, 400)
    score = rng.random(count)
    score /= score.sum()

    found = table(Samples(rows, end, end, labels), index, score, "shap", gain=score[::-1])

    assert (found["method"], found["correlation_bars"]) == ("shap", 16)
    shares = [row["score"] for row in found["features"]]
    assert shares == sorted(shares, reverse=True)
    assert [row["rank"] for row in found["features"]] == list(range(1, count + 1))
    of = {row["index"]: row for row in found["features"]}
    assert all(of[k]["feature"] == NAMES[k] for k in range(count))
    assert of[5]["correlation"] is None
    assert of[3]["gain"] == round(score[count - 4], 8)
    for k in (0, 7, count - 1):
        expected = np.corrcoef(rows[index, k], returns[index, 2])[0, 1]
        assert abs(of[k]["correlation"] - expected) < 1e-5
