"""Order flow as it was stored, each symbol's records in time order. Knows no label and no gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from candlecast.errors import ConfigurationError
from candlecast.store.copied import copied
from candlecast.store.history import FAR_MS, TIMEOUT_MS
from candlecast.store.pool import open_pool, place_of
from candlecast.store.queries import STATEMENTS
from candlecast.values import F64, I64

RECORDS_MAX: Final = 5_000_000
"""Records that are read, the newest ones: 72 bytes each, 360 MB."""


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """N records of one symbol: its order flow as of the last trade of each interval, in time order."""

    symbol: str
    ts_ms: I64  # [N]
    rows: F64  # [N, 8] gate.RECORD; NaN: undefined


def read_flow(
    url: str,
    *,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    records_max: int = RECORDS_MAX,
    say: Callable[[str], None] = lambda line: None,
) -> list[StoredFlow]:
    """Return the records with a time in [start_ms, end_ms), of the symbols in their order.

    Those that a question to the gate left are not among them: they repeat what is there. One snapshot of the table,
    symbol by symbol in the order of its index.

    Args:
        symbols: only of these. Default: all.
        records_max: of all symbols together; what is older than the newest so many is left out.
        say: is told that something was left out.

    Raises:
        ConfigurationError: the URL is wrong, there is no such record, or none of a symbol that was asked for.
        StorageUnavailable.
    """
    return asyncio.run(_read(url, symbols, start_ms, end_ms, records_max, say))


async def _read(
    url: str,
    names: Sequence[str] | None,
    start_ms: int | None,
    end_ms: int | None,
    records_max: int,
    say: Callable[[str], None],
) -> list[StoredFlow]:
    start, end = (
        datetime.fromtimestamp((given if given is not None else default) / 1000, UTC)
        for given, default in ((start_ms, 0), (end_ms, FAR_MS))
    )
    async with (
        open_pool(url, connections_max=1, command_timeout_ms=TIMEOUT_MS) as pool,
        pool.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        stored = [row[0] for row in await connection.fetch(STATEMENTS["symbols_with_order_flow"], start, end)]
        missing = sorted(set(names or ()) - set(stored))
        if missing or not stored:
            what = ", ".join(missing) or "any symbol"
            raise ConfigurationError(
                f"the table order_flow_features at {place_of(url)} has no record of {what} from"
                f" {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}; check symbols and times, and that order flow is sent"
                " to the server (OrderFlow.Stream, or candlecast replay-flow)"
            )
        wanted = stored if names is None else sorted(set(names))
        beyond = await connection.fetch(STATEMENTS["order_flow_beyond"], start, end, records_max, wanted)
        if beyond:
            start = beyond[0][0] + timedelta(milliseconds=1)
            say(
                f"more than {records_max:,} records are stored: those before {start:%Y-%m-%d %H:%M:%S} are left out;"
                " ask for fewer symbols to reach further back"
            )
        found = []
        for symbol in wanted:
            asked = symbol, start, end
            ts_ms, rows = await copied(
                connection, STATEMENTS["order_flow_of_symbol"], *asked, what=f"the order flow of {symbol}"
            )
            found.append(StoredFlow(symbol, ts_ms, rows))
        return found
