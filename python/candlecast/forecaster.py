"""The use case: candles move the state, windows go through the model, forecasts are filtered, stored and answered.

Once a candle has moved the state its forecast is computed and stored, whether or not the caller is still there.
Knows neither gRPC nor SQL nor Triton: it is given a model to ask and a recorder to write to.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from candlecast import ensemble
from candlecast import features as feature_state
from candlecast.cache import ForecastCache, Recalled
from candlecast.catch_up import Misses
from candlecast.errors import CandlecastError, DeadlineExceeded, Overloaded, Stopped, Unavailable
from candlecast.features import Features, Moved
from candlecast.filters import Thresholds
from candlecast.gate import Decisions
from candlecast.gatekeeper import Gatekeeper, nothing_said
from candlecast.interpret import interpret
from candlecast.line import Line
from candlecast.routing import Asks, Lane, Routes, Said
from candlecast.shadow import Shadow
from candlecast.signals import Signals
from candlecast.values import (
    F32,
    F64,
    I64,
    Bool,
    Candles,
    Forecasts,
    Known,
    Missed,
    Model,
    Recorded,
    StageTimes,
    Symbols,
)
from candlecast.values import symbols as symbol_column
from candlecast.work import Answer, Group, Place, Work, looked_at

log = logging.getLogger(__name__)

_ASK_PAUSE_MIN_S = 0.05
_ASK_PAUSE_MAX_S = 1.0


class Recorder(Protocol):
    """Writes rows exactly once."""

    def admit(self, rows: int) -> Place:
        """Take room for rows, or raise Overloaded."""

    async def known(self, candles: Candles) -> list[Known]:
        """Return for each of N candles whether it is stored, with the same or with other values."""

    async def settled(self) -> None:
        """Return once everything recorded so far is on disk."""


class Forecaster:
    """Turns candles into stored forecasts, with a limit on the rows under way.

    Candles of many small calls go one way together: while the model is busy, what waits is the next group.

    Args:
        ask: the model; called with at most batch_rows_max windows, at most batches_in_flight_max at a time.
        temperatures: calibration [4] of the model's horizons.
        rows_max: candles under way; beyond it new ones are refused before they move any state.
        model_wait_ms: how long a model that is away is asked again before its forecasts are given up.
        join: puts the windows of several callers behind one another.
        pick: takes rows [K] out of windows.
        check: compares the model's golden values.
        gate: is asked about symbols with live order flow, at the same time as the model.
        signals: judges the forecasts; by default the thresholds alone do.
        cache: answers what was forecast just now; by default nothing is remembered.
        observe: is told of every answer, and whether it is to symbols without candles.
        max_model_age_ms: forecasts of a model that was trained longer ago are degraded.
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
        pick: Callable[[F32, I64], F32] | None = None,
        check: Callable[[], Awaitable[None]] | None = None,
        gate: Gatekeeper | None = None,
        signals: Signals | None = None,
        cache: ForecastCache | None = None,
        observe: Callable[[Answer, bool], None] = lambda answer, asked: None,
        max_model_age_ms: float = math.inf,
    ) -> None:
        self._gate = gate
        self._observe = observe
        self._max_model_age_ms = max_model_age_ms
        self._signals = signals or Signals(feature_state.NAMES, feature_state.STATES, thresholds)
        self._cache = ForecastCache(ttl_s=0, rows_max=0) if cache is None else cache
        self.ml_cache_hits_total = 0
        """Forecasts that were answered from memory."""
        self.listeners: list[Callable[[Answer | None], None]] = []
        """Are told of each answer that has forecasts, once it is recorded; None: one that may not have been."""
        self._features = features
        self._recorder = recorder
        self.rows_max = rows_max
        self._model_wait_ms = model_wait_ms
        self.misses = Misses(model)
        """Candles whose forecast the model did not give in time."""
        self._rows = 0
        self._group_rows_max = batch_rows_max
        self._groups_max = max(2, batches_in_flight_max)
        self._asking = 0  # groups that wait for the model
        self._unanswered: dict[Group, int] = {}  # of small ones, that are under way, and their rows
        self._waiting: deque[Work] = deque()  # small ones, to go together
        self._waiting_rows = 0
        self._line = Line()  # of all small ones under way
        self._pump_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._unrecorded: dict[asyncio.Future[None], Symbols] = {}  # whose new candles the recorder was not given yet
        self._being_asked: dict[asyncio.Future[None], NDArray[np.uint64]] = {}
        """By `given` of who asks the model just now: the features of what it asks."""
        self._stopping = asyncio.Event()
        self._lane_limits: dict[str, Any] = {
            "batch_rows_max": batch_rows_max,
            "in_flight_max": batches_in_flight_max,
            "queue_rows_max": rows_max,
            "join": join,
        }
        first = self.lane(ask, model=model, temperatures=temperatures, check=check)
        self._first = first
        self.routes = Routes(first, pick)
        """Who answers: other versions take their places here."""
        self.shadow: Shadow | None = None
        """Who hears it as well."""

    def lane(self, ask: Asks, **about: Any) -> Lane:
        """Return a way to another version of the model, with the same limits; arguments as of Lane."""
        return Lane(ask, **about, **self._lane_limits)

    @property
    def rows(self) -> int:
        """Return how many candles are under way."""
        return self._rows

    @property
    def waiting(self) -> int:
        """Return how many windows wait for a place in a request to the model."""
        lanes = (self.routes.champion, self.routes.challenger)
        return sum(lane.batcher.waiting_rows for lane in lanes if lane is not None)

    async def __aenter__(self) -> Self:
        await self._first.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._start_waiting()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._first.__aexit__()

    def require_time(self, rows: int, timeout_ms: float) -> None:
        """Refuse at once what would not be answered in time anyway: its work would only keep others waiting.

        Raises:
            Overloaded: before any state has moved.
        """
        by_batches_s = self.routes.expected_s(rows + self._waiting_rows)
        expected_ms = max(by_batches_s, self._line.expected_s(rows)) * 1000
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
        work = self._admitted(candles, decode_us, durable)
        if forecast and len(candles) <= self._group_rows_max:
            self._waiting.append(work)
            self._waiting_rows += len(candles)
            self._schedule_pump()
        else:
            self._start_waiting()  # what came before goes before
            self._start([work], forecast)
        return work

    def newest(self, symbols: Sequence[str], interval_ms: int, *, durable: bool = True) -> Work:
        """Forecast the newest closed candle of symbols; nothing moves.

        Raises:
            Overloaded, Stopped.
        """
        self._start_waiting()
        self._require_room(len(symbols))
        column = symbol_column(symbols)
        moved = self._features.newest(column, interval_ms)
        values = np.full((len(symbols), 8), np.nan)
        values[:, 3] = moved.pushed.close
        candles = Candles(
            symbol=column,
            interval_ms=np.full(len(symbols), interval_ms, dtype=np.int64),
            open_time_ms=moved.pushed.open_time_ms,
            values=values,
            forming=np.zeros(len(symbols), dtype=np.bool_),
        )
        work = self._admitted(candles, 0, durable)
        work.is_moving = True
        self._run(Group([work], candles, moved, asked=True))
        return work

    async def settled(self) -> None:
        """Return once all that was accepted so far is on disk, a forecast the model still owes excepted.

        Raises:
            StorageUnavailable: the disk fails.
        """
        self._start_waiting()
        await self._settled()

    async def _settled(self, of: Symbols | None = None) -> None:
        """Return once all new candles so far, or those of these symbols, are on disk."""
        waits = {given for given, new in self._unrecorded.items() if of is None or np.isin(of, new).any()}
        if waits:
            await asyncio.wait(waits)  # unlike gather, it cancels none of them when we are cancelled
        await self._recorder.settled()

    async def record_shadow(self, forecasts: Forecasts) -> None:
        """Store what a shadow said, whenever the disk gets to it.

        Raises:
            StorageUnavailable, Overloaded, Stopped.
        """
        with self._recorder.admit(len(forecasts)) as place:
            await place.record(None, forecasts, durable=False)

    async def record_missed(self, missed: Sequence[Missed]) -> None:
        """Put on record that forecasts were not made.

        Raises:
            StorageUnavailable, Overloaded, Stopped.
        """
        with self._admit(len(missed)) as place:
            await place.record(None, None, missed)

    def _require_room(self, rows: int) -> None:
        if self._stopping.is_set():
            raise Stopped("the server is shutting down")
        if self._rows + rows > self.rows_max:
            raise Overloaded(f"{self._rows} candles are under way, {self.rows_max} is the limit: try again later")

    def _admit(self, rows: int) -> Place:
        self._require_room(rows)
        return self._recorder.admit(2 * rows)  # a candle and a forecast each

    def _admitted(self, candles: Candles, decode_us: int, durable: bool) -> Work:
        place = self._admit(len(candles))
        self._rows += len(candles)
        loop = asyncio.get_running_loop()
        work = Work(candles, place, decode_us, durable, loop.create_future(), loop.create_future())
        work.done.add_done_callback(looked_at)
        if len(candles) <= self._group_rows_max:
            self._line.join(work)
        return work

    def _schedule_pump(self) -> None:
        # One loop turn later, so that callers of the same turn go together.
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while self._waiting and self._asking < self._groups_max and self._is_worth_it():
            self._start(self._next_works(), forecast=True)

    def _is_worth_it(self) -> bool:
        """Say whether what waits may go: at once if nothing is under way, beside others once it is as many as they are.

        Else the first of those who were just answered would go alone, and the others behind them in crumbs, each of
        which costs the machine what a large group does. A group waits for no model that is away, for no disk that its
        own callers would not wait for, and never for PostgreSQL.
        """
        durable = self._waiting[0].durable
        alike = (rows for group, rows in self._unanswered.items() if group.works[0].durable == durable)
        return self._waiting_rows >= max(alike, default=0)

    def _start_waiting(self) -> None:
        while self._waiting:
            self._start(self._next_works(), forecast=True)

    def _next_works(self) -> list[Work]:
        """Take from those that wait as many as go together: their answers wait for the disk, or none does."""
        works, rows = list[Work](), 0
        while self._waiting:
            following = self._waiting[0]
            fits = rows + len(following.candles) <= self._group_rows_max
            if works and not (fits and following.durable == works[0].durable) and not following.was_left:
                break
            self._waiting.popleft()
            self._waiting_rows -= len(following.candles)
            if following.was_left:
                self._leave([following])
                following.done.cancel()
                continue
            works.append(following)
            rows += len(following.candles)
        return works

    def _start(self, works: Sequence[Work], forecast: bool) -> None:
        """Move the state by the candles of works and begin the rest."""
        if not works:
            return
        for work in works:
            work.is_moving = True
        candles = works[0].candles if len(works) == 1 else Candles.joined([work.candles for work in works])
        try:
            moved = self._features.push(candles, windows=forecast)
        except BaseException as error:
            self._leave(works)
            for work in works:
                work.done.set_exception(error)
            return
        self._run(Group(works, candles, moved))

    def _run(self, group: Group) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the candles, to the recorder
        accepted = group.moved.pushed.verdict == feature_state.ACCEPTED
        if accepted.any():
            self._unrecorded[given] = group.candles.symbol[accepted]
            given.add_done_callback(self._unrecorded.pop)
        task = asyncio.create_task(self._answer(group, given))
        self._tasks.add(task)
        if (rows := len(group.candles)) <= self._group_rows_max:
            self._unanswered[group] = rows

        def done(task: asyncio.Task[None]) -> None:
            if not given.done():
                given.set_result(None)
            self._tasks.discard(task)
            self._no_longer_in_the_way(group)
            self._leave(group.works)
            if (error := asyncio.CancelledError() if task.cancelled() else task.exception()) is not None:
                for listener in self.listeners:
                    listener(None)
                group.fail(error)

        task.add_done_callback(done)

    def _leave(self, works: Sequence[Work]) -> None:
        for work in works:
            self._rows -= len(work.candles)
            work.place.__exit__(None, None, None)

    def _no_longer_in_the_way(self, group: Group) -> None:
        self._unanswered.pop(group, None)
        if self._waiting:
            self._schedule_pump()

    async def _answer(self, group: Group, given: asyncio.Future[None]) -> None:
        candles, moved, works = group.candles, group.moved, group.works
        place, durable = works[0].place, works[0].durable
        verdict = moved.pushed.verdict
        accepted = np.flatnonzero(verdict == feature_state.ACCEPTED)
        unrecorded = candles.take(accepted) if len(accepted) else None
        said: Said | None
        made, forecasts, error = None, None, None
        if len(unseen := accepted[moved.pushed.window[accepted] < 0]):
            self._signals.follow(candles.take(unseen))
        if len(moved.windows):
            recalled = await self._recall(candles, moved)
            asked = moved.only(recalled.fresh) if recalled else moved
            source = candles.take(asked.of_windows)
            of_gate = self._ask_gate(source) if len(source) else None
            self._being_asked[given] = asked.pushed.features_hash[asked.of_windows]
            given.add_done_callback(self._being_asked.pop)
            try:
                said = await self._ask(asked.windows, source) if len(source) else None
            except Exception as away:
                # The candles have moved the state: they are recorded whatever the model does.
                self._no_longer_in_the_way(group)
                away.with_traceback(None)  # of frames that hold windows, while the error is held by what they hold
                for work in works:
                    work.trouble.set_result(away)
                await self._record_now(place, unrecorded)
                unrecorded = None
                given.set_result(None)
                await self._finish_without_model(group)
                if recalled is not None:  # other versions may answer by then, and what is remembered is of those of now
                    recalled, asked, source = None, moved, candles.take(moved.of_windows)
                    of_gate = self._ask_gate(source)
                said, error = await self._ask_again(asked.windows, source, away)
            if said is not None:
                decode_us = max(work.decode_us for work in works)
                decisions = (await of_gate if of_gate else None) or nothing_said(len(source))
                made = self._interpret(source, asked, said, decode_us, decisions)
                said.spoke(made.meaning.confidence)
            forecasts = made
            if recalled is not None:
                forecasts = recalled.joined(made)
                self.ml_cache_hits_total += len(recalled.known)
            if error is not None:
                self._miss(candles, moved, error)
        started = time.perf_counter()
        recorded = Recorded(new=np.zeros(0, dtype=np.bool_), stored=np.zeros(0, dtype=np.bool_))
        if unrecorded is not None or forecasts is not None:
            recorded = await self._record(place, unrecorded, forecasts, durable=durable)
        if made is not None and self.shadow is not None:
            fresh = recalled.fresh if recalled else slice(None)
            self._tell(self.shadow, made, recorded.new[fresh], asked.windows, decisions)
        if not given.done():
            given.set_result(None)
        if durable and len(group.again):
            await self._settled(group.again)
        spool_us = int((time.perf_counter() - started) * 1e6)
        late = np.flatnonzero((verdict == feature_state.LATE) & ~candles.forming)
        answer = Answer(candles, moved, {}, forecasts, recorded, durable, spool_us, error)
        if forecasts is not None:
            for listener in self.listeners:
                listener(answer)
        if len(late):  # nobody else waits for what storage knows of them
            self._no_longer_in_the_way(group)
            group.finish(answer, but=late.tolist())
            known = await self._known(candles.take(late))
            self._count_conflicts(candles, late, known)
            answer = replace(answer, known=dict(zip(late.tolist(), known, strict=True)))
        group.finish(answer)
        self._observe(answer, group.asked)
        if error is not None:  # its callers may have left: nobody else will say it
            log.warning("candles=%d windows=%d error=%r", len(candles), len(moved.windows), error)

    async def _recall(self, candles: Candles, moved: Moved) -> Recalled | None:
        """Return what is remembered of the wanted forecasts; None: nothing is, as of every new candle.

        What others ask the model for just now is waited for, once: if they fail, we ask.
        """
        of_window = moved.of_windows
        if not (moved.pushed.verdict[of_window] == feature_state.DUPLICATE).any():
            return None
        if self._cache.is_on:
            wanted = moved.pushed.features_hash[of_window]
            waits = {given for given, asked in self._being_asked.items() if np.isin(wanted, asked).any()}
            if waits:
                await asyncio.wait(waits)
        source, state = candles.take(of_window), moved.pushed.state[of_window]
        series = self._signals.series.of(source.symbol, source.interval_ms)
        close_time_ms = source.open_time_ms + source.interval_ms
        serving = self.routes.answers(source.symbol, close_time_ms)
        recalled = self._cache.recall(series, close_time_ms, moved.pushed.features_hash[of_window], *serving)
        if (known := recalled.forecasts) is None:
            return None
        # The symbol may have become STALE or QUARANTINED since: that is said, and no signal leaves.
        state = state[recalled.known]
        reasons = self._signals.again(known.reasons, state)
        direction = np.where(reasons == 0, known.direction, 0).astype(np.int8)
        return replace(recalled, forecasts=replace(known, state=state, reasons=reasons, direction=direction))

    @staticmethod
    async def _record(place: Place, candles: Candles | None, forecasts: Forecasts | None, *, durable: bool) -> Recorded:
        """Record candles, and forecasts of one model or of two."""
        parts = forecasts.by_model() if forecasts is not None else []
        if len(parts) < 2:
            return await place.record(candles, parts[0][1] if parts else None, durable=durable)
        # All are handed over before any of them is waited for.
        given = [candles] + [None] * (len(parts) - 1)
        done = await asyncio.gather(
            *(place.record(candle, part, durable=durable) for candle, (_, part) in zip(given, parts, strict=True))
        )
        new, stored = (np.zeros(sum(len(part) for _, part in parts), dtype=np.bool_) for _ in range(2))
        for (at, _), recorded in zip(parts, done, strict=True):
            new[at], stored[at] = recorded.new, recorded.stored
        return Recorded(new=new, stored=stored)

    def _tell(self, shadow: Shadow, forecasts: Forecasts, new: Bool, windows: F32, decisions: Decisions) -> None:
        """Let the shadow hear of what has a forecast now; what was forecast before, or is not stored, it does not."""
        if new.all():
            shadow.hear(windows, lambda said: self._of_shadow(forecasts, said, decisions))
        elif new.any():
            at = np.flatnonzero(new)
            some, windows = forecasts.take(at), windows[at]
            of = Decisions(decisions.verdict[at], decisions.probability[at], decisions.degraded[at])
            shadow.hear(windows, lambda said: self._of_shadow(some, said, of))

    async def _finish_without_model(self, group: Group) -> None:
        """Answer those whose candles have no window: they need no model, nor what storage knows."""
        pushed = group.moved.pushed
        if group.works[0].durable and len(group.again):
            await self._settled(group.again)
        others = np.flatnonzero((pushed.window >= 0) | (pushed.verdict == feature_state.LATE))
        none = np.zeros(len(group.moved.windows), dtype=np.bool_)
        answer = Answer(group.candles, group.moved, {}, None, Recorded(none, none), group.works[0].durable, 0, None)
        group.finish(answer, but=others.tolist())

    async def _ask(self, windows: F32, source: Candles) -> Said:
        """Ask the model; meanwhile only so many groups do."""
        self._asking += 1
        try:
            return await self.routes.ask(windows, source.symbol, source.open_time_ms + source.interval_ms)
        finally:
            self._asking -= 1
            if self._waiting:
                self._schedule_pump()

    def _ask_gate(self, source: Candles) -> asyncio.Task[Decisions] | None:
        if self._gate is None:
            return None
        close_time_ms = source.open_time_ms + source.interval_ms
        return self._gate.judge_forecasts(source.symbol, close_time_ms, source.interval_ms, source.forming)

    def _miss(self, candles: Candles, moved: Moved, error: Exception) -> None:
        reason = error.reason if isinstance(error, CandlecastError) else type(error).__name__
        self.misses.model = self.routes.champion.model
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

    async def _ask_again(self, windows: F32, source: Candles, error: Exception) -> tuple[Said | None, Exception | None]:
        """Ask a model that is away until it answers, model_wait_ms pass, or we stop."""
        deadline, pause_s = time.monotonic() + self._model_wait_ms / 1000, _ASK_PAUSE_MIN_S
        while isinstance(error, Unavailable | Overloaded | DeadlineExceeded) and time.monotonic() < deadline:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s * random.uniform(0.5, 1.5))
            if self._stopping.is_set():
                break
            pause_s = min(2 * pause_s, _ASK_PAUSE_MAX_S)
            try:
                close_time_ms = source.open_time_ms + source.interval_ms
                return await self.routes.ask(windows, source.symbol, close_time_ms), None
            except Exception as still:
                error = still.with_traceback(None)
        return None, error

    def _count_conflicts(self, candles: Candles, late: I64, known: list[Known]) -> None:
        for i, what in zip(late.tolist(), known, strict=True):
            if what is Known.OTHER_VALUES:
                self._features.count_conflict(candles.symbol[i].decode(), int(candles.interval_ms[i]))

    def _interpret(self, source: Candles, moved: Moved, said: Said, decode_us: int, decisions: Decisions) -> Forecasts:
        """Return the forecasts of windows, whose candles are `source` and of which the gate decided so."""
        started = time.perf_counter()
        pushed, windows, of_window = moved.pushed, moved.windows, moved.of_windows
        state, gap_filled = pushed.state[of_window], pushed.gap_filled[of_window]
        outputs, model_agreement, degraded = ensemble.parts(said.outputs)
        meaning = interpret(outputs, said.temperatures)
        signal = self._signals.judge(meaning, source, windows, state, gap_filled, decisions.verdict)
        verdicts = signal.verdicts
        forecasts = Forecasts(
            symbol=source.symbol,
            interval_ms=source.interval_ms,
            close_time_ms=source.open_time_ms + source.interval_ms,
            close=source.values[:, 3],
            volume=source.values[:, 4],
            forming=source.forming,
            state=state,
            gap_filled=gap_filled,
            degraded=degraded | decisions.degraded | said.is_older_than(self._max_model_age_ms),
            model_agreement=model_agreement,
            features_hash=pushed.features_hash[of_window],
            rows=np.ascontiguousarray(windows[:, -1, :]),
            zero_variance=pushed.still[of_window].astype(np.int32),
            outputs=outputs,
            meaning=meaning,
            direction=verdicts.direction,
            strength=verdicts.strength,
            reasons=verdicts.reasons,
            rule_score=signal.rule_score,
            hybrid_score=signal.hybrid_score,
            size_multiplier=signal.size_multiplier,
            gate_verdict=decisions.verdict,
            gate_probability=decisions.probability,
            model=said.champion.model,
            challenger=said.challenger.model if said.challenger else None,
            by_challenger=said.by_challenger,
            times=StageTimes(
                decode_us=decode_us,
                features_us=moved.features_us,
                queue_us=said.queue_us,
                model_us=said.run_us,
                interpret_us=int((time.perf_counter() - started) * 1e6),
            ),
        )
        self._cache.keep(signal.series, forecasts)
        return forecasts

    def _of_shadow(self, heard: Forecasts, said: Said, decisions: Decisions) -> Forecasts:
        """Return what the shadow says where these forecasts were answered."""
        started = time.perf_counter()
        outputs, model_agreement, degraded = ensemble.parts(said.outputs)
        meaning = interpret(outputs, said.temperatures)
        signal = self._signals.alone(meaning, heard.rows, heard.state, heard.gap_filled, decisions.verdict)
        verdicts = signal.verdicts
        return replace(
            heard,
            degraded=degraded | decisions.degraded | said.is_older_than(self._max_model_age_ms),
            model_agreement=model_agreement,
            outputs=outputs,
            meaning=meaning,
            direction=verdicts.direction,
            strength=verdicts.strength,
            reasons=verdicts.reasons,
            rule_score=signal.rule_score,
            hybrid_score=signal.hybrid_score,
            size_multiplier=signal.size_multiplier,
            model=said.champion.model,
            challenger=None,
            by_challenger=None,
            shadow=True,
            times=replace(
                heard.times,
                queue_us=said.queue_us,
                model_us=said.run_us,
                interpret_us=int((time.perf_counter() - started) * 1e6),
            ),
        )
