"""Stores candles and forecasts exactly once and says when they are committed. Knows no model, no wire and no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from candlecast.errors import ConfigurationError, InvalidRequest, Overloaded, Stopped, StorageUnavailable
from candlecast.store import candles as candle_rows
from candlecast.store import predictions as prediction_rows
from candlecast.store.flusher import Flusher, Part
from candlecast.store.pool import Pool
from candlecast.store.writer import Writer
from candlecast.values import I64, Bool, Candles, Forecasts, Known


class Recorder:
    """Stores rows while the body runs; leaving it stores what still waits.

    Args:
        pool: of two connections or more; one is kept for writing.
        feature_names: [F] names of the features in forecasts.rows.
        states: names of the values of forecasts.state.
        rows_max: rows that may wait or be under way; beyond it callers are refused at once.
        flush_rows_max: rows of one transaction.
        timeout_ms: longest wait of a caller for its rows.
        stop_timeout_ms: longest wait for what still waits when leaving.

    Raises:
        ConfigurationError: the pool is too small.
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
        if pool.connections_max < 2:
            raise ConfigurationError("database_connections_max: 2 or more are needed, one is kept for writing")
        self._pool = pool
        self._feature_names = tuple(feature_names)
        self._states = tuple(states)
        self._rows_max = rows_max
        self._flush_rows_max = flush_rows_max
        self._timeout_ms = timeout_ms
        self._flusher = Flusher(pool, flush_rows_max=flush_rows_max, stop_timeout_ms=stop_timeout_ms)
        self._admitted = 0

    async def __aenter__(self) -> Self:
        await self._flusher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._flusher.__aexit__(kind, error, trace)

    def admit(self, rows: int) -> Place:
        """Take room for rows before anything is done that would need to be undone; a context manager.

        Raises:
            Overloaded: there is not enough.
            Stopped.
        """
        if self._flusher.stopping:
            raise Stopped("the recorder is shutting down")
        if (taken := self._flusher.rows + self._admitted) + rows > self._rows_max:
            raise Overloaded(f"{taken} rows wait for PostgreSQL, {self._rows_max} is the limit: try again later")
        return Place(self, rows)

    async def record(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """Store what is not forming; return [B] whether each forecast is new, once all of it is committed.

        A row that is found there after a lost connection, though it was ours, counts as not new.

        Raises:
            Overloaded, Stopped: at once; nothing is stored.
            InvalidRequest: PostgreSQL refuses some of the rows; the others are stored.
            StorageUnavailable: not stored within timeout_ms; the rows stay and are stored later.
        """
        with self.admit(len(candles or ()) + len(forecasts or ())) as place:
            return await place.record(candles, forecasts)

    async def rehearse(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """Do what `record` does and take it back: proof that rows can be stored. Not grouped with others.

        Raises:
            StorageUnavailable: they cannot be.
        """
        parts, stored = self._parts(candles, forecasts)
        inserted = np.zeros(len(forecasts or ()), dtype=np.bool_)
        async with self._pool.connection() as connection:
            writer, transaction = await Writer.on(connection), connection.transaction()
            await transaction.start()
            new = [len((await writer.write(part.candles, part.predictions))[0]) for part in parts]
            await transaction.rollback()
        inserted[stored[: sum(new)]] = True
        return inserted

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values."""
        return await candle_rows.known(self._pool, candles)

    async def check(self) -> None:
        """Raise StorageUnavailable when rows cannot be written now."""
        if self._flusher.failure is not None:
            raise StorageUnavailable(self._flusher.failure)
        await self._pool.fetch("SELECT 1")

    def _parts(self, candles: Candles | None, forecasts: Forecasts | None) -> tuple[list[Part], I64]:
        """Return the rows, in parts that one transaction may hold, and [K] which forecasts are among them."""
        given: list[candle_rows.Row] = []
        if candles:
            closed = candles if not candles.forming.any() else candles.take(np.flatnonzero(~candles.forming))
            given = candle_rows.rows_of(closed)
        told: list[prediction_rows.Row] = []
        stored = np.flatnonzero(~forecasts.forming) if forecasts else np.zeros(0, dtype=np.int64)
        if forecasts:
            told = prediction_rows.rows_of(forecasts, self._feature_names, self._states)
            if len(stored) < len(told):
                told = [told[i] for i in stored.tolist()]
        size, future = self._flush_rows_max, asyncio.get_running_loop().create_future
        if len(given) + len(told) <= size:
            return [Part(given, told, future())] if given or told else [], stored
        parts = [Part(given[i : i + size], [], future()) for i in range(0, len(given), size)]
        parts += [Part([], told[i : i + size], future()) for i in range(0, len(told), size)]
        return parts, stored


class Place:
    """Room that was taken in the queue; what is not used by the end of the body is given back."""

    def __init__(self, recorder: Recorder, rows: int) -> None:
        self._recorder = recorder
        self._rows = rows
        recorder._admitted += rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder._admitted -= self._rows
        self._rows = 0

    async def record(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """As `Recorder.record`, and never refused for want of room."""
        recorder, inserted = self._recorder, np.zeros(len(forecasts or ()), dtype=np.bool_)
        parts, stored = recorder._parts(candles, forecasts)
        recorder._flusher.put(parts)
        self.__exit__(None, None, None)
        if not parts:
            return inserted
        _, late = await asyncio.wait([part.done for part in parts], timeout=recorder._timeout_ms / 1000)
        if any(part.done.cancelled() for part in parts):
            raise Stopped("the recorder stopped before the rows were stored")
        if late:
            raise StorageUnavailable(
                f"not stored within {recorder._timeout_ms} ms ({recorder._flusher.failure or 'PostgreSQL is slow'});"
                " the rows stay queued and are stored when it is back"
            )
        if refused := [why for part in parts for why in part.refused]:
            raise InvalidRequest("rows", f"PostgreSQL refuses {len(refused)}: {refused[0]}")
        inserted[stored] = [new for part in parts for new in part.done.result()]
        return inserted
