"""Our columns against rows computed elsewhere from the same candles, through the Python door."""

from pathlib import Path

import numpy as np
import pytest

from candlecast import _rust
from tests.features.core import core_rows
from tests.features.markets import VALUES, Candles

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
NAMES = GOLDEN.joinpath("names.txt").read_text().split()
COLUMNS = [feature.name for feature in _rust.catalog()]
TOLERANCE = 1e-6


@pytest.mark.parametrize(
    ("name", "interval_ms"), [("normal_15m", 900_000), ("stress_15m", 900_000), ("plain_5m", 300_000)]
)
def test_rows_agree_with_the_golden_rows(name: str, interval_ms: int) -> None:
    candles = np.genfromtxt(GOLDEN / f"{name}.csv", delimiter=",", skip_header=1)
    golden = np.fromfile(GOLDEN / f"{name}.f64", dtype="<f8").reshape(len(candles), len(NAMES))
    expected = golden[:, [NAMES.index(column) for column in COLUMNS]]
    columns = dict(zip(("open_time_ms", *VALUES, "reference_close"), candles.T, strict=True))
    rows = core_rows(Candles(columns, interval_ms))
    for column, ours, theirs in zip(COLUMNS, rows.T, expected.T, strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=column)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE, err_msg=column)
