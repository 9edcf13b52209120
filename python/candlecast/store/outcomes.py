"""What happened after forecasts, written back series by series, each pass one transaction. Knows not when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from candlecast import outputs
from candlecast.errors import StorageUnavailable
from candlecast.store.pool import Connection
from candlecast.store.queries import statements

STATEMENTS: Final = statements("outcomes.sql")
OWN_STRATEGY: Final = "candlecast"
"""The name that the server's own signals are logged under; nobody else may use it."""
SURE_S: Final = 60
"""Once a candle has been stored so long, nothing older comes: a candle would be late, a forecast has been given up."""
TIMEOUT_MS: Final = 60_000
"""Longest statement of a pass."""
CANDLES_MIN: Final = 2 * max(outputs.HORIZON_BARS)
"""Of a series in a pass: fewer would not reach from a forecast to its last outcome."""

Series = tuple[str, int]
"""Symbol and interval in ms."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass has done."""

    forecasts: int  # that learnt of something
    unfinished: tuple[Series, ...]  # with more candles than were looked at
    stuck: tuple[Series, ...]  # the same, but nothing can be done before they are sure


async def prepare(connection: Connection) -> None:
    """Make a connection ready for passes; it is of no other use then."""
    await connection.execute("SET plan_cache_mode = force_custom_plan; SET enable_mergejoin = off")
    await connection.execute(STATEMENTS["outcome_rooms"])


async def settle(
    connection: Connection,
    series: Sequence[Series],
    fees: float,
    *,
    candles_max: int,
    sure_s: float = SURE_S,
) -> Pass:
    """Write the outcomes that the stored candles give to the forecasts of some series, each once.

    Args:
        connection: prepared.
        fees: what the server's own signals are charged, of the value of each fill.
        candles_max: candles of each series that are looked at, CANDLES_MIN at least.

    Raises:
        StorageUnavailable, asyncpg's errors: nothing was written.
    """
    assert candles_max >= CANDLES_MIN, "too few to get on"
    columns = [symbol for symbol, _ in series], [interval_ms for _, interval_ms in series]

    async def run(name: str, *values: object) -> None:
        await connection.execute(STATEMENTS[name], *values, timeout=TIMEOUT_MS / 1000)

    async with connection.transaction():
        await run("outcome_begin", str(TIMEOUT_MS))
        await run("outcome_locks", *columns)
        await run("outcome_candles", *columns, candles_max)
        await run("outcome_series", *columns, float(sure_s))
        # What is not asked by a key is joined by hashing: the planner knows nothing of what has just been found.
        await connection.execute("SET LOCAL enable_nestloop = off")
        await run("outcome_rows", *outputs.THRESHOLDS, outputs.HOLD_BARS, candles_max)
        await connection.execute("SET LOCAL enable_nestloop = on")
        count = int(await connection.fetchval(STATEMENTS["outcome_count"]))
        if count:
            await _write(connection, count)
        await run("outcome_turn")
        if count:
            await run("outcome_accuracy")
            await run("outcome_exits")
        await run("outcome_signals", OWN_STRATEGY, fees)
        ended = await connection.fetch(STATEMENTS["outcome_marks"], candles_max, timeout=TIMEOUT_MS / 1000)
    more = [((row["symbol"], row["interval_ms"]), row["has_moved"]) for row in ended if row["has_more"]]
    return Pass(count, tuple(one for one, moved in more if moved), tuple(one for one, moved in more if not moved))


async def _write(connection: Connection, count: int) -> None:
    """Write what is new of `count` forecasts, row by row: joined by hashing, whole partitions would be read."""
    written = 0
    await connection.execute("SET LOCAL enable_hashjoin = off")
    for (part,) in await connection.fetch(STATEMENTS["outcome_parts"]):
        statement = STATEMENTS["outcome_write"].replace("ml_predictions", part)
        done = await connection.execute(statement, list(outputs.CLASSES), timeout=TIMEOUT_MS / 1000)
        written += int(done.split()[-1])
    await connection.execute("SET LOCAL enable_hashjoin = on")
    if written != count:
        raise StorageUnavailable(f"{count - written} forecasts were changed by somebody else meanwhile")


async def series_after(connection: Connection, last: Series, limit: int) -> list[Series]:
    """Return the next series that have candles, in order; the first ones after ("", 0)."""
    rows = await connection.fetch(STATEMENTS["candle_series_after"], *last, limit, timeout=TIMEOUT_MS / 1000)
    return [(symbol, interval_ms) for symbol, interval_ms in rows]
