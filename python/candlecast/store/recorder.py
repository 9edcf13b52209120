"""Writes candles and forecasts exactly once, grouped without a timer. Knows no model and no wire.

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
from typing import Any, Final, Self

import numpy as np

from candlecast.errors import InvalidRequest, Overloaded, Stopped, StorageUnavailable
from candlecast.store import candles as candle_rows
from candlecast.store import predictions as prediction_rows
from candlecast.store.pool import Pool
from candlecast.store.writer import Row, Writer
from candlecast.values import Bool, Candles, Forecasts, Known

BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Part:
    """Rows of one caller that are written together."""

    candles: list[Row]
    predictions: list[Row]
    done: asyncio.Future[list[bool]]  # whether each prediction is new
    refused: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.candles) + len(self.predictions)


class Place:
    """Room in the queue, taken before anything else happens; a context manager that gives back what was not used."""

    def __init__(self, recorder: Recorder, rows: int) -> None:
        self._recorder = recorder
        self._rows = rows
        recorder._rows += rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder._rows -= self._rows
        self._rows = 0

    async def record(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """As `Recorder.record`, and never refused."""
        return await self._recorder._record(candles, forecasts, self)


class Recorder:
    """Writes rows while the body runs; leaving it writes what still waits.

    Args:
        feature_names: [F] names of the features in forecasts.rows.
        states: names of the values of forecasts.state.
        rows_max: rows that may wait or be under way; beyond it callers are refused at once.
        flush_rows_max: rows of one transaction.
        timeout_ms: longest wait of a caller for its rows.
        stop_timeout_ms: longest wait for what still waits when leaving.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        feature_names: Sequence[str],
        states: Sequence[str],
        rows_max: int = 50_000,
        flush_rows_max: int = 2_000,
        timeout_ms: int = 5_000,
        stop_timeout_ms: int = 10_000,
    ) -> None:
        self._pool = pool
        self._feature_names = tuple(feature_names)
        self._states = tuple(states)
        self._rows_max = rows_max
        self._flush_rows_max = flush_rows_max
        self._timeout_ms = timeout_ms
        self._stop_timeout_ms = stop_timeout_ms
        self._rows = 0
        self._waiting: deque[_Part] = deque()
        self._under_way: list[_Part] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._failure: StorageUnavailable | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "the recorder was not entered"
        self._stopping = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=self._stop_timeout_ms / 1000)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        left = [*self._under_way, *self._waiting]
        for part in left:
            part.done.cancel()
        if left:
            log.error("rows lost at stop rows=%d because=%s", sum(map(len, left)), self._failure)

    def admit(self, rows: int) -> Place:
        """Take room for rows before anything is done that would need to be undone.

        Raises:
            Overloaded: there is not enough.
            Stopped.
        """
        if self._stopping:
            raise Stopped("the recorder is shutting down")
        if self._rows + rows > self._rows_max:
            raise Overloaded(f"{self._rows} rows wait for PostgreSQL, {self._rows_max} is the limit: try again later")
        return Place(self, rows)

    async def record(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """Store what is not forming, and return [B] whether each forecast is new once all of it is committed.

        A row that is found there after a lost connection, though it was ours, counts as not new.

        Raises:
            Overloaded, Stopped: at once; nothing is stored.
            InvalidRequest: PostgreSQL refuses some of the rows; the others are stored.
            StorageUnavailable: not stored within timeout_ms; the rows stay and are stored later.
        """
        with self.admit(len(candles or ()) + len(forecasts or ())) as place:
            return await place.record(candles, forecasts)

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values."""
        return await candle_rows.known(self._pool, candles)

    async def check(self) -> None:
        """Raise StorageUnavailable when rows cannot be written now."""
        if self._failure is not None:
            raise self._failure
        await self._pool.fetch("SELECT 1")

    async def _record(self, candles: Candles | None, forecasts: Forecasts | None, place: Place) -> Bool:
        inserted = np.zeros(len(forecasts or ()), dtype=np.bool_)
        parts, closed = self._parts(candles, forecasts)
        self._rows += sum(map(len, parts)) - place._rows
        place._rows = 0
        self._waiting.extend(parts)
        self._wake.set()
        if not parts:
            return inserted
        _, late = await asyncio.wait([part.done for part in parts], timeout=self._timeout_ms / 1000)
        if any(part.done.cancelled() for part in parts):
            raise Stopped("the recorder stopped before the rows were stored")
        if late:
            raise StorageUnavailable(
                f"not stored within {self._timeout_ms} ms ({self._failure or 'PostgreSQL is slow'});"
                " the rows stay queued and are stored when it is back"
            )
        if refused := [why for part in parts for why in part.refused]:
            raise InvalidRequest("rows", f"PostgreSQL refuses {len(refused)}: {refused[0]}")
        inserted[closed] = [new for part in parts for new in part.done.result()]
        return inserted

    def _parts(self, candles: Candles | None, forecasts: Forecasts | None) -> tuple[list[_Part], Any]:
        """Return the rows in parts that one transaction may hold, and the positions of the forecasts among them."""
        candle_list: list[Row] = []
        if candles:
            forming = candles.forming.any()
            candle_list = candle_rows.rows_of(candles.take(np.flatnonzero(~candles.forming)) if forming else candles)
        prediction_list: list[Row] = []
        closed: Any = slice(None)
        if forecasts:
            prediction_list = prediction_rows.rows_of(forecasts, self._feature_names, self._states)
            if forecasts.forming.any():
                closed = np.flatnonzero(~forecasts.forming)
                prediction_list = [prediction_list[i] for i in closed.tolist()]
        size = self._flush_rows_max
        if len(candle_list) + len(prediction_list) <= size:
            pieces = [(candle_list, prediction_list)] if candle_list or prediction_list else []
        else:
            pieces = [(candle_list[i : i + size], []) for i in range(0, len(candle_list), size)]
            pieces += [([], prediction_list[i : i + size]) for i in range(0, len(prediction_list), size)]
        loop = asyncio.get_running_loop()
        return [
            _Part(of_candles, of_predictions, loop.create_future()) for of_candles, of_predictions in pieces
        ], closed

    async def _run(self) -> None:
        """Write what comes, until stopped and empty; begin anew on a fresh connection when PostgreSQL was away."""
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                async with self._pool.connection() as connection:
                    writer = await Writer.on(connection)
                    if not self._under_way:
                        self._failure = None
                    while await self._next():
                        await self._flush(writer)
                        if self._failure is not None:
                            log.info("storing again rows=%d", self._rows)
                        pause_s, self._failure = BACKOFF_MIN_S, None
                return
            except Exception as error:
                if not isinstance(error, StorageUnavailable):
                    log.exception("recorder failed")
                    error = StorageUnavailable(f"the recorder failed: {error!r}")
                self._failure = error
                log.warning("not stored rows=%d retry_seconds=%.2f error=%s", self._rows, pause_s, error)
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
                if self._stopping:
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
            self._rows -= len(part)
            if refused:
                part.refused = [refused[row] for row in (*part.candles, *part.predictions) if row in refused]
            answers = []
            for row in part.predictions:
                key = row[: prediction_rows.KEY]
                answers.append(key in new)
                new.discard(key)  # the same key once more, from this or another caller, is not new
            if not part.done.done():
                part.done.set_result(answers)
