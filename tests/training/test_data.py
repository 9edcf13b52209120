"""Samples: the windows that training sees are the windows that serving computes, and labels lie on the right candle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast.errors import ConfigurationError
from candlecast.features import ACCEPTED, Features
from candlecast.training import data
from candlecast.values import Candles
from tests.training.conftest import INTERVAL_MS, START_MS, simulate


def saved(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    frame.write_parquet(folder / f"{name}-15m.parquet")
    return folder / f"{name}-15m.parquet"


def prepared(folder: Path, files: list[Path], stride: int = 1) -> data.Samples:
    core = Features(symbols_max=10, conflicts_max=1000)
    return data.prepare(data.read_sources(files), folder, core, stride, lambda symbol: None)


def with_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    bar = pl.int_range(pl.len())
    return frame.filter(~bar.is_in([1500, 1501, 1502, 1600]) & ~bar.is_between(2200, 2400))


def test_windows_are_those_of_serving_also_across_gaps_and_restarts(tmp_path: Path) -> None:
    frame = with_gaps(simulate(1, 4000))
    samples = prepared(tmp_path, [saved(tmp_path, "AAA", frame)])

    core = Features(symbols_max=1, conflicts_max=1000)
    served = {}
    for row in frame.iter_rows():
        candle = np.array([[*row[1:6], np.nan, np.nan, np.nan]])
        one = Candles(["AAA"], np.array([INTERVAL_MS]), np.array([row[0]]), candle, np.zeros(1, dtype=np.bool_))
        moved = core.push(one)
        if moved.pushed.window[0] >= 0:
            served[row[0]] = moved.windows[0].copy()
    assert len(samples) > 1000
    assert (samples.open_time_ms > START_MS + INTERVAL_MS * 2400).any()
    times = samples.open_time_ms.tolist()
    for k in (0, *range(1, len(samples), 37), len(samples) - 1):
        np.testing.assert_array_equal(samples.windows(np.array([k]))[0], served[times[k]])
    there = set(frame["ts"].to_list())
    labelled = {t for t in served if all(t + h * INTERVAL_MS in there for h in range(49))}
    assert set(times) == labelled


def test_labels_belong_to_their_candle(tmp_path: Path) -> None:
    frame = with_gaps(simulate(2, 4000))
    samples = prepared(tmp_path, [saved(tmp_path, "AAA", frame)], stride=5)

    close = dict(zip(frame["ts"].to_list(), frame["close"].to_list(), strict=True))
    for k, time in enumerate(samples.open_time_ms.tolist()):
        expected = [close[time + h * INTERVAL_MS] / close[time] - 1 for h in (1, 4, 16, 48)]
        np.testing.assert_allclose(samples.labels.returns[k], expected, atol=1e-6)


def test_no_window_knows_the_future(tmp_path: Path) -> None:
    frame = simulate(3, 2000)
    cut = START_MS + INTERVAL_MS * 1500
    other = pl.concat([frame.filter(pl.col("ts") <= cut), simulate(4, 2000).filter(pl.col("ts") > cut)])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    one = prepared(tmp_path / "a", [saved(tmp_path / "a", "AAA", frame)])
    two = prepared(tmp_path / "b", [saved(tmp_path / "b", "AAA", other)])

    known = np.flatnonzero(one.open_time_ms <= cut)
    assert len(known) > 500
    np.testing.assert_array_equal(one.windows(known), two.windows(known))
    later = np.flatnonzero(one.open_time_ms > cut)
    assert not np.array_equal(one.windows(later), two.windows(later))


def test_a_refused_candle_is_a_gap_and_gets_no_label(tmp_path: Path) -> None:
    frame = simulate(5, 2000)
    bad = START_MS + INTERVAL_MS * 1500
    broken = frame.with_columns(high=pl.when(pl.col("ts") == bad).then(0.0).otherwise("high"))

    samples = prepared(tmp_path, [saved(tmp_path, "AAA", broken)])

    bars = (samples.open_time_ms - START_MS) // INTERVAL_MS
    assert ((bars <= 1500) & (bars + 48 >= 1500)).sum() == 0
    assert ((bars < 1452) | (bars > 1500)).all() and (bars > 1500).any()
    assert np.isfinite(samples.labels.returns).all() and np.isfinite(samples.labels.risks).all()


def test_rows_are_on_disk_once_and_finite(tmp_path: Path) -> None:
    samples = prepared(tmp_path, [saved(tmp_path, name, simulate(6, 1500)) for name in ("AAA", "BBB")], stride=4)

    assert isinstance(samples.rows, np.memmap)
    assert len(samples.rows) < 2 * 1500
    assert np.isfinite(samples.rows).all()
    np.testing.assert_array_equal(samples.newest(np.arange(9)), samples.windows(np.arange(9))[:, -1])


def test_one_symbol_in_two_files_is_joined_in_time_order(tmp_path: Path) -> None:
    frame = simulate(7, 1600)
    whole = prepared(tmp_path, [saved(tmp_path, "AAA", frame)])
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    halves = [saved(tmp_path / "x", "AAA", frame[800:]), saved(tmp_path / "y", "AAA", frame[:800])]

    joined = prepared(tmp_path / "x", halves)

    np.testing.assert_array_equal(whole.rows, joined.rows)
    np.testing.assert_array_equal(whole.open_time_ms, joined.open_time_ms)


def test_sources_are_filtered_described_by_name_and_of_one_interval(tmp_path: Path) -> None:
    files = [saved(tmp_path, name, simulate(8, 300)) for name in ("AAA", "BBB")]
    start, end = START_MS + 10 * INTERVAL_MS, START_MS + 20 * INTERVAL_MS

    (source,) = data.read_sources(files, symbols=["BBB"], start_ms=start, end_ms=end)

    assert source.described() == {
        "name": "BBB-15m.parquet",
        "sha256": source.sha256,
        "rows": 10,
        "from": "2024-01-01T02:30:00Z",
        "to": "2024-01-01T04:45:00Z",
    }
    with pytest.raises(ConfigurationError, match="no candle is left"):
        data.read_sources(files, symbols=["CCC"])
    hour = files[0].rename(tmp_path / "AAA-1h.parquet")
    with pytest.raises(ConfigurationError, match="one interval at a time"):
        data.read_sources([hour, files[1]])


def test_too_little_history_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give more data"):
        prepared(tmp_path, [saved(tmp_path, "AAA", simulate(9, 120))])


def test_the_core_accepts_what_the_simulation_makes(tmp_path: Path) -> None:
    (source,) = data.read_sources([saved(tmp_path, "AAA", simulate(10, 200))])

    moved = Features(symbols_max=1, conflicts_max=1).push(source.candles)

    assert (moved.pushed.verdict == ACCEPTED).all()
