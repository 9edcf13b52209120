"""Keeps outcomes and the results of strategies up to date beside serving. Knows when, not how.

Whoever stores candles says of which series; those are looked at a moment later, in passes that are bounded, over a
connection of its own. At the start every series with candles is looked at, so what closed while nobody looked is found.
Nobody waits for this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from candlecast.errors import CandlecastError
from candlecast.store import outcomes, performance
from candlecast.store.batch import Batch
from candlecast.store.outcomes import CANDLES_MIN, SURE_S, Series
from candlecast.store.pool import Connection, Pool, is_refusal, open_pool

GATHER_S: Final = 2.0
"""From the last candle of a close until its series are looked at: serving has the processor until then."""
GATHER_MAX_S: Final = 15.0
"""From the first one, while others keep coming: looking at a series costs much the same for one candle and for many."""
TICK_S: Final = 1.0
"""Pause between two looks at what is out of date."""
SERIES_MAX: Final = 32
"""In one pass."""
CANDLES_MAX: Final = 16_384
"""In one pass, unless SERIES_MAX series have more in CANDLES_MIN each."""
SERIES_PAGE: Final = 1_000
"""Listed at once at the start."""
BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0
SHARE: Final = 0.8
"""Of the time that passes may take while many are due."""
NICE: Final = 19
"""Of the backends that make the passes, where PostgreSQL runs on this machine: serving goes first."""
STOP_TIMEOUT_S: Final = 2.0
log = logging.getLogger(__name__)


class Tracking:
    """Follows outcomes while it is entered.

    Args:
        fees: what the server's own signals are charged, of the value of each fill.
        gather_s: pause between hearing of a close's last candles and looking at its series.
        workers: passes at once while much is to be found, each over a connection of its own; a second one is faster
            where processors and disk have nothing else to do.
        finds_all: look at every series there is when it starts.
        sure_s: as `outcomes.settle` has it.
        share: of the time, at most, that each worker works: what it leaves is serving's, whatever the kernel thinks of
            priorities.
    """

    def __init__(
        self,
        database_url: str,
        fees: float,
        *,
        gather_s: float = GATHER_S,
        workers: int = 1,
        finds_all: bool = True,
        sure_s: float = SURE_S,
        share: float = SHARE,
    ) -> None:
        self._share = share
        self._database_url = database_url
        self._fees = fees
        self._gather_s = gather_s
        self._workers = workers
        self._sure_s = sure_s
        self._due = dict[Series, None]()  # in the order in which they were heard of
        self._now = dict[Series, None]()  # those of this round: what is heard of meanwhile is of the next one
        self._stuck = dict[Series, float]()  # and when they may be looked at again, by the monotonic clock
        self._heard = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._knows_all = not finds_all
        self.forecasts = 0
        """That learnt of an outcome since the start."""
        self.failure: str | None = None
        """Why outcomes cannot be written now."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)

    @property
    def waiting(self) -> int:
        """Return how many series are to be looked at."""
        return len(self._now) + len(self._due) + len(self._stuck)

    def stored(self, batches: Sequence[Batch]) -> None:
        """Hear that rows are in PostgreSQL."""
        for batch in batches:
            self.look_at(batch.series)

    def look_at(self, series: Iterable[Series]) -> None:
        """Take note that series have candles that were not there before."""
        self._due.update(dict.fromkeys(series))
        if self._due:
            self._heard.set()
            self._idle.clear()

    async def caught_up(self) -> None:
        """Return once everything that was heard of has been looked at, and the days of strategies are counted."""
        await self._idle.wait()

    async def _run(self) -> None:
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                async with AsyncExitStack() as stack:
                    pool = await stack.enter_async_context(
                        open_pool(
                            self._database_url,
                            connections_max=self._workers + 1,
                            command_timeout_ms=outcomes.TIMEOUT_MS,
                        )
                    )
                    lent = [await stack.enter_async_context(pool.connection()) for _ in range(self._workers)]
                    for connection in lent:
                        await outcomes.prepare(connection)
                        await _step_back(connection, self._database_url)
                    await self._remember(lent[0])
                    self.failure, pause_s = None, BACKOFF_MIN_S
                    await self._follow(lent, pool)
            except Exception as error:
                if not isinstance(error, CandlecastError):
                    log.exception("a mistake of ours: outcomes are tried again")
                self.failure = str(error)
                log.warning("outcomes wait retry_seconds=%.0f because=%s", pause_s, self.failure)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def _remember(self, connection: Connection) -> None:
        """Find every series there is, once."""
        last: Series = ("", 0)
        while not self._knows_all:
            page = await outcomes.series_after(connection, last, SERIES_PAGE)
            self._due.update(dict.fromkeys(page))
            self._knows_all = len(page) < SERIES_PAGE
            if page:
                last = page[-1]

    async def _follow(self, lent: Sequence[Connection], pool: Pool) -> None:
        while True:
            await self._settle(lent)
            await performance.refresh(pool)
            now = time.monotonic()
            self._due.update(dict.fromkeys(series for series, at in self._stuck.items() if at <= now))
            self._stuck = {series: at for series, at in self._stuck.items() if at > now}
            if not self._due:
                self._idle.set()
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._heard.wait()
                except TimeoutError:
                    continue
            await self._gather()

    async def _gather(self) -> None:
        """Wait until no more candles come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(GATHER_MAX_S, self._gather_s)):
                while self._heard.is_set():
                    self._heard.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._gather_s):
                            await self._heard.wait()

    async def _settle(self, lent: Sequence[Connection]) -> None:
        """Look at every series that is due, until there is nothing to find."""
        begin, before = time.monotonic(), self.forecasts
        self._now, self._due = self._now | self._due, {}
        workers = [asyncio.create_task(self._work(connection)) for connection in lent]
        try:
            await asyncio.gather(*workers)
        finally:  # a connection is of no use while a statement of its runs
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        spent = time.monotonic() - begin
        if found := self.forecasts - before:
            log.info("outcomes forecasts=%d seconds=%.2f", found, spent)

    async def _work(self, connection: Connection) -> None:
        while self._now:
            begin = time.monotonic()
            some = list(self._now)[:SERIES_MAX]
            for series in some:  # another worker may look at the rest
                del self._now[series]
            try:
                found = await self._settle_some(connection, some)
            except BaseException:
                self._now.update(dict.fromkeys(some))
                raise
            self.forecasts += found
            await asyncio.sleep((time.monotonic() - begin) * (1 / self._share - 1))

    async def _settle_some(self, connection: Connection, some: list[Series]) -> int:
        """Look at some series together; where PostgreSQL refuses what one of them gives, each by itself."""
        try:
            done = await outcomes.settle(
                connection,
                some,
                self._fees,
                candles_max=max(CANDLES_MAX // len(some), CANDLES_MIN),
                sure_s=self._sure_s,
            )
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(some) == 1:
                log.error("outcomes refused symbol=%s interval_ms=%d error=%s", *some[0], error)
                return 0
            return sum([await self._settle_some(connection, [series]) for series in some])
        self._now.update(dict.fromkeys(done.unfinished))
        self._stuck.update(dict.fromkeys(done.stuck, time.monotonic() + max(self._sure_s, 1) / 4))
        return done.forecasts


async def _step_back(connection: Connection, url: str) -> None:
    """Let serving go first where the backend is a process of this machine and ours to say; else nothing happens."""
    if "host=/" not in url and "host=%2F" not in url:
        return
    _renice(int(await connection.fetchval("SELECT pg_backend_pid()")))


def _renice(pid: int) -> None:
    try:
        if "postgres" in Path(f"/proc/{pid}/comm").read_text():
            os.setpriority(os.PRIO_PROCESS, pid, NICE)
    except OSError as error:
        log.info("outcomes run at the priority of serving: %s", error)
