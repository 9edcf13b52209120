"""A journal, its drain and a recorder over a pool, as the server puts them together, for the tests of the store."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from candlecast._rust import crc32c
from candlecast.journal import Journal
from candlecast.store.drain import Drain
from candlecast.store.recorder import Recorder
from tests.integration.conftest import FEATURES, STATES

LIMIT_S = 60


class Store:
    """Entered: `journal`, `drain` and `recorder` run."""

    def __init__(
        self,
        directory,
        pool,
        *,
        rows_max=4_000,
        stop_timeout_ms=10_000,
        drains=True,
        disk=None,
        segment=1 << 24,
        stored=lambda batches: None,
        **o,
    ):
        faults = {} if disk is None else {"write": disk.write, "sync": disk.sync}
        self.directory, self.pool, self._drains = directory, pool, drains
        self.journal = Journal(directory, checksum=crc32c, segment_bytes_max=segment, **faults)
        self.refused_path = directory / "refused.jsonl"
        self.drain = Drain(
            self.journal,
            pool,
            refused_path=self.refused_path,
            rows_max=rows_max,
            stop_timeout_ms=stop_timeout_ms,
            stored=stored,
        )
        self.recorder = Recorder(self.journal, self.drain, pool, feature_names=FEATURES, states=STATES, **o)
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        await self._stack.enter_async_context(self.journal)
        if self._drains:
            await self._stack.enter_async_context(self.drain)
        await self._stack.enter_async_context(self.recorder)
        return self

    async def __aexit__(self, *error):
        await self._stack.__aexit__(*error)

    async def record(self, candles, forecasts, missed=(), **options):
        async with asyncio.timeout(LIMIT_S):
            with self.recorder.admit(sum(map(len, filter(None, (candles, forecasts))))) as place:
                return await place.record(candles, forecasts, missed, **options)

    async def new(self, candles, forecasts, **options):
        """Record; return for each forecast whether it was new."""
        return (await self.record(candles, forecasts, **options)).new.tolist()

    async def caught_up(self):
        """Return once everything is in PostgreSQL."""
        async with asyncio.timeout(LIMIT_S):
            await self.recorder.settled()
            await self.drain.caught_up(self.journal.end)

    def refused(self):
        return [json.loads(line) for line in self.refused_path.read_text().splitlines()]


async def keys(dsn, table="ml_predictions"):
    """Return the keys in a table, in order; a doubled one twice."""
    time = "open_time" if table == "candles" else "close_time"
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(f"SELECT symbol, {time} FROM {table} ORDER BY symbol, {time}")
        return [(row[0], round(row[1].timestamp() * 1000)) for row in rows]
    finally:
        await connection.close()


def keys_of(*given):
    return sorted((s, t) for f in given for s, t in zip(f.names, f.close_time_ms.tolist(), strict=True))


async def until(true):
    """Return once a coroutine function or a function says true."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = true()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def locked(dsn):
    """Hold up every writer of PostgreSQL while the body runs."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE candles, ml_predictions IN EXCLUSIVE MODE", timeout=LIMIT_S)
            yield
    finally:
        await connection.close()
