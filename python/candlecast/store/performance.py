"""Signals of strategies, what they amount to, and how right forecasts were. Knows neither the wire nor who asks.

Every function that writes may be repeated: a key that is known changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from candlecast.errors import InvalidRequest, NotFound
from candlecast.store.pool import Connection, Pool, is_refusal
from candlecast.store.queries import statements

STATEMENTS: Final = statements("performance.sql")
STALE_DAYS_MAX: Final = 200
"""Counted anew in one transaction."""
ROUNDING: Final = 1e-9
"""Share of a position's size below which what is left open is nothing."""
ACCURACY_ROWS_MAX: Final = 10_000
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """A position that a strategy opened."""

    key: str
    strategy: str
    symbol: str
    side: str  # LONG, SHORT
    entry_price: float
    entry_time_ms: int
    size: float  # units of the symbol
    fees: float = 0.0
    confidence: float | None = None
    prediction: tuple[int, int, str, int] | None = None  # interval_ms, close_time_ms, model, version
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Closing:
    """A position that is closed, or a part of it."""

    key: str
    exit_price: float
    exit_time_ms: int
    size: float | None = None  # None: all that is open
    fees: float = 0.0
    close_key: str = ""


@dataclass(frozen=True, slots=True)
class AccuracyQuestion:
    """Which forecasts are asked about, and a row for each what."""

    model: str = ""  # every one
    version: int = 0
    symbol: str = ""
    horizon_bars: int = 0
    first_day: date | None = None
    last_day: date | None = None
    by_symbol: bool = False
    by_day: bool = False


async def log_signal(pool: Pool, opened: Opened) -> tuple[Row, bool]:
    """Write a signal; return it as it is stored, and whether it is new.

    Raises:
        StorageUnavailable, InvalidRequest: here and below.
    """
    prediction = opened.prediction or (None, None, None, None)
    created = await pool.fetch(
        STATEMENTS["log_signal"],
        opened.key,
        opened.strategy,
        opened.symbol,
        opened.side,
        opened.entry_price,
        opened.entry_time_ms,
        opened.size,
        opened.fees,
        opened.confidence,
        *prediction,
        json.dumps(dict(opened.metadata)),
    )
    return await signal(pool, opened.key), bool(created)


async def signal(pool: Pool, key: str) -> Row:
    """Return a signal.

    Raises:
        NotFound.
    """
    rows: Sequence[Row] = await pool.fetch(STATEMENTS["signal"], key)
    if not rows:
        raise NotFound(f"no signal has the key {key!r}")
    return rows[0]


async def close_signal(pool: Pool, closing: Closing) -> tuple[Row, bool]:
    """Close a position or a part of it; return the signal, and whether that changed anything.

    Raises:
        NotFound: no signal has this key.
    """
    try:
        async with pool.connection() as connection, connection.transaction():
            changed = await _close(connection, closing)
            (row,) = await connection.fetch(STATEMENTS["signal"], closing.key)
            return row, changed
    except Exception as error:
        if is_refusal(error):
            raise InvalidRequest("values", str(error).splitlines()[0]) from error
        raise


async def _close(connection: Connection, closing: Closing) -> bool:
    found = await connection.fetchrow(STATEMENTS["signal_to_close"], closing.key)
    if found is None:
        raise NotFound(f"no signal has the key {closing.key!r}")
    if found["status"] != "OPEN":
        return False
    left = found["size"] - found["closed_size"]
    size = left if closing.size is None else closing.size
    if closing.exit_time_ms < found["entry_time"].timestamp() * 1000:
        raise InvalidRequest("exit_time_ms", "is before the entry")
    args = closing.key, closing.close_key, size, closing.exit_price, closing.fees, closing.exit_time_ms
    if not await connection.fetch(STATEMENTS["record_close"], *args):
        return False
    if size > left + ROUNDING * found["size"]:
        raise InvalidRequest("size", f"{size:g} is more than the {left:g} that are open")
    value, fees = found["closed_value"] + size * closing.exit_price, found["fees"] + closing.fees
    if size >= left - ROUNDING * found["size"]:
        await connection.execute(STATEMENTS["close_whole"], closing.key, value, fees)
    else:
        await connection.execute(STATEMENTS["close_part"], closing.key, found["closed_size"] + size, value, fees)
    return True


async def refresh(pool: Pool, strategy: str | None = None) -> int:
    """Count anew the days that are out of date, of one strategy or of all; return how many there were."""
    count = 0
    while True:
        async with pool.connection() as connection, connection.transaction():
            stale = await connection.fetch(STATEMENTS["take_stale_days"], strategy, STALE_DAYS_MAX)
            if stale:
                columns = [row["strategy"] for row in stale], [row["day"] for row in stale]
                await connection.execute(STATEMENTS["forget_days"], *columns)
                await connection.execute(STATEMENTS["count_days"], *columns)
        count += len(stale)
        if len(stale) < STALE_DAYS_MAX:
            return count


async def strategy(
    pool: Pool, name: str, symbol: str, first_day: date | None, last_day: date | None, periods_per_year: float
) -> dict[str, Any]:
    """Return what the signals of a strategy amount to, of one symbol or ("") of all together.

    Raises:
        NotFound: it has no signal there.
    """
    await refresh(pool, name)
    ever = await pool.fetch(STATEMENTS["open_positions"], name, symbol)
    if not ever:
        raise NotFound(f"no signal of a strategy {name!r}{f' on {symbol}' if symbol else ''}")
    rows = await pool.fetch(STATEMENTS["strategy"], name, symbol, first_day, last_day, periods_per_year)
    found: dict[str, Any] = dict(rows[0]) if rows else {"strategy": name, "symbol": symbol}
    return found | {"open_positions": ever[0]["open_positions"]}


async def strategies(pool: Pool, periods_per_year: float) -> Sequence[Row]:
    """Return what every strategy's signals amount to, by name."""
    await refresh(pool)
    rows: Sequence[Row] = await pool.fetch(STATEMENTS["strategies"], periods_per_year)
    return rows


async def newest_trainings(pool: Pool) -> Sequence[Row]:
    """Return the newest training of each strategy or model, by name."""
    rows: Sequence[Row] = await pool.fetch(STATEMENTS["newest_trainings"])
    return rows


async def signals(
    pool: Pool, *, strategy: str, symbol: str, open_only: bool, limit: int, before: tuple[datetime, int] | None
) -> Sequence[Row]:
    """Return signals, newest entry first.

    Args:
        strategy, symbol: only of these; "": of all.
        before: entry time and id of the last one of the page before.
    """
    last = before or (datetime.max.replace(tzinfo=UTC), 0)
    name = "positions" if open_only else "signals_of_strategy" if strategy else "signals"
    of_strategy = (strategy,) if name != "signals" else ()
    rows: Sequence[Row] = await pool.fetch(STATEMENTS[name], limit, *last, symbol, *of_strategy)
    return rows


async def accuracy(pool: Pool, asked: AccuracyQuestion) -> Sequence[Row]:
    """Return how right forecasts were, ACCURACY_ROWS_MAX rows at most."""
    rows: Sequence[Row] = await pool.fetch(
        STATEMENTS["accuracy"],
        asked.model,
        asked.version,
        asked.symbol,
        asked.horizon_bars,
        asked.first_day,
        asked.last_day,
        asked.by_symbol,
        asked.by_day,
        ACCURACY_ROWS_MAX,
    )
    return rows


async def stored_predictions(
    pool: Pool, symbol: str, limit: int, before: tuple[datetime, str, int, str, int] | None
) -> Sequence[Row]:
    """Return stored forecasts with what came after them, newest close first.

    Args:
        symbol: only of this one; "": of all.
        before: key of the last one of the page before: close_time, symbol, interval_ms, model, version.
    """
    last = before or (datetime.max.replace(tzinfo=UTC), "", 0, "", 0)
    name, of_symbol = ("stored_predictions_of_symbol", (symbol,)) if symbol else ("stored_predictions", ())
    rows: Sequence[Row] = await pool.fetch(STATEMENTS[name], limit, *last, *of_symbol)
    return rows
