"""Rows that wait for PostgreSQL and the task that writes them, grouped without a timer. Knows no caller but its future.

While one flush is under way, whatever comes is the next flush: one round trip and one commit for all who wait. Rows
that could not be written stay and are tried again until PostgreSQL is back; a key that is there already stays as it
is, so that trying again is harmless. A row that PostgreSQL will never take is set aside, and its caller told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from candlecast.errors import StorageUnavailable
from candlecast.store import predictions as prediction_rows
from candlecast.store.pool import Pool
from candlecast.store.writer import Row, Writer

BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Part:
    """Rows of one caller that are written together."""

    candles: list[Row]
    predictions: list[Row]
    done: asyncio.Future[list[bool]]  # whether each prediction is new; cancelled when it will never be known
    refused: list[str] = field(default_factory=list)  # why, of each row that will never be stored

    def __len__(self) -> int:
        return len(self.candles) + len(self.predictions)


class Flusher:
    """Writes parts while the body runs; leaving it writes what still waits.

    Args:
        flush_rows_max: rows of one transaction, unless a single part has more.
        stop_timeout_ms: longest wait for what still waits when leaving.
    """

    def __init__(self, pool: Pool, *, flush_rows_max: int, stop_timeout_ms: int) -> None:
        self._pool = pool
        self._flush_rows_max = flush_rows_max
        self._stop_timeout_ms = stop_timeout_ms
        self._waiting: deque[Part] = deque()
        self._under_way: list[Part] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.rows = 0
        """Rows that wait or are under way."""
        self.stopping = False
        self.failure: str | None = None
        """Why rows cannot be written now."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self.stopping = True
        self._wake.set()
        try:
            await asyncio.wait({self._task}, timeout=self._stop_timeout_ms / 1000)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            for part in (*self._under_way, *self._waiting):
                part.done.cancel()
            if self.rows:
                log.error("rows lost at stop rows=%d because=%s", self.rows, self.failure)

    def put(self, parts: Sequence[Part]) -> None:
        """Queue parts; their futures are done when they are committed."""
        self._waiting.extend(parts)
        self.rows += sum(map(len, parts))
        self._wake.set()
        if self._task is None or self._task.done():
            for part in parts:
                part.done.cancel()

    async def _run(self) -> None:
        """Write what comes, until stopped and empty; begin anew on a fresh connection when PostgreSQL was away."""
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                async with self._pool.connection() as connection:
                    writer = await Writer.on(connection)
                    if not self._under_way:
                        self.failure = None
                    while await self._next():
                        await self._flush(writer)
                        if self.failure is not None:
                            log.info("storing again rows=%d", self.rows)
                        pause_s, self.failure = BACKOFF_MIN_S, None
                return
            except Exception as error:
                if not isinstance(error, StorageUnavailable):
                    log.exception("a mistake of ours: rows are tried again")
                self.failure = str(error) if isinstance(error, StorageUnavailable) else repr(error)
                log.warning("not stored rows=%d retry_seconds=%.2f because=%s", self.rows, pause_s, self.failure)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def _next(self) -> bool:
        """Wait for rows and take them under way; False: stopped, and nothing waits."""
        while not self._under_way:
            rows = 0
            while self._waiting and (rows == 0 or rows + len(self._waiting[0]) <= self._flush_rows_max):
                rows += len(self._waiting[0])
                self._under_way.append(self._waiting.popleft())
            if not rows:
                if self.stopping:
                    return False
                self._wake.clear()
                await self._wake.wait()
        return True

    async def _flush(self, writer: Writer) -> None:
        """Write what is under way and tell the callers."""
        parts = self._under_way
        new, refused = await writer.write(
            [row for part in parts for row in part.candles], [row for part in parts for row in part.predictions]
        )
        self._under_way = []
        for part in parts:
            self.rows -= len(part)
            if refused:
                part.refused = [refused[row] for row in (*part.candles, *part.predictions) if row in refused]
            answers = []
            for row in part.predictions:
                key = row[: prediction_rows.KEY]
                answers.append(key in new)
                new.discard(key)  # the same key once more, from this or another caller, is not new
            if not part.done.done():
                part.done.set_result(answers)
