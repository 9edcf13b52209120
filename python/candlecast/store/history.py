"""What was stored before: candles as they moved the state or as they were in time, missed forecasts. Knows no state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from candlecast.errors import ConfigurationError
from candlecast.store.copied import copied
from candlecast.store.pool import Connection, Pool, open_pool, place_of
from candlecast.store.queries import STATEMENTS
from candlecast.values import I64, SYMBOL_BYTES, Candles, symbols

ROWS: Final = 4_096
"""Candles that are in memory at once."""
TIMEOUT_MS: Final = 300_000
"""Longest statement at a start, when nothing is in PostgreSQL's memory yet, and longest sort of candles."""
FAR_MS: Final = 32_503_680_000_000
"""The year 3000, where a span without an end ends."""

Key = tuple[str, int]
"""Symbol and interval in ms."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """N candles in the order in which they moved the state."""

    candles: Candles
    moved_ns: I64  # [N] those of one batch share it


async def recent_symbols(pool: Pool, since_ms: int, limit: int) -> list[Key]:
    """Return every symbol and interval with a candle that opened since then; `limit` at most.

    Raises:
        StorageUnavailable.
    """
    since = datetime.fromtimestamp(since_ms / 1000, UTC)
    async with _patient(pool) as connection:
        rows = await connection.fetch(STATEMENTS["recent_symbols"], since, limit, timeout=TIMEOUT_MS / 1000)
    return [(symbol, interval_ms) for symbol, interval_ms in rows]


async def before_the_newest(pool: Pool, keys: Sequence[Key], count: int) -> list[int]:
    """Return for each symbol the open time in ms before its newest `count` candles; -1 when it has no more.

    Raises:
        StorageUnavailable.
    """
    async with _patient(pool) as connection:
        rows = await connection.fetch(
            STATEMENTS["before_the_newest"], *_columns(keys, 2), count, timeout=TIMEOUT_MS / 1000
        )
    return [row[0] for row in rows]


async def accepted_after(
    pool: Pool, after: Mapping[Key, int], reference_symbol: str | None
) -> AsyncGenerator[Accepted, None]:
    """Yield the candles of each symbol after its open time in ms, all in the order in which they moved the state.

    Of candles that moved it together, those of the reference symbol go before the others of their bar.

    Raises:
        StorageUnavailable.
    """
    columns = _columns(((*key, open_time_ms) for key, open_time_ms in after.items()), 3)
    async with _patient(pool) as connection:
        cursor = await connection.cursor(STATEMENTS["accepted_after"], *columns, reference_symbol)
        while rows := await cursor.fetch(ROWS, timeout=TIMEOUT_MS / 1000):
            yield _accepted(rows)


async def unforecast(pool: Pool, closes: Sequence[tuple[str, int, int]], model: str, version: int | None) -> list[Key]:
    """Return those of (symbol, interval_ms, close_time_ms) that the model has neither answered nor missed to.

    Args:
        version: of the model; None: whichever.

    Raises:
        StorageUnavailable.
    """
    found = await pool.fetch(STATEMENTS["unforecast"], *_columns(closes, 3), model, version)
    return [(symbol, interval_ms) for symbol, interval_ms in found]


def read_candles(
    url: str,
    *,
    symbols: Sequence[str] | None = None,
    interval_ms: int,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Candles:
    """Return the stored candles that open in [start_ms, end_ms), in time order; of the same time by symbol.

    One snapshot of the table, symbol by symbol in the order of its index: memory is that of the answer twice.

    Args:
        symbols: only of these. Default: all.

    Raises:
        ConfigurationError: the URL is wrong, there is no such candle, or none of a symbol that was asked for.
        StorageUnavailable.
    """
    return asyncio.run(_read(url, symbols, interval_ms, start_ms, end_ms))


async def _read(
    url: str, names: Sequence[str] | None, interval_ms: int, start_ms: int | None, end_ms: int | None
) -> Candles:
    span = [
        datetime.fromtimestamp((given if given is not None else default) / 1000, UTC)
        for given, default in ((start_ms, 0), (end_ms, FAR_MS))
    ]
    async with (
        open_pool(url, connections_max=1, command_timeout_ms=TIMEOUT_MS) as pool,
        pool.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        stored = [row[0] for row in await connection.fetch(STATEMENTS["symbols_in"], interval_ms, *span)]
        missing = sorted(set(names or ()) - set(stored))
        if missing or not stored:
            what = ", ".join(missing) or "any symbol"
            raise ConfigurationError(
                f"the table candles at {place_of(url)} has none of {what} at an interval of {interval_ms} ms"
                f" from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M}; check symbols, interval and times"
            )
        wanted = stored if names is None else sorted(set(names))
        parts = [await _history_of(connection, symbol, interval_ms, span) for symbol in wanted]
    joined = Candles.joined(parts)
    return joined.take(np.argsort(joined.open_time_ms, kind="stable"))


async def _history_of(connection: Connection, symbol: str, interval_ms: int, span: Sequence[datetime]) -> Candles:
    asked = symbol, interval_ms, *span
    time, values = await copied(connection, STATEMENTS["history_of_symbol"], *asked, what=f"the candles of {symbol}")
    return Candles(
        symbol=np.full(len(time), symbol.encode("ascii"), dtype=f"S{SYMBOL_BYTES}"),
        interval_ms=np.full(len(time), interval_ms, dtype=np.int64),
        open_time_ms=time,
        values=values,
        forming=np.zeros(len(time), dtype=np.bool_),
    )


@asynccontextmanager
async def _patient(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection whose statements may take TIMEOUT_MS."""
    async with pool.connection() as connection, connection.transaction(readonly=True):
        await connection.execute(STATEMENTS["be_patient"], str(TIMEOUT_MS))
        yield connection


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _accepted(rows: Sequence[Any]) -> Accepted:
    symbol, interval_ms, open_time_ms, *values, moved_ns = zip(*rows, strict=True)
    return Accepted(
        Candles(
            symbol=symbols(symbol),
            interval_ms=np.array(interval_ms, dtype=np.int64),
            open_time_ms=np.array(open_time_ms, dtype=np.int64),
            # None, which is absent, becomes NaN.
            values=np.ascontiguousarray(np.array(values, dtype=np.float64).T),
            forming=np.zeros(len(rows), dtype=np.bool_),
        ),
        np.array(moved_ns, dtype=np.int64),
    )
