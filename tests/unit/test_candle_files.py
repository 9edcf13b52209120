"""Candle files: every spelling of the columns gives the same candles; every mistake names the file and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast import candle_files
from candlecast.candle_files import closes_ms, interval_from, load, merged, read, stream, survey
from candlecast.errors import ConfigurationError
from candlecast.values import Candles

M15 = 900_000
T0 = 1_704_067_200_000  # 2024-01-01


def table(times: list[object], time: str = "ts", **more: list[object]) -> pl.DataFrame:
    n = len(times)
    prices = {"open": [10.0] * n, "high": [12.0] * n, "low": [9.0] * n, "close": [11.0 + k for k in range(n)]}
    return pl.DataFrame({time: times, **prices, "volume": [5.0] * n, **more})


def saved(path: Path, frame: pl.DataFrame) -> Path:
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


MS = [T0, T0 + M15, T0 + 2 * M15]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(
    "times",
    [
        MS,
        [ms // 1000 for ms in MS],
        [ms / 1000 for ms in MS],
        [ms * 1000 for ms in MS],
        [ms * 1_000_000 for ms in MS],
        ["2024-01-01T00:00:00Z", "2024-01-01T00:15:00Z", "2024-01-01T00:30:00Z"],
        ["2024-01-01 00:00:00", "2024-01-01 00:15:00", "2024-01-01 00:30:00"],
        ["2024-01-01T02:00:00+02:00", "2024-01-01T02:15:00+02:00", "2024-01-01T02:30:00+02:00"],
        [datetime.fromtimestamp(ms / 1000, UTC) for ms in MS],
        [datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None) for ms in MS],
    ],
    ids=["ms", "s", "s-float", "us", "ns", "iso-z", "iso-naive", "iso-offset", "datetime-utc", "datetime-naive"],
)
@pytest.mark.parametrize("name", ["ts", "open_time"])
def test_every_spelling_of_the_time_gives_milliseconds(
    tmp_path: Path, suffix: str, times: list[object], name: str
) -> None:
    candles = read(saved(tmp_path / f"BTCUSDT-15m{suffix}", table(times, name)))

    assert candles.open_time_ms.tolist() == MS
    assert candles.open_time_ms.dtype == np.int64


def test_columns_come_in_order_and_what_is_absent_is_nan(tmp_path: Path) -> None:
    path = saved(tmp_path / "BTCUSDT-15m.parquet", table(MS[:2], trades=[7, None]))

    candles = read(path)

    assert candles.names == ["BTCUSDT"] * 2
    assert candles.interval_ms.tolist() == [M15, M15]
    nan = np.nan
    np.testing.assert_array_equal(candles.values, [[10, 12, 9, 11, 5, nan, 7, nan], [10, 12, 9, 12, 5, nan, nan, nan]])
    assert not candles.forming.any()


def test_rows_out_of_order_are_sorted(tmp_path: Path) -> None:
    candles = read(saved(tmp_path / "BTCUSDT-15m.csv", table([MS[2], MS[0], MS[1]])))

    assert candles.open_time_ms.tolist() == MS
    assert candles.values[:, 3].tolist() == [12, 13, 11]


def test_a_symbol_column_wins_over_the_name_and_the_interval_may_come_from_the_candles(tmp_path: Path) -> None:
    frame = table([T0, T0, T0 + M15, T0 + 2 * M15], symbol=["AAA", "BBB", "AAA", "BBB"])

    inferred = read(saved(tmp_path / "all.csv", frame))
    named = read(saved(tmp_path / "all-5m.csv", frame))

    assert inferred.names == ["AAA", "BBB", "AAA", "BBB"]
    assert inferred.interval_ms.tolist() == [M15] * 4
    assert named.interval_ms.tolist() == [300_000] * 4


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1s", 1000),
        ("15m", M15),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1M", None),
        ("0m", None),
        ("x", None),
    ],
)
def test_intervals(text: str, ms: int | None) -> None:
    assert interval_from(text) == ms


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("BTCUSDT-15m.csv", "ts,open,high,low,volume\n1,1,1,1,1\n", "no column close; it has ts, open"),
        ("BTCUSDT-15m.csv", "open,high,low,close,volume\n1,1,1,1,1\n", r"no column open_time \(or ts\)"),
        ("BTCUSDT-15m.csv", "ts,open,high,low,close,volume\n", "no candles"),
        ("BTCUSDT-15m.csv", "", "the file is empty"),
        ("BTCUSDT-15m.csv", "ts,open,high,low,close,volume\n1,1,1,1,abc,1\n", "column close has something"),
        ("BTCUSDT-15m.csv", "ts,open,high,low,close,volume\nyesterday,1,1,1,1,1\n", "'yesterday' is neither"),
        ("BTCUSDT-15m.csv", "ts,open,high,low,close,volume\n,1,1,1,1,1\n", "ts is empty in 1 rows"),
        ("BTCUSDT-15m.csv", "ts,open,high,low,close,volume\n1,1,1,1,1\n1,1,1,1,1,1,1\n", "cannot be read"),
        ("BTCUSDT-15m.parquet", "this is no parquet", "cannot be read"),
        ("BTCUSDT-15m.json", "{}", "are .parquet or .csv"),
        ("BTCUSDT.csv", "ts,open,high,low,close,volume\n1,1,1,1,1,1\n", "'' is no symbol"),
        ("BTCUSDT-15x.csv", "ts,open,high,low,close,volume\n1,1,1,1,1,1\n", "rename the file"),
        ("btcusdt-15m.csv", "ts,open,high,low,close,volume\n1,1,1,1,1,1\n", "'btcusdt' is no symbol"),
        ("all.csv", "ts,symbol,open,high,low,close,volume\n1,AAA,1,1,1,1,1\n", "all-15m.csv"),
    ],
)
def test_a_mistake_names_the_file_and_what_is_wrong(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=says) as caught:
        read(path)

    assert str(path) in str(caught.value)


def test_a_missing_file_and_no_file_are_configuration_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(tmp_path / "BTCUSDT-15m.csv")
    with pytest.raises(ConfigurationError, match="no candle files"):
        load([])


def test_files_are_merged_by_close_time_across_symbols_and_intervals(tmp_path: Path) -> None:
    quarter = [T0 + k * M15 for k in range(5)]
    files = [
        saved(tmp_path / "AAA-15m.parquet", table(quarter)),
        saved(tmp_path / "BBB-15m.csv", table(quarter[1:])),
        saved(tmp_path / "AAA-1h.csv", table([T0])),
    ]

    batches = list(merged(load(files)))

    seen = [
        (
            int(batch.open_time_ms[0] + batch.interval_ms[0] - T0) // M15,
            list(zip(batch.names, batch.interval_ms.tolist(), strict=True)),
        )
        for batch in batches
    ]
    a, b, hour = ("AAA", M15), ("BBB", M15), ("AAA", 4 * M15)
    assert seen == [(1, [a]), (2, [a, b]), (3, [a, b]), (4, [a, b, hour]), (5, [a, b])]
    for batch in batches:
        assert len(set((batch.open_time_ms + batch.interval_ms).tolist())) == 1
        assert batch.values.shape == (len(batch), 8)


@pytest.mark.parametrize(("limit", "sizes"), [(0, []), (1, [1]), (4, [2, 2]), (5, [2, 2, 1]), (99, [2, 2, 2])])
def test_the_limit_counts_candles(tmp_path: Path, limit: int, sizes: list[int]) -> None:
    files = [saved(tmp_path / f"{name}-15m.csv", table(MS)) for name in ("AAA", "BBB")]

    assert [len(batch) for batch in merged(load(files), limit)] == sizes


def walked(seed: int, n: int, start: int = 0) -> pl.DataFrame:
    """Return n candles that differ from one another."""
    random = np.random.default_rng(seed)
    close = np.round(100 + np.cumsum(random.normal(0, 1, n)).clip(-50), 2).tolist()
    times = [T0 + (start + k) * M15 for k in range(n)]
    return table(times).with_columns(pl.Series("close", close))


def rows_of(batches: list[Candles]) -> list[tuple[int, str, int, float]]:
    return [
        row
        for batch in batches
        for row in zip(
            closes_ms(batch).tolist(),
            batch.names,
            batch.interval_ms.tolist(),
            batch.values[:, 3].tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize("part_candles", [64, 300, 8_192])
def test_a_stream_is_what_load_gives_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_candles: int
) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", part_candles)
    files = [
        saved(tmp_path / "AAA-15m.parquet", walked(1, 700)),
        saved(tmp_path / "BBB-15m.csv", walked(2, 500, start=450)),
        saved(tmp_path / "CCC-15m.parquet", walked(3, 90, start=600)),
        saved(tmp_path / "AAA-1h.csv", table([T0 + 4 * k * M15 for k in range(100)])),
    ]

    batches = list(stream([survey(file) for file in files]))

    assert rows_of(batches) == rows_of([load(files)])
    assert all(closes_ms(before)[-1] < closes_ms(after)[0] for before, after in pairwise(batches))
    assert max(map(len, batches)) <= 2 * max(part_candles, 4 * 64)


def test_candles_of_one_close_stay_together_however_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", 64)
    names = [f"S{k}" for k in range(150)]
    crowd = pl.concat([table([ms] * len(names), symbol=names) for ms in MS])
    file = survey(saved(tmp_path / "all-15m.parquet", crowd))

    batches = list(stream([file]))

    assert [(closes_ms(batch)[0], batch.names) for batch in batches] == [(ms + M15, names) for ms in MS]


def test_a_survey_tells_what_a_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", 2)
    times = [ms for ms in MS for _ in range(2)]
    frame = table(times, symbol=["AAA", "BBB"] * 3, trades=[None, None, 3.0, None, None, None], quote_volume=[None] * 6)

    file = survey(saved(tmp_path / "all.csv", frame))
    backwards = survey(saved(tmp_path / "all.parquet", frame.reverse()))

    assert (dict(file.candles), file.interval_ms, file.is_sorted) == ({"AAA": 3, "BBB": 3}, M15, True)
    assert file.optional == {"trades": {"AAA"}, "quote_volume": set(), "taker_buy_volume": set()}
    assert (backwards.interval_ms, backwards.is_sorted) == (M15, False)
    assert read(backwards.path).open_time_ms.tolist() == times


def test_times_are_of_one_unit_for_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_files, "PART_CANDLES", 1)
    early = [0, M15, T0]  # the first would be seconds, were it alone
    assert read(saved(tmp_path / "AAA-15m.csv", table(early))).open_time_ms.tolist() == early

    mixed = table(["2024-01-01T00:00:00Z", str(T0 + M15)])
    with pytest.raises(ConfigurationError, match="numbers and ISO times"):
        read(saved(tmp_path / "BBB-15m.csv", mixed))


def test_numbers_of_a_csv_need_not_look_alike(tmp_path: Path) -> None:
    path = tmp_path / "AAA-15m.csv"
    path.write_text("ts,open,high,low,close,volume\n900000,1,1,1,1,0\n1704067200000.0,1,1e0,1,1.00,\n")
    candles = read(path)
    assert candles.open_time_ms.tolist() == [900_000, T0]
    np.testing.assert_array_equal(candles.values[:, 4], [0, np.nan])
