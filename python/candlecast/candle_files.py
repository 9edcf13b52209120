"""Candle files (Parquet, CSV) as columns: one by one, merged as if live, or streamed. Knows no features and no server.

Columns: `ts` or `open_time` (the bar's open, UTC; milliseconds, seconds, microseconds, nanoseconds or ISO 8601), `open,
high, low, close, volume`, optionally `quote_volume, trades, taker_buy_volume` and `symbol`. A file is named
`SYMBOL-INTERVAL.parquet` or `.csv`; with a `symbol` column only the `-INTERVAL` part matters, and without that the
interval is the smallest step between two candles of one symbol.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from candlecast import tables
from candlecast.errors import ConfigurationError
from candlecast.tables import Time
from candlecast.values import F64, I64, SYMBOL, Candles, symbols

REQUIRED: Final = ("open", "high", "low", "close", "volume")
OPTIONAL: Final = ("quote_volume", "trades", "taker_buy_volume")
UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
PART_CANDLES: Final = 8_192
"""Candles that a stream takes at once, of all files together: its memory follows this, not the length of the files."""


@dataclass(frozen=True, slots=True)
class CandleFile:
    """What one look through a file tells."""

    path: Path
    interval_ms: int
    candles: Mapping[str, int]  # by symbol
    optional: Mapping[str, frozenset[str]]  # by column of OPTIONAL: the symbols that it has a finite value of
    is_sorted: bool  # by time; one that is not is read as a whole, 100 bytes a candle
    time: Time


def survey(path: Path) -> CandleFile:
    """Look through a file, part by part.

    Raises:
        ConfigurationError: the file is unreadable, empty, lacks a column or an interval; the message says what to do.
    """
    names = tables.columns(path)
    time = next((name for name in ("open_time", "ts") if name in names), None)
    missing = [name for name in REQUIRED if name not in names] + ([] if time else ["open_time (or ts)"])
    if time is None or missing:
        raise ConfigurationError(f"{path}: no column {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    _, interval_ms = _from_name(path)
    look = _Look(path, time, keep_times=interval_ms is None and "symbol" in names)
    for part in tables.parts(path, [name for name in names if name in (time, "symbol", *OPTIONAL)], PART_CANDLES):
        look.add(part)
    unit = look.unit()
    interval_ms = interval_ms or _smallest_step_ms(path, look.kept, unit)
    if not interval_ms:
        raise ConfigurationError(
            f"{path}: no symbol column, and the name is not SYMBOL-INTERVAL such as BTCUSDT-15m{path.suffix}"
            " (intervals: a number and s, m, h, d or w); rename the file"
        )
    return CandleFile(
        path=path,
        interval_ms=interval_ms,
        candles=look.candles,
        optional={name: frozenset(look.optional[name]) for name in OPTIONAL},
        is_sorted=look.is_sorted,
        time=unit,
    )


def read(path: Path) -> Candles:
    """Read one file, sorted by open time; values [N, 8] as in `Candles`, NaN = absent. Candles are not judged here.

    Raises:
        ConfigurationError: as `survey`, or a price or volume is no number.
    """
    return Candles.joined(list(_sorted(survey(path), PART_CANDLES)))


def stream(files: Sequence[CandleFile]) -> Iterator[Candles]:
    """Yield the candles of one or more surveyed files in the order of their close, as if live, some thousand at once.

    Those of one close are in the order of the files and are never torn apart.

    Raises:
        ConfigurationError: a price or volume is no number.
    """
    feeds = [_Feed(_sorted(file, max(PART_CANDLES // len(files), 64))) for file in files]
    horizon = -np.inf
    while horizon < np.inf:
        for feed in feeds:
            if feed.reaches <= horizon:
                feed.take_more()
        # A file may have more candles of the close that it reaches.
        horizon = min(feed.reaches for feed in feeds)
        ready = Candles.joined([feed.before(horizon) for feed in feeds])
        if len(ready):
            yield ready.take(np.argsort(closes_ms(ready), kind="stable"))


def write(path: Path, candles: Candles) -> None:
    """Write candles of one interval as a file that is read again; its name must end in -INTERVAL.parquet.

    Raises:
        CandlecastError: it cannot be written.
    """
    columns = {"symbol": candles.names, "open_time": candles.open_time_ms}
    prices = pl.from_numpy(candles.values, schema=[*REQUIRED, *OPTIONAL])
    frame = pl.DataFrame(columns).hstack(prices)
    tables.write(path, frame.schema, iter([frame]))


def closes_ms(candles: Candles) -> I64:
    """Return when each candle closes, and so is known."""
    return candles.open_time_ms + candles.interval_ms


def load(paths: Sequence[Path]) -> Candles:
    """Read all files as one set of columns in the order of their close, as if live; 100 bytes a candle.

    Raises:
        ConfigurationError: as `read`, or there are no files.
    """
    if not paths:
        raise ConfigurationError("no candle files given")
    joined = Candles.joined([read(path) for path in paths])
    return joined.take(np.argsort(closes_ms(joined), kind="stable"))


def merged(candles: Candles, limit: int | None = None) -> Iterator[Candles]:
    """Yield what `load` gave, one batch per close time across symbols and intervals; at most `limit` candles in all."""
    closed = closes_ms(candles)[:limit]
    edges = np.flatnonzero(np.diff(closed, prepend=-1, append=-1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield candles.take(np.arange(start, stop))


def interval_from(text: str) -> int | None:
    """Return the milliseconds of an interval such as 15m, 1h or 1d; None when it is not one."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhdw])", text)
    return int(match[1]) * UNITS_MS[match[2]] if match else None


class _Look:
    """What the parts of a file have told so far."""

    def __init__(self, path: Path, time: str, *, keep_times: bool) -> None:
        self.candles = Counter[str]()
        self.optional: dict[str, set[str]] = {name: set() for name in OPTIONAL}
        self.is_sorted = True
        self.kept: list[tuple[list[str], I64 | F64]] = []  # symbols and times: the interval must be found in them
        self._path, self._time, self._keep_times = path, time, keep_times
        self._lowest, self._highest = np.inf, -np.inf
        self._empty = 0
        self._are_numbers = set[bool]()

    def add(self, part: pl.DataFrame) -> None:
        if part[self._time].null_count():
            self._empty += part[self._time].null_count()
            return
        times, are_numbers = tables.times(self._path, part[self._time])
        self.is_sorted &= bool(times[0] >= self._highest) and bool((times[1:] >= times[:-1]).all())
        self._lowest, self._highest = min(self._lowest, float(times.min())), max(self._highest, float(times.max()))
        self._are_numbers.add(are_numbers)
        symbol = _symbols(self._path, part)
        self.candles.update(symbol)
        for name in [name for name in OPTIONAL if name in part.columns]:
            if len(self.optional[name]) < len(self.candles):
                finite = np.isfinite(tables.numbers(self._path, part[name]))
                self.optional[name].update(np.array(symbol, dtype=object)[finite].tolist())
        if self._keep_times:
            self.kept.append((symbol, times))

    def unit(self) -> Time:
        """Return the unit of the times; raise when there is something wrong with the parts."""
        if self._empty:
            raise ConfigurationError(
                f"{self._path}: {self._time} is empty in {self._empty} rows; every candle needs it"
            )
        if not self.candles:
            raise ConfigurationError(f"{self._path}: the file has no candles; give one with rows or leave it out")
        for name in self.candles:
            if not isinstance(name, str) or not SYMBOL.fullmatch(name):
                raise ConfigurationError(
                    f"{self._path}: {name!r} is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -"
                )
        if len(self._are_numbers) > 1:
            raise ConfigurationError(f"{self._path}: {self._time} has numbers and ISO times; write all in one way")
        if self._are_numbers == {False}:
            return Time(self._time, 1, 1)
        return Time.of_numbers(self._time, max(abs(self._lowest), abs(self._highest)))


class _Feed:
    """One file's candles, of which the next are held."""

    def __init__(self, parts: Iterator[Candles]) -> None:
        self.reaches: float = -np.inf  # the newest close that is held; infinity when the file is at its end
        self._parts = parts
        self._held = _NO_CANDLES

    def take_more(self) -> None:
        part = next(self._parts, None)
        self.reaches = np.inf if part is None else float(closes_ms(part)[-1])
        if part is not None:
            self._held = Candles.joined([self._held, part])

    def before(self, horizon: float) -> Candles:
        """Give away the candles that close before the horizon."""
        count = int(np.searchsorted(closes_ms(self._held), horizon))
        given = self._held.take(np.arange(count))
        self._held = self._held.take(np.arange(count, len(self._held)))
        return given


_NO_CANDLES: Final = Candles(
    symbol=symbols([]),
    interval_ms=np.empty(0, dtype=np.int64),
    open_time_ms=np.empty(0, dtype=np.int64),
    values=np.empty((0, len(REQUIRED + OPTIONAL))),
    forming=np.empty(0, dtype=np.bool_),
)


def _sorted(file: CandleFile, size: int) -> Iterator[Candles]:
    """Yield the candles of a file by open time, about `size` at once."""
    wanted = (file.time.column, "symbol", *REQUIRED, *OPTIONAL)
    columns = [name for name in tables.columns(file.path) if name in wanted]
    parts = (_candles(file, part) for part in tables.parts(file.path, columns, size))
    if file.is_sorted:
        yield from parts
    else:
        whole = Candles.joined(list(parts))
        order = np.argsort(whole.open_time_ms, kind="stable")
        for start in range(0, len(whole), size):
            yield whole.take(order[start : start + size])


def _candles(file: CandleFile, part: pl.DataFrame) -> Candles:
    values = np.full((len(part), len(REQUIRED + OPTIONAL)), np.nan)
    for k, name in enumerate(REQUIRED + OPTIONAL):
        if name in part.columns:
            values[:, k] = tables.numbers(file.path, part[name])
    return Candles(
        symbol=symbols(_symbols(file.path, part)),
        interval_ms=np.full(len(part), file.interval_ms, dtype=np.int64),
        open_time_ms=file.time.ms(tables.times(file.path, part[file.time.column])[0]),
        values=values,
        forming=np.zeros(len(part), dtype=np.bool_),
    )


def _symbols(path: Path, part: pl.DataFrame) -> list[str]:
    if "symbol" in part.columns:
        return part["symbol"].cast(pl.String).to_list()
    return [_from_name(path)[0]] * len(part)


def _from_name(path: Path) -> tuple[str, int | None]:
    symbol, _, interval = path.stem.rpartition("-")
    return symbol, interval_from(interval)


def _smallest_step_ms(path: Path, parts: Sequence[tuple[list[str], I64 | F64]], unit: Time) -> int | None:
    """Return the smallest step between two candles of one symbol; None when there are no parts to look for it in."""
    by_symbol: dict[str, list[int]] = {}
    for symbol, times in parts:
        for name, time in zip(symbol, unit.ms(times).tolist(), strict=True):
            by_symbol.setdefault(name, []).append(time)
    if not by_symbol:
        return None
    steps = np.concatenate([np.diff(np.sort(times)) for times in by_symbol.values()])
    if not (steps > 0).any():
        raise ConfigurationError(
            f"{path}: its interval is unknown; name the file …-INTERVAL, such as all-15m{path.suffix}"
        )
    return int(steps[steps > 0].min())
