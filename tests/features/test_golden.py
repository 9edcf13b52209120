"""Our columns against rows computed elsewhere from the same candles, through the Python door."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from candlecast import _rust

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
NAMES = GOLDEN.joinpath("names.txt").read_text().split()
COLUMNS = [feature.name for feature in _rust.catalog()]
TOLERANCE = 1e-6


def served(candles: NDArray[np.float64], interval_ms: int) -> NDArray[np.float32]:
    """Return the row of every candle, taken from the market window by window."""
    market = _rust.Market()
    no_windows = np.empty((0, _rust.WINDOW, len(COLUMNS)), dtype=np.float32)
    rows = []
    for start in range(0, len(candles), _rust.WINDOW):
        part = candles[start : start + _rust.WINDOW]
        pushed = market.push(
            ["GOLDEN"] * len(part),
            np.full(len(part), interval_ms),
            part[:, 0].astype(np.int64),
            np.ascontiguousarray(part[:, 1:9]),
            np.zeros(len(part), dtype=bool),
            2**62,
            no_windows,
        )
        assert (pushed.verdict == _rust.VERDICTS.index("ACCEPTED")).all()
        rows.append(market.rows("GOLDEN", interval_ms)[-len(part) :])
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("name", "interval_ms"), [("normal_15m", 900_000), ("stress_15m", 900_000), ("plain_5m", 300_000)]
)
def test_rows_agree_with_the_golden_rows(name: str, interval_ms: int) -> None:
    candles = np.genfromtxt(GOLDEN / f"{name}.csv", delimiter=",", skip_header=1)
    golden = np.fromfile(GOLDEN / f"{name}.f64", dtype="<f8").reshape(len(candles), len(NAMES))
    expected = golden[:, [NAMES.index(column) for column in COLUMNS]]
    rows = served(candles, interval_ms)
    for column, ours, theirs in zip(COLUMNS, rows.T, expected.T, strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=column)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE, err_msg=column)
