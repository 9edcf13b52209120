"""Recorded order flow (Parquet, CSV) as batches by event time, as if live. Knows no features and no server.

What a file holds is told by its columns:
trades    ts, price, qty, optionally trade_id
quotes    ts, bid, bid_sz, ask, ask_sz; of a file of several levels (ts, bid_px_1, bid_sz_1, ask_px_1, …) the best one
depth     ts, U, u, side, price, qty, is_snapshot, optionally pu: differences of the book and snapshots, a row a level

Times are UTC: milliseconds, seconds, microseconds, nanoseconds or ISO 8601. The symbol comes from the name, before date
and kind: binance-spot-BTCUSDT-20240808-trades.parquet is of BTCUSDT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast import tables
from candlecast.errors import ConfigurationError
from candlecast.values import I64, SYMBOL

Columns = tuple[Any, ...]
"""As _rust.FlowTrades, FlowQuotes or FlowDepth; the first is ts."""
PART_ROWS: Final = 65_536
"""Rows that one file takes from the disk at once: memory follows this, not the length of the files."""
BATCH_TRADES: Final = 8_192


class Kind(StrEnum):
    TRADES = "trades"
    QUOTES = "quotes"
    DEPTH = "depth"


_NAMES: Final[Mapping[Kind, tuple[tuple[str, ...], ...]]] = {
    # In the order of _rust's columns; the first name of a column that the file has is taken.
    Kind.DEPTH: (("U",), ("u",), ("pu",), ("side",), ("price",), ("qty",), ("is_snapshot",)),
    Kind.QUOTES: (
        ("bid", "bid_px_1"),
        ("bid_sz", "bid_size", "bid_sz_1"),
        ("ask", "ask_px_1"),
        ("ask_sz", "ask_size", "ask_sz_1"),
    ),
    Kind.TRADES: (("trade_id",), ("price",), ("qty",)),
}
_OPTIONAL: Final = {"trade_id": -1, "pu": 0}
_DTYPES: Final = dict.fromkeys(("trade_id", "U", "u", "pu"), np.int64) | {"side": np.int8, "is_snapshot": np.bool_}


@dataclass(frozen=True, slots=True)
class FlowFile:
    """What one look through a file tells."""

    path: Path
    symbol: str
    kind: Kind
    rows: int
    from_ms: int
    to_ms: int
    is_sorted: bool  # by time; a file of trades or quotes that is not is read as a whole
    time: tables.Time
    columns: tuple[str | None, ...]  # of the file, in the order of _NAMES; None: it has none of that


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """What happened to one symbol since the batch before and until `until_ms`; None: nothing of that kind."""

    symbol: str
    until_ms: int
    trades: Columns | None  # ts, id (-1: none), price, qty
    quotes: Columns | None  # ts, bid, bid_size, ask, ask_size
    depth: Columns | None  # ts, first, last and previous update id, side, price, qty, is_snapshot

    @property
    def rows(self) -> int:
        """Return how many rows of the files it holds."""
        return sum(len(columns[0]) for columns in (self.trades, self.quotes, self.depth) if columns is not None)


def survey(path: Path, symbol: str | None = None) -> FlowFile:
    """Look through the times of a file; `symbol` wins over its name.

    Raises:
        ConfigurationError: it is unreadable, empty, no recording of order flow, or says no symbol.
    """
    names = tables.columns(path)
    kind, found = _recognise(path, names)
    rows, is_sorted, are_numbers = 0, True, set[bool]()
    lowest, highest = np.inf, -np.inf
    for part in tables.parts(path, ["ts"], PART_ROWS):
        if part["ts"].null_count():
            raise ConfigurationError(f"{path}: ts is empty in some rows; every row needs it")
        times, is_number = tables.times(path, part["ts"])
        are_numbers.add(is_number)
        is_sorted &= bool(times[0] >= highest) and bool((times[1:] >= times[:-1]).all())
        lowest, highest = min(lowest, float(times.min())), max(highest, float(times.max()))
        rows += len(part)
    if not rows:
        raise ConfigurationError(f"{path}: the file has no rows; give one with rows or leave it out")
    if len(are_numbers) > 1:
        raise ConfigurationError(f"{path}: ts has numbers and ISO times; write all in one way")
    largest = max(abs(lowest), abs(highest))
    time = tables.Time("ts", 1, 1) if are_numbers == {False} else tables.Time.of_numbers("ts", largest)
    from_ms, to_ms = (int(time.ms(np.array([edge]))[0]) for edge in (lowest, highest))
    return FlowFile(path, symbol or symbol_of(path), kind, rows, from_ms, to_ms, is_sorted, time, found)


def symbol_of(path: Path) -> str:
    """Return the symbol that a file's name says.

    Raises:
        ConfigurationError: it says none.
    """
    name = recording_of(path).rpartition("-")
    symbol = name[0].rpartition("-")[2] if re.fullmatch(r"\d{6,8}[a-z]?", name[2]) else name[2]
    if not SYMBOL.fullmatch(symbol):
        raise ConfigurationError(
            f"{path}: the name says no symbol, as in binance-spot-BTCUSDT-20240808-trades{path.suffix};"
            " rename the file or give --symbol"
        )
    return symbol


def recording_of(path: Path) -> str:
    """Return the name of a file without its kind, such as binance-spot-BTCUSDT-20240808: trades and book share it."""
    return re.sub(r"-[a-z]+\d*$", "", path.stem)


def stream(files: Sequence[FlowFile], trades_max: int = BATCH_TRADES) -> Iterator[FlowBatch]:
    """Yield what files hold by event time, symbol by symbol within a stretch of time, as if live.

    Within a batch the book of a trade's own time stands before it, as the core takes it. Batches end between two times,
    so one has more than `trades_max` trades only when they are of one millisecond. Of one symbol one file of each kind.

    Raises:
        ConfigurationError: two files are the same kind of the same symbol, or a value is no number.
    """
    seen: dict[tuple[str, Kind], Path] = {}
    for file in files:
        if (other := seen.setdefault((file.symbol, file.kind), file.path)) != file.path:
            raise ConfigurationError(f"{other} and {file.path} are both {file.kind} of {file.symbol}; give one of them")
    feeds = [_Feed(file) for file in files]
    by_symbol: dict[str, dict[Kind, _Feed]] = {}
    for feed in feeds:
        by_symbol.setdefault(feed.file.symbol, {})[feed.file.kind] = feed
    horizon = -np.inf
    while horizon < np.inf:
        for feed in feeds:
            if feed.reaches <= horizon:
                feed.take_more()
        # A file may have more rows of the time that it reaches.
        horizon = min((feed.reaches for feed in feeds), default=np.inf)
        ready = {
            symbol: {kind: feed.before(horizon) for kind, feed in kinds.items()} for symbol, kinds in by_symbol.items()
        }
        batches = [batch for symbol, kinds in ready.items() for batch in _cut(symbol, kinds, trades_max)]
        yield from sorted(batches, key=lambda batch: batch.until_ms)


class _Feed:
    """One file's rows by time, of which the next are held."""

    def __init__(self, file: FlowFile) -> None:
        self.file = file
        self.reaches: float = -np.inf  # the newest time that is held; infinity when the file is at its end
        self._parts = _parts(file)
        self._held: Columns | None = None

    def take_more(self) -> None:
        part = next(self._parts, None)
        self.reaches = np.inf if part is None else float(part[0][-1])
        if part is not None:
            self._held = part if self._held is None else tuple(map(np.concatenate, zip(self._held, part, strict=True)))

    def before(self, horizon: float) -> Columns | None:
        """Give away the rows before the horizon; of one time, trades by their numbers."""
        if self._held is None:
            return None
        count = int(np.searchsorted(self._held[0], horizon))
        given, self._held = _slice(self._held, 0, count), _slice(self._held, count, None)
        if given is not None and self.file.kind is Kind.TRADES:
            order = np.lexsort((given[1], given[0]))
            given = tuple(column[order] for column in given)
        return given


def _cut(symbol: str, kinds: Mapping[Kind, Columns | None], trades_max: int) -> Iterator[FlowBatch]:
    """Yield what is known of one symbol in batches of at most so many trades, but for those of one time."""
    held = {kind: columns for kind, columns in kinds.items() if columns is not None}
    if not held:
        return
    ends = [max(int(columns[0][-1]) for columns in held.values())]
    if Kind.TRADES in held:
        ends = _ends(held[Kind.TRADES][0], trades_max)[:-1] + ends
    starts = dict.fromkeys(held, 0)
    for end in ends:
        cut: dict[str, Columns | None] = dict.fromkeys(Kind)
        for kind, columns in held.items():
            stop = int(np.searchsorted(columns[0], end, side="right"))
            cut[kind], starts[kind] = _slice(columns, starts[kind], stop), stop
        yield FlowBatch(symbol, end, **cut)


def _ends(ts: I64, rows_max: int) -> list[int]:
    """Return the last time of each stretch of at most so many rows, but for rows of one time."""
    ends, start = [], 0
    while start < len(ts):
        stop = min(start + rows_max, len(ts))
        if stop < len(ts) and ts[stop] == ts[stop - 1]:
            before = int(np.searchsorted(ts, ts[stop]))
            stop = before if before > start else int(np.searchsorted(ts, ts[stop], side="right"))
        ends.append(int(ts[stop - 1]))
        start = stop
    return ends


def _slice(columns: Columns, start: int, stop: int | None) -> Columns | None:
    return tuple(column[start:stop] for column in columns) if len(columns[0][start:stop]) else None


def _parts(file: FlowFile) -> Iterator[Columns]:
    """Yield the rows of a file by time, some at once.

    Depth keeps the order of the file, which is that of its update ids: a snapshot that is stamped earlier than the
    differences before it counts as of their time.
    """
    wanted = ["ts", *(name for name in file.columns if name)]
    parts = (_columns_of(file, part) for part in tables.parts(file.path, wanted, PART_ROWS))
    if file.kind is Kind.DEPTH:
        newest = np.iinfo(np.int64).min
        for ts, *others in parts:
            ts = np.maximum.accumulate(np.maximum(ts, newest))
            newest = ts[-1]
            yield ts, *others
    elif file.is_sorted:
        yield from parts
    else:
        whole: Columns = tuple(map(np.concatenate, zip(*parts, strict=True)))
        order = np.argsort(whole[0], kind="stable")
        yield tuple(column[order] for column in whole)


def _columns_of(file: FlowFile, part: pl.DataFrame) -> Columns:
    ts = file.time.ms(tables.times(file.path, part["ts"])[0])
    return ts, *(
        _column(file.path, part, name, spellings[0])
        for spellings, name in zip(_NAMES[file.kind], file.columns, strict=True)
    )


def _column(path: Path, part: pl.DataFrame, name: str | None, meaning: str) -> Any:
    """Return one column [N] as the core wants it; an absent id is -1 of a trade, 0 of depth."""
    dtype, absent = _DTYPES.get(meaning, np.float64), _OPTIONAL.get(meaning)
    if name is None:
        return np.full(len(part), absent, dtype=dtype)
    if dtype == np.float64:
        return tables.numbers(path, part[name])
    try:
        whole = part[name].cast(pl.Int64)
    except pl.exceptions.PolarsError:
        raise ConfigurationError(f"{path}: column {name} has something that is no whole number") from None
    if whole.null_count() and absent is None:
        raise ConfigurationError(f"{path}: {name} is empty in some rows; every level needs it")
    return whole.fill_null(absent or 0).to_numpy().astype(dtype)


def _recognise(path: Path, names: Sequence[str]) -> tuple[Kind, tuple[str | None, ...]]:
    """Tell the kind of a file by its columns, and which they are."""
    if "ts" in names:
        for kind, meanings in _NAMES.items():
            found = tuple(next((name for name in spellings if name in names), None) for spellings in meanings)
            if all(name or spellings[0] in _OPTIONAL for name, spellings in zip(found, meanings, strict=True)):
                return kind, found
    raise ConfigurationError(
        f"{path}: neither trades (ts, price, qty), nor quotes (ts, bid, bid_sz, ask, ask_sz), nor levels"
        " (ts, bid_px_1, bid_sz_1, ask_px_1, ask_sz_1), nor depth (ts, U, u, side, price, qty, is_snapshot);"
        f" it has {', '.join(names[:12]) or 'no columns'}{', …' if len(names) > 12 else ''}"
    )
