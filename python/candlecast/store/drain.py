"""From the journal into PostgreSQL, for as long as it takes. Knows neither callers nor models.

Records are read where the mark stands, written in one transaction, and then the mark moves: what was written and not
marked is written once more, which changes nothing, because a key that is there already stays as it is. While PostgreSQL
is away the records wait on disk. A row that it will never take is set aside with the reason, and the others go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from candlecast.errors import StorageUnavailable
from candlecast.journal import Journal
from candlecast.store.batch import Batch
from candlecast.store.pool import Pool
from candlecast.store.writer import Refused, Writer

BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 2.0
GATHER_MS: Final = 250
"""Pause after a transaction of fewer than FEW_ROWS, in which more gather."""
FEW_ROWS: Final = 500
WRITERS: Final = 2
"""Connections that write at once when much waits: PostgreSQL spends a core on each."""
READ_BYTES_MAX: Final = 4 * 1024 * 1024
REFUSED_BYTES_MAX: Final = 64 * 1024 * 1024
log = logging.getLogger(__name__)


class Drain:
    """Writes records while it is entered; leaving it writes what is left, for a limited time.

    Args:
        refused_path: where rows that PostgreSQL refuses are set aside, one JSON object a line.
        rows_max: rows of one transaction, unless a single record has more.
        stop_timeout_ms: longest wait for what is left when leaving; the rest stays in the journal.
        stored: told of rows that are in PostgreSQL; it only takes note.
    """

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        *,
        refused_path: Path,
        rows_max: int,
        stop_timeout_ms: int,
        stored: Callable[[Sequence[Batch]], None] = lambda batches: None,
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._refused_path = refused_path
        self._rows_max = rows_max
        self._stop_timeout_ms = stop_timeout_ms
        self._stored = stored
        self._stopping = asyncio.Event()
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: str | None = None
        """Why rows cannot be written now."""
        self.refused_rows = 0
        """Rows set aside since the start."""
        self.written_rows = 0
        """Rows handed over since the start, those refused among them."""
        self._stored_until_s = time.monotonic()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._stopping.set()
        self._hurry.set()
        try:
            if self.failure is None:
                await asyncio.wait({self._task}, timeout=self._stop_timeout_ms / 1000)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if left := self._journal.end - self._journal.mark:
                log.warning("left in the journal bytes=%d because=%s", left, self.failure or "no time")

    @property
    def lag_s(self) -> float:
        """Return for how long something has waited for PostgreSQL, 0 while nothing does."""
        if self._journal.end <= self._journal.mark:
            return 0.0
        return time.monotonic() - self._stored_until_s

    async def caught_up(self, position: int) -> None:
        """Return once everything before a position of the journal is in PostgreSQL."""
        while self._journal.mark < position:
            self._hurry.set()
            self._moved.clear()
            await self._moved.wait()

    async def _run(self) -> None:
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                async with AsyncExitStack() as stack:
                    lent = [await stack.enter_async_context(self._pool.connection()) for _ in range(WRITERS)]
                    writers = [await Writer.on(connection) for connection in lent]
                    if self._journal.end <= self._journal.mark:
                        self.failure = None
                    while await self._something_to_do():
                        behind = self._journal.end - self._journal.mark > READ_BYTES_MAX
                        rows = await self._step(writers)
                        if behind and self._journal.end - self._journal.mark <= READ_BYTES_MAX:
                            await asyncio.to_thread(_give_memory_back)
                        pause_s, self.failure = BACKOFF_MIN_S, None
                        if rows < FEW_ROWS:
                            await self._pause()
                return
            except Exception as error:
                if not isinstance(error, StorageUnavailable):
                    log.exception("a mistake of ours: rows are tried again")
                self.failure = str(error) if isinstance(error, StorageUnavailable) else repr(error)
                if self._stopping.is_set():
                    return
                if self._journal.end <= self._journal.mark:
                    self._stored_until_s = time.monotonic()
                waiting = self._journal.size
                log.warning("not stored bytes=%d retry_seconds=%.2f because=%s", waiting, pause_s, self.failure)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def _something_to_do(self) -> bool:
        """Wait for records; False: we stop, and there are none."""
        if self._journal.end > self._journal.mark:
            return True
        waits = [asyncio.ensure_future(self._journal.wait()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._stored_until_s = time.monotonic()  # what has come, has come just now
        return self._journal.end > self._journal.mark

    async def _pause(self) -> None:
        """Let rows gather, unless somebody waits for them: a transaction of a few costs as much as one of many."""
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_MS / 1000):
                await self._hurry.wait()

    async def _step(self, writers: Sequence[Writer]) -> int:
        """Write what waits, by all writers at once when it is much, move the mark behind it, return how many rows."""
        begun_s, end = time.monotonic(), self._journal.end
        position, parts, refused = self._journal.mark, list[list[Batch]](), list[Refused]()
        while len(parts) < len(writers) and position < self._journal.end:
            batches, position, strange = await self._read(position)
            parts.append(batches)
            refused += strange
        writes = [asyncio.create_task(_write(writer, part)) for writer, part in zip(writers, parts, strict=False)]
        try:
            for one in await asyncio.gather(*writes):
                refused += one
        finally:  # a writer is of no use while another statement of its runs
            for write in writes:
                write.cancel()
            await asyncio.gather(*writes, return_exceptions=True)
        if refused:
            await asyncio.to_thread(self._set_aside, refused)
        await self._journal.advance(position)
        self._moved.set()
        if position >= end:  # all that was there when we began
            self._stored_until_s = begun_s
        for part in parts:
            self._stored(part)
        rows = sum(len(batch) for part in parts for batch in part)
        self.written_rows += rows
        return rows

    async def _read(self, position: int) -> tuple[list[Batch], int, list[Refused]]:
        """Return the rows of a transaction for each model, where they end, and records that nobody understands."""
        rows, batches, strange = 0, list[Batch](), list[Refused]()
        for end, record in await self._journal.read(position, READ_BYTES_MAX):
            if rows >= self._rows_max:
                break
            try:
                if record:  # empty: it could not be read, and the journal has said so
                    batches.append(Batch.unpacked(record))
                    rows += len(batches[-1])
            except (ValueError, TypeError) as error:  # written by another version; its checksum is right
                strange.append(({"record": record}, f"not understood: {error}"))
            position = end
        return Batch.joined(batches), position, strange

    def _set_aside(self, refused: Sequence[Refused]) -> None:
        """Keep refused rows where a person finds them; when that file is full, the log line is what is left."""
        self.refused_rows += len(refused)
        for row, why in refused:
            log.error("row refused key=%.100s error=%s", list(row.values())[:3], why)
        try:
            if self._refused_path.exists() and self._refused_path.stat().st_size > REFUSED_BYTES_MAX:
                return
            with self._refused_path.open("a") as file:
                for row, why in refused:
                    line = {"refused_at_s": round(time.time(), 3), "why": why, "row": row}
                    file.write(json.dumps(line, default=_plain) + "\n")
        except OSError as error:
            log.error("refused rows not kept rows=%d error=%s", len(refused), error)


async def _write(writer: Writer, batches: Sequence[Batch]) -> list[Refused]:
    return [row for batch in batches for row in await writer.write(batch)]


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def _give_memory_back() -> None:
    """Return to the system what a backlog took: the allocator would keep it."""
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
