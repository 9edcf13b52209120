"""Candle files (Parquet, CSV) as columns, one by one or merged as if live. Knows no features and no server.

Columns: `ts` or `open_time` (the bar's open, UTC; milliseconds, seconds, microseconds, nanoseconds or ISO 8601), `open,
high, low, close, volume`, optionally `quote_volume, trades, taker_buy_volume` and `symbol`. A file is named
`SYMBOL-INTERVAL.parquet` or `.csv`; with a `symbol` column only the `-INTERVAL` part matters, and without that the
interval is the smallest step between two candles of one symbol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from candlecast.errors import ConfigurationError
from candlecast.values import F64, I64, Candles

REQUIRED: Final = ("open", "high", "low", "close", "volume")
OPTIONAL: Final = ("quote_volume", "trades", "taker_buy_volume")
UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SYMBOL: Final = re.compile(r"[A-Z0-9._:/-]{1,32}")


def read(path: Path) -> Candles:
    """Read one file, sorted by open time; values [N, 8] as in `Candles`, NaN = absent. Candles are not judged here.

    Raises:
        ConfigurationError: the file is unreadable, empty, lacks a column or an interval; the message says what to do.
    """
    table = _table(path)
    names = table.columns
    time = next((name for name in ("open_time", "ts") if name in names), None)
    missing = [name for name in REQUIRED if name not in names] + ([] if time else ["open_time (or ts)"])
    if time is None or missing:
        raise ConfigurationError(f"{path}: no column {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    if table.is_empty():
        raise ConfigurationError(f"{path}: the file has no candles; give one with rows or leave it out")
    opened = _times_ms(path, table[time])
    order = np.argsort(opened, kind="stable")
    opened = opened[order]
    values = np.full((len(opened), len(REQUIRED + OPTIONAL)), np.nan)
    for k, name in enumerate(REQUIRED + OPTIONAL):
        if name in names:
            values[:, k] = _numbers(path, table[name])[order]
    stem_symbol, interval_ms = _from_name(path)
    if "symbol" in names:
        column = np.array(table["symbol"].cast(pl.String).to_list(), dtype=object)
        symbol = column[order].tolist()
        interval_ms = interval_ms or _smallest_step_ms(path, symbol, opened)
    else:
        symbol = [stem_symbol] * len(opened)
    for name in set(symbol):
        if not isinstance(name, str) or not SYMBOL.fullmatch(name):
            raise ConfigurationError(f"{path}: {name!r} is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")
    if not interval_ms:
        raise ConfigurationError(
            f"{path}: no symbol column, and the name is not SYMBOL-INTERVAL such as BTCUSDT-15m{path.suffix}"
            " (intervals: a number and s, m, h, d or w); rename the file"
        )
    return Candles(
        symbol=symbol,
        interval_ms=np.full(len(opened), interval_ms, dtype=np.int64),
        open_time_ms=opened,
        values=values,
        forming=np.zeros(len(opened), dtype=np.bool_),
    )


def load(paths: Sequence[Path]) -> Candles:
    """Read all files as one set of columns in the order of their close, as if live; 100 bytes a candle.

    Raises:
        ConfigurationError: as `read`, or there are no files.
    """
    if not paths:
        raise ConfigurationError("no candle files given")
    files = [read(path) for path in paths]
    joined = Candles(
        symbol=[name for file in files for name in file.symbol],
        interval_ms=np.concatenate([file.interval_ms for file in files]),
        open_time_ms=np.concatenate([file.open_time_ms for file in files]),
        values=np.concatenate([file.values for file in files]),
        forming=np.concatenate([file.forming for file in files]),
    )
    return joined.take(np.argsort(joined.open_time_ms + joined.interval_ms, kind="stable"))


def merged(candles: Candles, limit: int | None = None) -> Iterator[Candles]:
    """Yield what `load` gave, one batch per close time across symbols and intervals; at most `limit` candles in all."""
    closed = (candles.open_time_ms + candles.interval_ms)[:limit]
    edges = np.flatnonzero(np.diff(closed, prepend=-1, append=-1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield candles.take(np.arange(start, stop))


def interval_from(text: str) -> int | None:
    """Return the milliseconds of an interval such as 15m, 1h or 1d; None when it is not one."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhdw])", text)
    return int(match[1]) * UNITS_MS[match[2]] if match else None


def _table(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.NoDataError:
        raise ConfigurationError(f"{path}: the file is empty; give one with a header and rows") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    raise ConfigurationError(f"{path}: candle files are .parquet or .csv")


def _from_name(path: Path) -> tuple[str, int | None]:
    symbol, _, interval = path.stem.rpartition("-")
    return symbol, interval_from(interval)


def _smallest_step_ms(path: Path, symbol: list[str], opened: I64) -> int:
    by_symbol: dict[str, list[int]] = {}
    for name, time in zip(symbol, opened.tolist(), strict=True):
        by_symbol.setdefault(name, []).append(time)
    steps = np.concatenate([np.diff(times) for times in by_symbol.values()])
    if not (steps > 0).any():
        raise ConfigurationError(
            f"{path}: its interval is unknown; name the file …-INTERVAL, such as all-15m{path.suffix}"
        )
    return int(steps[steps > 0].min())


def _times_ms(path: Path, column: pl.Series) -> I64:
    if column.null_count():
        raise ConfigurationError(f"{path}: {column.name} is empty in {column.null_count()} rows; every candle needs it")
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return column.cast(pl.Datetime("ms", getattr(column.dtype, "time_zone", None))).dt.epoch("ms").to_numpy()
    if column.dtype == pl.String:
        numbers = column.cast(pl.Int64, strict=False)
        if numbers.null_count():
            return np.array([_iso_ms(path, text) for text in column.to_list()], dtype=np.int64)
        column = numbers
    if not column.dtype.is_numeric() or not column.is_finite().all():
        raise ConfigurationError(
            f"{path}: {column.name} is {column.dtype}, not a number of milliseconds or an ISO time"
        )
    largest = float(column.abs().max() or 0)  # type: ignore[arg-type]
    to_ms, per_ms = (
        (1000, 1) if largest < 1e11 else (1, 1) if largest < 1e14 else (1, 1000) if largest < 1e17 else (1, 10**6)
    )
    if column.dtype.is_float():
        return np.rint(column.to_numpy() * to_ms / per_ms).astype(np.int64)
    return column.cast(pl.Int64).to_numpy() * to_ms // per_ms


def _iso_ms(path: Path, text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{path}: {text!r} is neither milliseconds nor an ISO time") from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _numbers(path: Path, column: pl.Series) -> F64:
    try:
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError:
        raise ConfigurationError(f"{path}: column {column.name} has something that is no number") from None
