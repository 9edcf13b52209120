"""The use case: candles move the state, windows go through the model, forecasts are filtered, stored and answered.

Once a candle has moved the state its forecast is computed and stored, whether or not the caller is still there.
Knows neither gRPC nor SQL nor Triton: it is given a model to ask and a recorder to write to.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from candlecast import features as feature_state
from candlecast.batching import Batched, Batcher
from candlecast.errors import DeadlineExceeded, Overloaded, Stopped
from candlecast.features import Features, Moved
from candlecast.filters import Thresholds, judge
from candlecast.interpret import interpret
from candlecast.values import F32, F64, Bool, Candles, Forecasts, Known, Model, StageTimes


class Place(Protocol):
    """Room in the recorder's queue; a context manager that gives back what was not used."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def record(self, candles: Candles | None, forecasts: Forecasts | None) -> Bool:
        """Store both in one transaction; return [B] whether each forecast is new, once they are stored."""


class Recorder(Protocol):
    """Writes rows exactly once."""

    def admit(self, rows: int) -> Place:
        """Take room for rows, or raise Overloaded."""

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values."""


class Asks(Protocol):
    """Answers windows [B, 96, F] with outputs [B, 20]."""

    async def __call__(self, windows: F32) -> F32: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of N candles; the forecasts of those whose `forecast` is not -1."""

    moved: Moved
    known: dict[int, Known]  # late candles by index: what storage knows of them
    forecasts: Forecasts | None
    inserted: Bool  # [B] the forecast's row is new
    spool_us: int
    error: Exception | None  # why forecasts are missing, when they are


class Forecaster:
    """Turns candles into stored forecasts, with a limit on the rows under way.

    Args:
        ask: the model; called with at most batch_rows_max windows, at most batches_in_flight_max at a time.
        temperatures: calibration [4] of the model's horizons.
        rows_max: candles under way; beyond it new ones are refused before they move any state.
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
    ) -> None:
        self._features = features
        self._recorder = recorder
        self._model = model
        self._temperatures = temperatures
        self._thresholds = thresholds
        self._rows_max = rows_max
        self._rows = 0
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._stopped = False
        self._batcher = Batcher(
            ask, batch_rows_max=batch_rows_max, in_flight_max=batches_in_flight_max, queue_rows_max=rows_max
        )

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._batcher.__aexit__(kind, error, tb)

    def accept(self, candles: Candles, *, decode_us: int = 0, forecast: bool = True) -> asyncio.Task[Answer]:
        """Move the state by N candles now and return the task that forecasts and stores them.

        Wait for it under `asyncio.shield`: a cancelled caller must not take the row from the table.

        Raises:
            Overloaded, Stopped: before any state has moved.
        """
        place = self._admit(len(candles))
        moved = self._features.push(candles, windows=forecast)
        return self._start(candles, moved, place, decode_us)

    def newest(self, symbols: list[str], interval_ms: int) -> asyncio.Task[Answer]:
        """Forecast the newest closed candle of symbols; nothing moves.

        Raises:
            Overloaded, Stopped.
        """
        place = self._admit(len(symbols))
        moved = self._features.newest(symbols, interval_ms)
        values = np.full((len(symbols), 8), np.nan)
        values[:, 3] = moved.pushed.close
        candles = Candles(
            symbol=symbols,
            interval_ms=np.full(len(symbols), interval_ms, dtype=np.int64),
            open_time_ms=moved.pushed.open_time_ms,
            values=values,
            forming=np.zeros(len(symbols), dtype=np.bool_),
        )
        return self._start(candles, moved, place, 0)

    def _admit(self, rows: int) -> Place:
        if self._stopped:
            raise Stopped("the server is shutting down")
        if self._rows + rows > self._rows_max:
            raise Overloaded(f"{self._rows} candles are under way, {self._rows_max} is the limit: try again later")
        return self._recorder.admit(2 * rows)  # a candle and a forecast each

    def _start(self, candles: Candles, moved: Moved, place: Place, decode_us: int) -> asyncio.Task[Answer]:
        rows = len(candles)
        self._rows += rows
        task = asyncio.create_task(self._answer(candles, moved, place, decode_us))
        self._tasks.add(task)

        def done(task: asyncio.Task[Answer]) -> None:
            self._rows -= rows
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # its caller may have left: nobody else will look

        task.add_done_callback(done)
        return task

    async def _answer(self, candles: Candles, moved: Moved, place: Place, decode_us: int) -> Answer:
        with place:
            verdict = moved.pushed.verdict
            late = np.flatnonzero(verdict == feature_state.LATE)
            known = await self._recorder.known(candles.take(late)) if len(late) else []
            forecasts, error = None, None
            if len(moved.windows):
                try:
                    batched = await self._batcher.submit(moved.windows)
                    forecasts = self._interpret(candles, moved, batched, decode_us)
                except Exception as missing:  # the candles moved the state: they are stored whatever the model does
                    error = missing
            accepted = np.flatnonzero(verdict == feature_state.ACCEPTED)
            started = time.perf_counter()
            inserted = np.zeros(0, dtype=np.bool_)
            if len(accepted) or forecasts is not None:
                inserted = await place.record(candles.take(accepted) if len(accepted) else None, forecasts)
            spool_us = int((time.perf_counter() - started) * 1e6)
            return Answer(moved, dict(zip(late.tolist(), known, strict=True)), forecasts, inserted, spool_us, error)

    def _interpret(self, candles: Candles, moved: Moved, batched: Batched, decode_us: int) -> Forecasts:
        started = time.perf_counter()
        pushed, windows = moved.pushed, moved.windows
        of_window = np.empty(len(windows), dtype=np.int64)  # window → candle
        has_window = np.flatnonzero(pushed.window >= 0)
        of_window[pushed.window[has_window]] = has_window
        source = candles.take(of_window)
        state, gap_filled = pushed.state[of_window], pushed.gap_filled[of_window]
        meaning = interpret(batched.outputs, self._temperatures)
        verdicts = judge(meaning, [feature_state.STATES[code] for code in state.tolist()], gap_filled, self._thresholds)
        zero_variance = (windows.max(axis=1) == windows.min(axis=1)).sum(axis=1, dtype=np.int32)
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
            zero_variance=zero_variance,
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


async def answer_within(task: asyncio.Task[Answer], timeout_ms: float) -> Answer:
    """Wait for an answer; past timeout_ms the caller leaves and the work goes on.

    Raises:
        DeadlineExceeded.
    """
    try:
        return await asyncio.wait_for(asyncio.shield(task), timeout_ms / 1000)
    except TimeoutError:
        raise DeadlineExceeded(
            f"no answer within {timeout_ms:.0f} ms; what the candles caused is still computed and stored"
        ) from None
