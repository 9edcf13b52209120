"""Samples: the windows that training sees are the windows that serving computes, and labels lie on the right candle."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from candlecast import candle_files
from candlecast.errors import ConfigurationError
from candlecast.features import ACCEPTED, NAMES, Features
from candlecast.training import data
from candlecast.training.sources import read_history
from candlecast.values import Candles
from tests.training.conftest import INTERVAL_MS, START_MS, simulate


def saved(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    frame.write_parquet(folder / f"{name}-15m.parquet")
    return folder / f"{name}-15m.parquet"


def prepared(folder: Path, files: list[Path], stride: int = 1, **chosen: Any) -> data.Samples:
    return data.prepare(read_history(files, **chosen), folder, stride, lambda symbol: None)


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


REFERENCE = "BTC"
CROSS = [column for column, name in enumerate(NAMES) if name.startswith("ref_")]


def patchy(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a reference that starts late, ends early, and between lacks, repeats, contradicts and garbles candles."""
    bar = pl.int_range(pl.len())
    silent = bar.is_in([1400, 1401, 1501, 1502, 1503, 1601, 3001]) | bar.is_between(1700, 1720)
    garbled = frame.with_columns(high=pl.when(bar == 1900).then(0.0).otherwise("high"))
    kept = garbled.filter(~silent & bar.is_between(300, 3500))
    return pl.concat([kept, kept[1700:1702], kept[1800:1801].with_columns(pl.col("close") * 1.0001)]).sort("ts")


def served(files: list[Path], symbol: str) -> dict[int, np.ndarray[Any, Any]]:
    """Return a symbol's windows by open time, of one market that takes the files bar by bar, as serving does."""
    core = Features(symbols_max=9, conflicts_max=9, optional_inputs=["reference"], reference_symbol=REFERENCE)
    windows = {}
    for batch in candle_files.merged(candle_files.load(files)):
        moved = core.push(batch)
        for k, name in enumerate(batch.names):
            if name == symbol and moved.pushed.verdict[k] == ACCEPTED and moved.pushed.window[k] >= 0:
                windows[int(batch.open_time_ms[k])] = moved.windows[moved.pushed.window[k]].copy()
    return windows


@pytest.mark.parametrize("chunk", [data.CHUNK, 7])
def test_windows_are_those_of_serving_beside_a_patchy_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    files = [saved(tmp_path, "AAA", with_gaps(simulate(1, 4000))), saved(tmp_path, "BTC", patchy(simulate(2, 4000)))]
    monkeypatch.setattr(data, "CHUNK", chunk)

    samples = prepared(tmp_path, files, symbols=["AAA"], reference_symbol=REFERENCE)

    expected = served(files, "AAA")
    times = samples.open_time_ms.tolist()
    assert len(times) > 1000
    newest = samples.newest(np.arange(len(times)))
    np.testing.assert_array_equal(newest, [expected[time][-1] for time in times])
    for k in (*range(0, len(times), 41), len(times) - 1):
        np.testing.assert_array_equal(samples.windows(np.array([k]))[0], expected[times[k]])
    compared = (newest[:, CROSS] != 0).any(axis=1)
    assert 0.3 < compared.mean() < 0.9
    alone = prepared(tmp_path, files, symbols=["AAA"], optional_inputs=[])
    assert not alone.newest(np.arange(len(alone)))[:, CROSS].any()


def test_the_reference_symbol_is_itself_computed_without_a_reference(tmp_path: Path) -> None:
    files = [saved(tmp_path, name, simulate(seed, 1500)) for seed, name in enumerate(("AAA", "BTC"))]
    folder = tmp_path / "alone"
    folder.mkdir()

    both = prepared(tmp_path, files, reference_symbol=REFERENCE)
    alone = prepared(folder, files[1:], optional_inputs=[])

    mine = np.arange(len(both) - len(alone), len(both))  # BTC comes after AAA
    np.testing.assert_array_equal(both.open_time_ms[mine], alone.open_time_ms)
    np.testing.assert_array_equal(both.windows(mine), alone.windows(np.arange(len(alone))))
    assert both.newest(np.arange(len(both) - len(alone)))[:, CROSS].any()


def test_no_window_knows_the_future_of_the_reference(tmp_path: Path) -> None:
    frame, reference = with_gaps(simulate(3, 2000)), patchy(simulate(4, 2000))
    cut = START_MS + INTERVAL_MS * 1502  # the reference is silent: the candle that ends the gap is not known yet
    other = pl.concat([reference.filter(pl.col("ts") <= cut), simulate(5, 2000).filter(pl.col("ts") > cut)])
    samples = []
    for name, after in (("a", reference), ("b", other)):
        (tmp_path / name).mkdir()
        files = [saved(tmp_path / name, "AAA", frame), saved(tmp_path / name, "BTC", after)]
        samples.append(prepared(tmp_path / name, files, symbols=["AAA"], reference_symbol=REFERENCE))

    one, two = samples
    np.testing.assert_array_equal(one.open_time_ms, two.open_time_ms)
    known = np.flatnonzero(one.open_time_ms <= cut)
    assert len(known) > 500
    np.testing.assert_array_equal(one.windows(known), two.windows(known))
    later = np.flatnonzero(one.open_time_ms > cut)
    assert not np.array_equal(one.windows(later), two.windows(later))


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


def test_too_little_history_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give more data"):
        prepared(tmp_path, [saved(tmp_path, "AAA", simulate(9, 120))])


def test_the_core_accepts_what_the_simulation_makes(tmp_path: Path) -> None:
    (source,) = read_history([saved(tmp_path, "AAA", simulate(10, 200))]).sources

    moved = Features(symbols_max=1, conflicts_max=1).push(source.candles)

    assert (moved.pushed.verdict == ACCEPTED).all()


def test_memory_stays_far_below_a_copy_of_all_windows(tmp_path: Path) -> None:
    files = [saved(tmp_path, name, simulate(seed, 3000)) for seed, name in enumerate(("AAA", "BBB"))]
    history = read_history(files)
    tracemalloc.start()
    samples = data.prepare(history, tmp_path, 1, lambda symbol: None)
    some = samples.windows(np.arange(64))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    whole_bytes = len(samples) * some[0].nbytes
    assert len(samples) > 4000 and isinstance(samples.rows, np.memmap)
    assert peak_bytes < whole_bytes / 5, f"{peak_bytes / 1e6:.0f} MB of {whole_bytes / 1e6:.0f}"
    assert (tmp_path / "rows.f32").stat().st_size < 1.1 * whole_bytes / 96  # each row once
