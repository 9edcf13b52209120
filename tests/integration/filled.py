"""Tables filled directly, for tests of what reads them. What writes them is tested elsewhere."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import numpy as np

from candlecast.gate import RECORD

OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")


def fill(dsn, table, columns, rows, time):
    """Copy rows into a partitioned table; `time` is the column of times."""

    async def copy():
        connection = await asyncpg.connect(dsn)
        try:
            months = sorted({row[columns.index(time)].date().replace(day=1) for row in rows})
            await connection.fetch("SELECT create_month_partitions($1, $2)", table, months)
            await connection.copy_records_to_table(table, columns=columns, records=rows)
        finally:
            await connection.close()

    asyncio.run(copy())


def utc(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


def number(value):
    return None if np.isnan(value) else float(value)


def fill_candles(dsn, batches):
    columns = ["symbol", "interval_ms", "open_time", "open", "high", "low", "close", "volume", *OPTIONAL]
    rows = [
        (name, int(interval), utc(int(ms)), *map(number, values))
        for batch in batches
        for name, interval, ms, values in zip(
            batch.names, batch.interval_ms, batch.open_time_ms, batch.values, strict=True
        )
    ]
    fill(dsn, "candles", columns, rows, "open_time")


def fill_flow(dsn, symbol, ts_ms, rows, *, asked=False):
    """Store records [N, 8] of gate.RECORD of one symbol; NaN as NULL."""
    columns = ["symbol", "ts", "gate_asked", "degraded", *RECORD]
    records = [(symbol, utc(int(ms)), asked, False, *map(number, row)) for ms, row in zip(ts_ms, rows, strict=True)]
    fill(dsn, "order_flow_features", columns, records, "ts")
