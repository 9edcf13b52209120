"""The server's own signals as they are stored, and what their trades brought. Knows no filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from candlecast.store.outcomes import OWN_STRATEGY
from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS

SIGNALS_MAX: Final = 10_000


async def recent_signals(pool: Pool, bars_max: int) -> list[Any]:
    """Return the signals whose positions may be open, in the order of their closes.

    Raises:
        StorageUnavailable.
    """
    return await pool.fetch(STATEMENTS["recent_signals"], bars_max, SIGNALS_MAX)


async def reasons_of(pool: Pool, closes: Sequence[tuple[str, int, int]]) -> list[Any]:
    """Return those of (symbol, interval_ms, close_time_ms) that were answered, by whichever version, with the reasons.

    Raises:
        StorageUnavailable.
    """
    columns = [list(column) for column in zip(*closes, strict=True)] or [[], [], []]
    return await pool.fetch(STATEMENTS["reasons_of"], *columns)


async def closed_trades(pool: Pool) -> list[Any]:
    """Return by series how many trades were closed, and sum, sum of squares and span of their returns.

    Raises:
        StorageUnavailable.
    """
    return await pool.fetch(STATEMENTS["closed_trades"], OWN_STRATEGY)
