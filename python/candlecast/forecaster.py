"""The use case: candles move the state, windows go through the model, forecasts are filtered, stored and answered.

Once a candle has moved the state its forecast is computed and stored, whether or not the caller is still there.
Knows neither gRPC nor SQL nor Triton: it is given a model to ask and a recorder to write to.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from candlecast import features as feature_state
from candlecast.batching import Batched, Batcher
from candlecast.catch_up import Misses
from candlecast.errors import CandlecastError, DeadlineExceeded, Overloaded, Stopped, Unavailable
from candlecast.features import Features, Moved
from candlecast.filters import Thresholds, judge
from candlecast.interpret import interpret
from candlecast.values import F32, F64, I64, Candles, Forecasts, Known, Missed, Model, Recorded, StageTimes
from candlecast.values import symbols as symbol_column

log = logging.getLogger(__name__)

_ASK_PAUSE_MIN_S = 0.05
_ASK_PAUSE_MAX_S = 1.0


class Place(Protocol):
    """Room in the recorder's queue; a context manager that gives back what was not used."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def record(
        self,
        candles: Candles | None,
        forecasts: Forecasts | None,
        missed: Sequence[Missed] = (),
        *,
        durable: bool = True,
    ) -> Recorded:
        """Record all of it together; return once it is on disk, or at once unless durable."""


class Recorder(Protocol):
    """Writes rows exactly once."""

    def admit(self, rows: int) -> Place:
        """Take room for rows, or raise Overloaded."""

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values."""

    async def settled(self) -> None:
        """Return once everything recorded so far is on disk."""


class Asks(Protocol):
    """Answers windows [B, 96, F] with outputs [B, 20]."""

    async def __call__(self, windows: F32) -> F32: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of N candles; the forecasts of those whose `forecast` is not -1."""

    moved: Moved
    known: dict[int, Known]  # late candles by index: what storage knows of them
    forecasts: Forecasts | None
    recorded: Recorded
    durable: bool  # it is on disk
    spool_us: int
    error: Exception | None  # why forecasts are missing, when they are


@dataclass(frozen=True, slots=True)
class Work:
    """Candles under way; await it for the answer, however long that takes."""

    candles: Candles
    task: asyncio.Task[Answer]
    trouble: asyncio.Future[Exception]  # why the model did not answer at first, while it is asked again

    def __await__(self) -> Generator[Any, None, Answer]:
        return asyncio.shield(self.task).__await__()

    async def answer(self, timeout_ms: float, *, patient: bool) -> Answer:
        """Wait for the answer; past timeout_ms, or at the first trouble unless patient, leave: the work goes on.

        Raises:
            DeadlineExceeded, and what the trouble is.
        """
        waited_for: set[asyncio.Future[Any]] = {self.task} if patient else {self.task, self.trouble}
        await asyncio.wait(waited_for, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            return self.task.result()
        if self.trouble.done():
            raise self.trouble.result()
        raise DeadlineExceeded(f"no answer within {timeout_ms:.0f} ms; the candles count and the work goes on")


class Forecaster:
    """Turns candles into stored forecasts, with a limit on the rows under way.

    Args:
        ask: the model; called with at most batch_rows_max windows, at most batches_in_flight_max at a time.
        temperatures: calibration [4] of the model's horizons.
        rows_max: candles under way; beyond it new ones are refused before they move any state.
        model_wait_ms: how long a model that is away is asked again before its forecasts are given up.
        join: puts the windows of several callers behind one another.
    """

    def __init__(
        self,
        features: Features,
        ask: Asks,
        recorder: Recorder,
        *,
        model: Model,
        temperatures: F64,
        thresholds: Thresholds,
        batch_rows_max: int,
        batches_in_flight_max: int,
        rows_max: int,
        model_wait_ms: int,
        join: Callable[[list[F32]], F32] = np.concatenate,
    ) -> None:
        self._features = features
        self._recorder = recorder
        self._model = model
        self._temperatures = temperatures
        self._thresholds = thresholds
        self._rows_max = rows_max
        self._model_wait_ms = model_wait_ms
        self.misses = Misses(model)
        """Candles whose forecast the model did not give in time."""
        self._rows = 0
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._unrecorded: set[asyncio.Future[None]] = set()  # of work whose candles were not given to the recorder yet
        self._stopping = asyncio.Event()
        self._batcher = Batcher(
            ask, batch_rows_max=batch_rows_max, in_flight_max=batches_in_flight_max, queue_rows_max=rows_max, join=join
        )

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._batcher.__aexit__(kind, error, tb)

    def require_time(self, rows: int, timeout_ms: float) -> None:
        """Refuse at once what would not be answered in time anyway: its work would only keep others waiting.

        Raises:
            Overloaded: before any state has moved.
        """
        expected_ms = self._batcher.expected_s(rows) * 1000
        if expected_ms > timeout_ms:
            raise Overloaded(
                f"an answer takes {expected_ms:.0f} ms now, the call has {timeout_ms:.0f}: try again later"
            )

    def accept(self, candles: Candles, *, decode_us: int = 0, forecast: bool = True, durable: bool = True) -> Work:
        """Move the state by N candles now and return the work of forecasting and recording them.

        Unless durable, the answer does not wait for the disk.

        Raises:
            Overloaded, Stopped: before any state has moved.
        """
        with ExitStack() as room:
            place = room.enter_context(self._admit(len(candles)))
            moved = self._features.push(candles, windows=forecast)
            room.pop_all()  # from here on it is the work's
        return self._start(candles, moved, place, decode_us, durable)

    def newest(self, symbols: Sequence[str], interval_ms: int, *, durable: bool = True) -> Work:
        """Forecast the newest closed candle of symbols; nothing moves.

        Raises:
            Overloaded, Stopped.
        """
        with ExitStack() as room:
            place = room.enter_context(self._admit(len(symbols)))
            column = symbol_column(symbols)
            moved = self._features.newest(column, interval_ms)
            room.pop_all()
        values = np.full((len(symbols), 8), np.nan)
        values[:, 3] = moved.pushed.close
        candles = Candles(
            symbol=column,
            interval_ms=np.full(len(symbols), interval_ms, dtype=np.int64),
            open_time_ms=moved.pushed.open_time_ms,
            values=values,
            forming=np.zeros(len(symbols), dtype=np.bool_),
        )
        return self._start(candles, moved, place, 0, durable)

    async def settled(self) -> None:
        """Return once all that was accepted so far is on disk, a forecast the model still owes excepted.

        Raises:
            StorageUnavailable: the disk fails.
        """
        if self._unrecorded:
            await asyncio.wait(set(self._unrecorded))  # unlike gather, it cancels none of them when we are cancelled
        await self._recorder.settled()

    async def record_missed(self, missed: Sequence[Missed]) -> None:
        """Put on record that forecasts were not made.

        Raises:
            StorageUnavailable, Overloaded, Stopped.
        """
        with self._admit(len(missed)) as place:
            await place.record(None, None, missed)

    def _admit(self, rows: int) -> Place:
        if self._stopping.is_set():
            raise Stopped("the server is shutting down")
        if self._rows + rows > self._rows_max:
            raise Overloaded(f"{self._rows} candles are under way, {self._rows_max} is the limit: try again later")
        return self._recorder.admit(2 * rows)  # a candle and a forecast each

    def _start(self, candles: Candles, moved: Moved, place: Place, decode_us: int, durable: bool) -> Work:
        rows = len(candles)
        self._rows += rows
        loop = asyncio.get_running_loop()
        trouble: asyncio.Future[Exception] = loop.create_future()
        given: asyncio.Future[None] = loop.create_future()  # the candles, to the recorder
        self._unrecorded.add(given)
        given.add_done_callback(self._unrecorded.discard)
        task = asyncio.create_task(self._answer(candles, moved, place, decode_us, durable, trouble, given))
        self._tasks.add(task)

        def done(task: asyncio.Task[Answer]) -> None:
            if not given.done():
                given.set_result(None)
            self._rows -= rows
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception() or task.result().error
            if error is not None:  # its caller may have left: nobody else will say it
                log.warning("candles=%d windows=%d error=%r", rows, len(moved.windows), error)

        task.add_done_callback(done)
        return Work(candles, task, trouble)

    async def _answer(
        self,
        candles: Candles,
        moved: Moved,
        place: Place,
        decode_us: int,
        durable: bool,
        trouble: asyncio.Future[Exception],
        given: asyncio.Future[None],
    ) -> Answer:
        with place:
            verdict = moved.pushed.verdict
            accepted = np.flatnonzero(verdict == feature_state.ACCEPTED)
            unrecorded = candles.take(accepted) if len(accepted) else None
            batched: Batched | None
            forecasts, error = None, None
            if len(moved.windows):
                try:
                    batched = await self._batcher.submit(moved.windows)
                except Exception as away:
                    # The candles have moved the state: they are recorded whatever the model does.
                    trouble.set_result(away)
                    await self._record_now(place, unrecorded)
                    unrecorded = None
                    given.set_result(None)
                    batched, error = await self._ask_again(moved.windows, away)
                if batched is not None:
                    forecasts = self._interpret(candles, moved, batched, decode_us)
                elif error is not None:
                    self._miss(candles, moved, error)
            started = time.perf_counter()
            recorded = Recorded(new=np.zeros(0, dtype=np.bool_), stored=np.zeros(0, dtype=np.bool_))
            if unrecorded is not None or forecasts is not None:
                recorded = await place.record(unrecorded, forecasts, durable=durable)
            if not given.done():
                given.set_result(None)
            if durable and (verdict == feature_state.DUPLICATE).any():
                await self.settled()  # it may still be on its way to the disk, in the work of who sent it first
            spool_us = int((time.perf_counter() - started) * 1e6)
            late = np.flatnonzero((verdict == feature_state.LATE) & ~candles.forming)
            known = await self._known(candles.take(late)) if len(late) else []
            self._count_conflicts(candles, late, known)
            return Answer(
                moved, dict(zip(late.tolist(), known, strict=True)), forecasts, recorded, durable, spool_us, error
            )

    def _miss(self, candles: Candles, moved: Moved, error: Exception) -> None:
        reason = error.reason if isinstance(error, CandlecastError) else type(error).__name__
        for i in np.flatnonzero((moved.pushed.window >= 0) & ~candles.forming).tolist():
            interval_ms = int(candles.interval_ms[i])
            self.misses.add(candles.symbol[i].decode(), interval_ms, int(candles.open_time_ms[i]) + interval_ms, reason)

    async def _known(self, candles: Candles) -> list[Known]:
        try:
            return await self._recorder.known(candles)
        except Unavailable as error:  # it is late, that much is known without storage
            log.warning("candles=%d late, storage not asked error=%s", len(candles), error)
            return [Known.NOT_STORED] * len(candles)

    async def _record_now(self, place: Place, candles: Candles | None) -> None:
        if candles is not None:
            try:
                await place.record(candles, None)
            except Unavailable as error:  # they wait for the disk
                log.warning("candles=%d error=%s", len(candles), error)

    async def _ask_again(self, windows: F32, error: Exception) -> tuple[Batched | None, Exception | None]:
        """Ask a model that is away until it answers, model_wait_ms pass, or we stop."""
        deadline, pause_s = time.monotonic() + self._model_wait_ms / 1000, _ASK_PAUSE_MIN_S
        while isinstance(error, Unavailable | Overloaded | DeadlineExceeded) and time.monotonic() < deadline:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s * random.uniform(0.5, 1.5))
            if self._stopping.is_set():
                break
            pause_s = min(2 * pause_s, _ASK_PAUSE_MAX_S)
            try:
                return await self._batcher.submit(windows), None
            except Exception as still:
                error = still
        return None, error

    def _count_conflicts(self, candles: Candles, late: I64, known: list[Known]) -> None:
        for i, what in zip(late.tolist(), known, strict=True):
            if what is Known.OTHER_VALUES:
                self._features.count_conflict(candles.symbol[i].decode(), int(candles.interval_ms[i]))

    def _interpret(self, candles: Candles, moved: Moved, batched: Batched, decode_us: int) -> Forecasts:
        started = time.perf_counter()
        pushed, windows = moved.pushed, moved.windows
        of_window = np.empty(len(windows), dtype=np.int64)  # window → candle
        has_window = np.flatnonzero(pushed.window >= 0)
        of_window[pushed.window[has_window]] = has_window
        source = candles.take(of_window)
        state, gap_filled = pushed.state[of_window], pushed.gap_filled[of_window]
        meaning = interpret(batched.outputs, self._temperatures)
        verdicts = judge(meaning, state, gap_filled, self._thresholds, states=feature_state.STATES)
        return Forecasts(
            symbol=source.symbol,
            interval_ms=source.interval_ms,
            close_time_ms=source.open_time_ms + source.interval_ms,
            close=source.values[:, 3],
            volume=source.values[:, 4],
            forming=source.forming,
            state=state,
            gap_filled=gap_filled,
            features_hash=pushed.features_hash[of_window],
            rows=np.ascontiguousarray(windows[:, -1, :]),
            zero_variance=pushed.still[of_window].astype(np.int32),
            outputs=batched.outputs,
            meaning=meaning,
            direction=verdicts.direction,
            strength=verdicts.strength,
            reasons=verdicts.reasons,
            model=self._model,
            times=StageTimes(
                decode_us=decode_us,
                features_us=moved.features_us,
                queue_us=batched.queue_us,
                model_us=batched.run_us,
                interpret_us=int((time.perf_counter() - started) * 1e6),
            ),
        )
