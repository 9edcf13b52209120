"""Puts candles and forecasts on local disk before anybody is told, each forecast once. Knows no model and no wire.

From the journal the drain takes them into PostgreSQL, now or when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from candlecast.errors import Overloaded, Stopped, StorageUnavailable
from candlecast.journal import Failed, Journal
from candlecast.store import candles as candle_rows
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.drain import Drain
from candlecast.store.pool import Pool
from candlecast.store.recent import OnDisk, Recent
from candlecast.store.records import Origin
from candlecast.store.writer import Writer
from candlecast.values import I64, Candles, FlowRecords, Forecasts, Known, Missed, Model, Recorded, symbols

ROW_BYTES_MAX = 2_048
"""Of a forecast in the journal, generously; a candle has fewer."""
RECORD_ROWS_MAX = 2_000
LEVELS = 0.7, 0.9
"""Of the journal's limit: from the first on it is said, from the second on said loudly."""
log = logging.getLogger(__name__)


class Recorder:
    """Records rows while the body runs.

    Args:
        journal, drain: entered.
        feature_names: [F] names of the features in forecasts.rows.
        states: names of the values of forecasts.state.
        journal_bytes_max: what may wait for PostgreSQL; beyond it callers are refused at once.
        drop_oldest: when that is reached, give up the oldest instead; counted and said.
        timeout_ms: longest wait of a caller for its rows to be on disk.
    """

    def __init__(
        self,
        journal: Journal,
        drain: Drain,
        pool: Pool,
        *,
        feature_names: Sequence[str],
        states: Sequence[str],
        journal_bytes_max: int = 1024**3,
        drop_oldest: bool = False,
        timeout_ms: int = 5_000,
    ) -> None:
        self._journal = journal
        self._drain = drain
        self._pool = pool
        self._feature_names = tuple(feature_names)
        self._states = tuple(states)
        self._bytes_max = journal_bytes_max
        self._drop_oldest = drop_oldest
        self._timeout_ms = timeout_ms
        self._admitted = 0
        self._accepted_ns = 0
        self._recent = defaultdict[tuple[str, int], Recent](Recent)
        """By model and version the forecasts recorded last, and when they are on disk."""
        self._appended: OnDisk | None = None
        self._stopping = False
        self._level = 0
        self.journal, self.drain, self.bytes_max = journal, drain, journal_bytes_max
        """For those who watch."""
        self.dropped_bytes = 0
        """Given up since the start."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with suppress(StorageUnavailable, TimeoutError):  # what nobody waited for: the drain is to find it
            async with asyncio.timeout(0 if self._journal.blocked else self._timeout_ms / 1000):
                await self.settled()

    @property
    def fullness(self) -> float:
        """Return how much of the journal's limit is taken, 0 to 1."""
        return self._journal.size / self._bytes_max

    def admit(self, rows: int) -> Place:
        """Take room for rows before anything is done that would need to be undone; a context manager.

        Raises:
            Overloaded: there is not enough.
            StorageUnavailable: the disk takes nothing now.
            Stopped.
        """
        if self._stopping:
            raise Stopped("the recorder is shutting down")
        if trouble := self._journal.failed or self._journal.blocked:
            raise StorageUnavailable(trouble)
        wanted = (self._admitted + rows) * ROW_BYTES_MAX
        if self._journal.size + wanted > self._bytes_max and not self._drop_oldest:
            raise Overloaded(
                f"{self._journal.size} bytes wait for PostgreSQL, {self._bytes_max} is the limit"
                f" ({self._drain.failure or 'it is slow'}): try again later"
            )
        return Place(self, rows)

    async def record_flow(self, given: FlowRecords) -> None:
        """Hand order flow to the journal; its rows are on disk with whatever is there next.

        Raises:
            Overloaded, StorageUnavailable, Stopped: none of it was taken.
        """
        with self.admit(len(given)):
            pass
        self._append(Batch(flows=records.flows(given).tobytes()))
        await self._make_room()

    async def rehearse(self, candles: Candles | None, forecasts: Forecasts | None) -> Recorded:
        """Have PostgreSQL take rows and give them back: proof that they can be stored.

        Raises:
            StorageUnavailable: they cannot be.
        """
        kept = ~forecasts.forming if forecasts else np.zeros(0, dtype=np.bool_)
        batch = self._batch(candles, forecasts, np.flatnonzero(kept), 0)
        async with self._pool.connection() as connection:
            writer, transaction = await Writer.on(connection), connection.transaction()
            await transaction.start()
            refused = await writer.write(batch)
            await transaction.rollback()
        if refused:
            raise StorageUnavailable(f"PostgreSQL refuses a row of the rehearsal: {refused[0][1]}")
        return Recorded(new=kept, stored=kept)

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values.

        Raises:
            StorageUnavailable: PostgreSQL is away, or has not got all that was recorded within the timeout.
        """
        await self.drained()
        return await candle_rows.known(self._pool, candles)

    async def drained(self) -> None:
        """Return once everything recorded so far is in PostgreSQL.

        Raises:
            StorageUnavailable: it is away, or has not got all within the timeout.
        """
        if self._drain.failure is not None:
            raise StorageUnavailable(self._drain.failure)
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await self._drain.caught_up(self._journal.end)
        except TimeoutError as error:
            raise StorageUnavailable("PostgreSQL has not got everything from the journal yet") from error

    async def settled(self) -> None:
        """Return once everything recorded so far is on disk.

        Raises:
            StorageUnavailable: the disk fails.
        """
        if (newest := self._appended) is not None:
            try:
                await asyncio.shield(newest)
            except Failed as error:
                raise StorageUnavailable(str(error)) from error

    async def check(self) -> None:
        """Raise StorageUnavailable when rows cannot be recorded now; whether PostgreSQL is there plays no part."""
        if trouble := self._journal.failed or self._journal.blocked:
            raise StorageUnavailable(trouble)
        if self.fullness >= 1 and not self._drop_oldest:
            raise StorageUnavailable(f"the journal is full ({self._drain.failure or 'PostgreSQL is slow'})")

    def remember(self, symbol: str, interval_ms: int, close_time_ms: int, model: Model) -> None:
        """Take note of a forecast that is in PostgreSQL already."""
        done: OnDisk = asyncio.get_running_loop().create_future()
        done.set_result(self._journal.mark)
        recent, close = self._recent[model.name, model.version], np.array([close_time_ms])
        series = recent.numbers(symbols([symbol]), np.array([interval_ms]))
        if recent.find(series, close)[0].all():
            recent.keep(series, close, done)

    def forget(self, model: Model) -> None:
        """Forget what a model that speaks no more has said; PostgreSQL would keep the first of each."""
        self._recent.pop((model.name, model.version), None)

    def next_accepted_ns(self) -> int:
        """Return the time at which a batch moves the state, later than any before."""
        self._accepted_ns = max(self._accepted_ns + 1, time.time_ns())
        return self._accepted_ns

    def _batch(
        self,
        candles: Candles | None,
        forecasts: Forecasts | None,
        chosen: I64,
        accepted_ns: int,
        missed: Sequence[Missed] = (),
    ) -> Batch:
        """Return the candles that are not forming, and the forecasts at `chosen` [K]."""
        candle_data, data, origin = b"", b"", None
        if candles:
            made = records.candles(candles, accepted_ns)
            candle_data = (made[~candles.forming] if candles.forming.any() else made).tobytes()
        if forecasts and len(chosen):
            made = records.predictions(forecasts, self._feature_names)
            data = (made if len(chosen) == len(made) else made[chosen]).tobytes()
            origin = Origin.of(forecasts.model, len(self._feature_names), self._states, forecasts.shadow)
        rows = tuple((m.symbol, m.interval_ms, m.close_time_ms, m.model, m.version, m.reason) for m in missed)
        return Batch(candle_data, data, rows, origin)

    def _is_missed(self, missed: Missed) -> bool:
        """Say whether there is no forecast in place of one that was not made."""
        recent = self._recent[missed.model, missed.version]
        series = recent.numbers(symbols([missed.symbol]), np.array([missed.interval_ms]))
        return bool(recent.find(series, np.array([missed.close_time_ms]))[0].all())

    def _append(self, batch: Batch) -> OnDisk | None:
        """Append the rows; return what is done once they are on disk."""
        if not batch:
            return None
        for part in _parts(batch):
            self._appended = self._journal.append(part.packed())  # on disk no sooner than those before
        assert self._appended is not None, "there is at least one part"
        return self._appended

    async def _on_disk(self, waits: set[OnDisk]) -> None:
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=self._timeout_ms / 1000)
        if late:
            raise StorageUnavailable(
                f"not on disk within {self._timeout_ms} ms ({self._journal.blocked or 'the disk is slow'});"
                " the rows wait and are written when it takes them"
            )
        for done in waits:
            if isinstance(error := done.exception(), Failed):
                raise StorageUnavailable(str(error)) from error

    def _is_stored(self, done: OnDisk | None) -> bool:
        """Say whether the record that ends there is in PostgreSQL already."""
        return done is not None and done.done() and done.exception() is None and done.result() <= self._journal.mark

    async def _make_room(self) -> None:
        level = sum(self.fullness >= limit for limit in LEVELS)
        if level != self._level:
            say = log.info if level < self._level else log.warning if level == 1 else log.error
            say("journal fullness=%.0f%% level=%s", 100 * self.fullness, ("OK", "WARNING", "DEGRADED")[level])
            self._level = level
        while self._drop_oldest and self.fullness > 1 and (lost := await self._journal.drop_oldest()):
            self.dropped_bytes += lost


class Place:
    """Room that was taken; what is not used by the end of the body is given back.

    Its candles are accepted together, at `accepted_ns`.
    """

    def __init__(self, recorder: Recorder, rows: int) -> None:
        self._recorder = recorder
        self._rows = rows
        self._accepted_ns = recorder.next_accepted_ns()
        recorder._admitted += rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder._admitted -= self._rows
        self._rows = 0

    async def record(
        self,
        candles: Candles | None,
        forecasts: Forecasts | None,
        missed: Sequence[Missed] = (),
        *,
        durable: bool = True,
    ) -> Recorded:
        """Put on disk what is not forming and not recorded yet; return once it is there, or at once unless durable.

        Raises:
            StorageUnavailable: not on disk within the timeout; the rows wait and are written when it takes them.
        """
        recorder = self._recorder
        kept = ~forecasts.forming if forecasts else np.zeros(0, dtype=np.bool_)
        new, known = kept.copy(), dict[int, OnDisk]()
        if forecasts:
            recent = recorder._recent[forecasts.model.name, forecasts.model.version]
            at = np.flatnonzero(kept)
            closes = forecasts.close_time_ms[at]
            series = recent.numbers(forecasts.symbol[at], forecasts.interval_ms[at])
            fresh, found = recent.find(series, closes)
            new[at] = fresh
            known = {int(at[i]): done for i, done in found.items()}
        batch = recorder._batch(
            candles, forecasts, np.flatnonzero(new), self._accepted_ns, [m for m in missed if recorder._is_missed(m)]
        )
        appended = recorder._append(batch)
        if appended is not None and batch.predictions:
            recent.keep(series[fresh], closes[fresh], appended)
        self.__exit__(None, None, None)
        await recorder._make_room()
        if durable:
            await recorder._on_disk({done for done in (appended, *known.values()) if done is not None})
        stored = kept & recorder._is_stored(appended)
        for i, done in known.items():
            stored[i] = recorder._is_stored(done)
        return Recorded(new=new, stored=stored)


def _parts(batch: Batch) -> Iterator[Batch]:
    """Cut a batch into records of RECORD_ROWS_MAX rows; one record is on disk wholly or not at all."""
    if len(batch) <= RECORD_ROWS_MAX:
        yield batch
        return
    for kind, count in enumerate(batch.counts):
        for start in range(0, count, RECORD_ROWS_MAX):
            rows = [slice(0)] * len(batch.counts)
            rows[kind] = slice(start, start + RECORD_ROWS_MAX)
            yield batch.part(*rows)
