"""What a training uses: which candles, which optional inputs, and what it refuses to do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from candlecast import candle_files
from candlecast.errors import ConfigurationError
from candlecast.training.sources import read_history
from candlecast.values import Candles
from tests.training.conftest import INTERVAL_MS, START_MS, simulate


def saved(folder: Path, name: str, **columns: Any) -> Path:
    """Write 300 candles with these columns too."""
    frame = simulate(8, 300).with_columns(**{column: pl.lit(value) for column, value in columns.items()})
    frame.write_parquet(folder / f"{name}-15m.parquet")
    return folder / f"{name}-15m.parquet"


def test_sources_are_filtered_described_by_name_and_of_one_interval(tmp_path: Path) -> None:
    files = [saved(tmp_path, name) for name in ("AAA", "BBB")]
    start, end = START_MS + 10 * INTERVAL_MS, START_MS + 20 * INTERVAL_MS

    (source,) = read_history(files, symbols=["BBB"], start_ms=start, end_ms=end).sources

    assert source.described() == {
        "name": "BBB-15m.parquet",
        "sha256": source.sha256,
        "rows": 10,
        "from": "2024-01-01T02:30:00Z",
        "to": "2024-01-01T04:45:00Z",
    }
    with pytest.raises(ConfigurationError, match="no candle is left"):
        read_history(files, symbols=["CCC"])
    hour = files[0].rename(tmp_path / "AAA-1h.parquet")
    with pytest.raises(ConfigurationError, match="one interval at a time"):
        read_history([hour, files[1]])


def test_what_every_file_carries_is_used_and_nothing_else(tmp_path: Path) -> None:
    files = [
        saved(tmp_path, "AAA", quote_volume=1.0, trades=5, taker_buy_volume=0.0),
        saved(tmp_path, "BBB", quote_volume=float("nan"), taker_buy_volume=0.5),
    ]

    history = read_history(files, reference_symbol="BTC")

    assert history.optional_inputs == ["taker_buy_volume"]
    assert history.reference_symbol is None
    assert history.symbols == ["AAA", "BBB"]
    assert read_history(files[:1]).optional_inputs == ["quote_volume", "trades", "taker_buy_volume"]


def test_the_reference_is_used_where_its_candles_are_beside_others(tmp_path: Path) -> None:
    files = [saved(tmp_path, name) for name in ("AAA", "BTC")]

    both = read_history(files, reference_symbol="BTC")
    assert (both.optional_inputs, both.reference_symbol) == (["reference"], "BTC")
    assert both.symbols == ["AAA", "BTC"]
    for other in (read_history(files), read_history(files, reference_symbol="ETH")):
        assert (other.optional_inputs, other.reference_symbol) == ([], None)
    for alone in (
        read_history(files[1:], reference_symbol="BTC"),
        read_history(files, symbols=["BTC"], reference_symbol="BTC"),
    ):
        assert (alone.optional_inputs, alone.reference_symbol) == ([], None)


def test_the_reference_stays_when_symbols_leave_it_out(tmp_path: Path) -> None:
    files = [saved(tmp_path, "AAA", trades=1), saved(tmp_path, "BTC"), saved(tmp_path, "CCC")]

    history = read_history(files, symbols=["AAA"], reference_symbol="BTC")

    assert history.symbols == ["AAA"]
    assert history.optional_inputs == ["trades", "reference"]  # what the reference itself carries plays no part
    assert [source.name for source in history.sources] == ["AAA-15m.parquet", "BTC-15m.parquet"]
    assert set(history.by_symbol()) == {"AAA", "BTC"}
    without = read_history(files, symbols=["AAA"], reference_symbol="BTC", optional_inputs=["trades"])
    assert [source.name for source in without.sources] == ["AAA-15m.parquet"]
    with pytest.raises(ConfigurationError, match="no candle is left"):
        read_history(files, symbols=["DDD"], reference_symbol="BTC")


def test_named_inputs_are_used_as_named(tmp_path: Path) -> None:
    files = [saved(tmp_path, "AAA", trades=1, quote_volume=2.0), saved(tmp_path, "BTC", quote_volume=2.0)]

    def used(*names: str) -> list[str]:
        return read_history(files, reference_symbol="BTC", optional_inputs=names).optional_inputs

    assert used() == []
    assert used("quote_volume") == ["quote_volume"]
    assert used("reference", "trades", "trades") == ["trades", "reference"]  # one file with it is enough


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"optional_inputs": ["trades"]}, "--optional-inputs trades: no candle has it"),
        ({"optional_inputs": ["weather"]}, "'weather' is no optional input: there are quote_volume"),
        ({"optional_inputs": ["reference"], "reference_symbol": "ETH"}, "reference needs candles of ETH and others"),
        ({"optional_inputs": ["reference"], "symbols": ["BTC"], "reference_symbol": "BTC"}, "of BTC and others"),
        ({"optional_inputs": ["reference"]}, "needs candles of a reference symbol and others"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, chosen: dict[str, Any], says: str) -> None:
    files = [saved(tmp_path, name) for name in ("AAA", "BTC")]

    with pytest.raises(ConfigurationError, match=says):
        read_history(files, **chosen)


def test_candles_of_a_database_give_the_history_that_their_files_give(tmp_path: Path) -> None:
    files = [saved(tmp_path, "AAA", trades=3), saved(tmp_path, "BTC", trades=4), saved(tmp_path, "CCC", trades=5)]
    chosen: dict[str, Any] = {
        "symbols": ["AAA", "CCC"],
        "start_ms": START_MS + 9 * INTERVAL_MS,
        "reference_symbol": "BTC",
    }

    of_files = read_history(files, **chosen)
    at_hand = read_history(Candles.joined([candle_files.read(path) for path in files]), **chosen)

    for name in ("symbols", "interval_ms", "optional_inputs", "reference_symbol"):
        assert getattr(at_hand, name) == getattr(of_files, name)
    one, other = of_files.by_symbol(), at_hand.by_symbol()
    assert one.keys() == other.keys()
    for symbol, candles in one.items():
        np.testing.assert_array_equal(candles.open_time_ms, other[symbol].open_time_ms)
        np.testing.assert_array_equal(candles.values, other[symbol].values)
    (source,) = at_hand.sources
    assert (source.name, len(source.candles)) == ("database", 3 * 291)
    assert len(source.sha256) == 64 and at_hand.sha256 != of_files.sha256


def test_a_history_has_another_hash_when_anything_that_is_used_changes(tmp_path: Path) -> None:
    files = [saved(tmp_path, "AAA", trades=3), saved(tmp_path, "BTC", trades=4)]

    def sha256(**chosen: Any) -> str:
        return read_history(files, **chosen).sha256

    hashes = [
        sha256(),
        sha256(reference_symbol="BTC"),
        sha256(symbols=["AAA"]),
        sha256(optional_inputs=[]),
        sha256(start_ms=START_MS + INTERVAL_MS),
    ]
    assert len(set(hashes)) == len(hashes)
    assert sha256() == hashes[0]
