"""The naive definitions against the golden rows, and the core against the naive definitions, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.features import NAMES
from tests.features import naive
from tests.features.core import INPUTS, REFERENCE, core_rows
from tests.features.markets import MARKETS, OPTIONAL, VALUES, Candles, lively

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
TOLERANCE = 1e-6
# The core hands out float32, so its rounding comes on top: half a unit in the last place is 2^-24 of the value.
FLOAT32 = 2.0**-23


def naive_rows(candles: Candles) -> dict[str, NDArray[np.float64]]:
    return naive.rows(candles.columns, candles.interval_ms)


@cache
def naive_rows_of(market: str) -> dict[str, NDArray[np.float64]]:
    return naive_rows(MARKETS[market]())


def disagreements(
    ours: Mapping[str, NDArray[np.floating]], expected: Mapping[str, NDArray[np.float64]], relative: float = 0
) -> list[str]:
    """Return a line for each of our columns that is not the expected one: the worst bar, and both values there."""
    lines = []
    for name, column in ours.items():
        theirs = expected[name]
        with np.errstate(invalid="ignore"):
            excess = np.abs(column - theirs) - TOLERANCE - relative * np.abs(theirs)
        excess[np.isnan(column) != np.isnan(theirs)] = np.inf
        wrong = np.flatnonzero(excess > 0)
        if len(wrong):
            t = int(np.nanargmax(excess))
            lines.append(f"{name}: {len(wrong)} bars, worst {t}: {column[t]!r}, expected {theirs[t]!r}")
    return lines


def by_name(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return dict(zip(NAMES, rows.T, strict=True))


@pytest.mark.skipif(not GOLDEN.joinpath("names.txt").is_file(), reason="the golden rows are not beside the repository")
@pytest.mark.parametrize(
    ("name", "interval_ms"), [("normal_15m", 900_000), ("stress_15m", 900_000), ("plain_5m", 300_000)]
)
def test_naive_definitions_give_the_golden_rows(name: str, interval_ms: int) -> None:
    columns = ("open_time_ms", *VALUES, "reference_close")
    data = np.genfromtxt(GOLDEN / f"{name}.csv", delimiter=",", skip_header=1)
    golden = np.fromfile(GOLDEN / f"{name}.f64", dtype="<f8").reshape(len(data), -1)
    assert tuple(GOLDEN.joinpath("names.txt").read_text().split()) == naive.NAMES
    expected = dict(zip(naive.NAMES, golden.T, strict=True))
    candles = Candles(dict(zip(columns, data.T, strict=True)), interval_ms)
    assert disagreements(naive_rows(candles), expected) == []


def test_the_core_has_every_column_in_order() -> None:
    assert NAMES == naive.NAMES


def test_the_core_warms_up_as_long_as_specified() -> None:
    ours = {feature.name: feature.warmup_bars for feature in _rust.catalog()}
    assert ours == {name: naive.WARMUP_BARS[name] for name in NAMES}


@pytest.mark.parametrize("market", MARKETS)
def test_naive_columns_have_a_value_from_their_warm_up_on(market: str) -> None:
    for name, column in naive_rows_of(market).items():
        assert np.isnan(column[: naive.WARMUP_BARS[name] - 1]).all(), name
        assert np.isfinite(column[naive.WARMUP_BARS[name] - 1 :]).all(), name


@pytest.mark.parametrize("market", MARKETS)
def test_the_core_agrees_with_the_naive_definitions(market: str) -> None:
    ours = by_name(core_rows(MARKETS[market]()))
    assert disagreements(ours, naive_rows_of(market), FLOAT32) == []


@pytest.mark.parametrize("unused", [*([name] for name in INPUTS), INPUTS], ids="-".join)
def test_an_optional_input_that_is_not_in_use_counts_as_absent(unused: Sequence[str]) -> None:
    columns = [column for name, column in zip(INPUTS, OPTIONAL, strict=True) if name in unused]
    ours = by_name(core_rows(lively(), optional_inputs=[name for name in INPUTS if name not in unused]))
    assert disagreements(ours, naive_rows(lively().without(*columns)), FLOAT32) == []


def test_the_reference_itself_has_no_reference() -> None:
    alone = lively().without("reference_close")
    ours = by_name(core_rows(alone, symbol=REFERENCE))
    assert disagreements(ours, naive_rows(alone), FLOAT32) == []
