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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from candlecast import features as feature_state
from candlecast.cache import ForecastCache
from candlecast.catch_up import Misses
from candlecast.errors import CandlecastError, DeadlineExceeded, Overloaded, Stopped, Unavailable
from candlecast.features import Features, Moved
from candlecast.filters import Thresholds
from candlecast.gate import Decisions
from candlecast.gatekeeper import Gatekeeper, nothing_said
from candlecast.line import Line
from candlecast.reading import Reader
from candlecast.recall import Recall
from candlecast.routing import Asks, Lane, Routes, Said
from candlecast.shadow import Shadow
from candlecast.signals import Signals
from candlecast.together import Together
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
    Symbols,
)
from candlecast.values import symbols as symbol_column
from candlecast.work import Answer, Ask, Group, Place, Work, looked_at

log = logging.getLogger(__name__)

_ASK_PAUSE_MIN_S = 0.05
_ASK_PAUSE_MAX_S = 1.0
_ASKED_TOGETHER_MAX = 64
"""Symbols whose newest forecasts are wanted, of one group: most of them are remembered, as a rule."""


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
        self._signals = signals or Signals(feature_state.NAMES, feature_state.STATES, thresholds)
        self._reader = Reader(self._signals, max_model_age_ms)
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
        self._waiting = Together(batch_rows_max, self._give_up)  # small ones
        self._waiting_asks = {durable: Together(_ASKED_TOGETHER_MAX, self._give_up) for durable in (False, True)}
        self._line = Line()  # of all small ones under way
        self._pump_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._unrecorded: dict[asyncio.Future[None], Symbols] = {}  # whose new candles the recorder was not given yet
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
        self._recall = Recall(
            ForecastCache(ttl_s=0, rows_max=0) if cache is None else cache, self._signals, self.routes
        )
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
        while self._tasks or self._waiting or any(self._waiting_asks.values()):
            self._start_waiting()
            for asks in self._waiting_asks.values():
                while asks:
                    self._start_asked(asks.take())
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._first.__aexit__()

    def require_time(self, rows: int, timeout_ms: float) -> None:
        """Refuse at once what would not be answered in time anyway: its work would only keep others waiting.

        Raises:
            Overloaded: before any state has moved.
        """
        by_batches_s = self.routes.expected_s(rows + self._waiting.rows)
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
        work = self._admitted(len(candles), durable, candles=candles, decode_us=decode_us)
        if forecast and len(candles) <= self._group_rows_max:
            self._waiting.add(work)
            self._schedule_pump()
        else:
            self._start_waiting()  # what came before goes before
            self._start([work], forecast)
        return work

    def newest(self, symbols: Sequence[str], interval_ms: int, *, durable: bool = True) -> Work:
        """Forecast the newest closed candle of symbols, after what was accepted before; nothing moves.

        The answer is to all who asked together: see Work.

        Raises:
            Overloaded, Stopped.
        """
        work = self._admitted(len(symbols), durable, ask=Ask(symbols, interval_ms))
        if len(symbols) <= _ASKED_TOGETHER_MAX:
            self._waiting_asks[durable].add(work)
            self._schedule_pump()
        else:
            self._start_asked([work])
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

    def _admitted(
        self, rows: int, durable: bool, *, candles: Candles | None = None, decode_us: int = 0, ask: Ask | None = None
    ) -> Work:
        place = self._admit(rows)
        self._rows += rows
        loop = asyncio.get_running_loop()
        work = Work(candles, place, decode_us, durable, loop.create_future(), loop.create_future(), ask)
        work.done.add_done_callback(looked_at)
        if rows <= self._group_rows_max:
            self._line.join(work)
        return work

    def _schedule_pump(self) -> None:
        # One loop turn later, so that callers of the same turn go together.
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while self._waiting and self._asking < self._groups_max and self._waiting.is_worth_it(self._unanswered):
            self._start(self._waiting.take(), forecast=True)
        for asks in self._waiting_asks.values():  # nothing moves by them: their order is free
            while asks and asks.is_worth_it(self._unanswered):
                self._start_asked(asks.take())

    def _start_waiting(self) -> None:
        while self._waiting:
            self._start(self._waiting.take(), forecast=True)

    def _start(self, works: list[Work], forecast: bool) -> None:
        """Move the state by the candles of works and begin the rest."""
        if not works:
            return
        for work in works:
            work.is_moving = True
        parts = [work.candles for work in works if work.candles is not None]
        candles = parts[0] if len(parts) == 1 else Candles.joined(parts)
        try:
            moved = self._features.push(candles, windows=forecast)
        except BaseException as error:
            self._fail(works, error)
            return
        self._run(Group(works, candles, moved))

    def _start_asked(self, works: list[Work]) -> None:
        """Look up the newest candles of asks, each symbol once, and begin the rest."""
        asks = [work.ask for work in works if work.ask is not None]
        if not asks:
            return
        self._start_waiting()  # what came before goes before
        places = dict[str, int]()
        for work, ask in zip(works, asks, strict=True):
            work.is_moving = True
            work.places = [places.setdefault(name, len(places)) for name in ask.names]
        column, interval_ms = symbol_column(list(places)), asks[0].interval_ms
        try:
            moved = self._features.newest(column, interval_ms)
        except BaseException as error:
            self._fail(works, error)
            return
        values = np.full((len(column), 8), np.nan)
        values[:, 3] = moved.pushed.close
        candles = Candles(
            symbol=column,
            interval_ms=np.full(len(column), interval_ms, dtype=np.int64),
            open_time_ms=moved.pushed.open_time_ms,
            values=values,
            forming=np.zeros(len(column), dtype=np.bool_),
        )
        self._run(Group(works, candles, moved))

    def _fail(self, works: list[Work], error: BaseException) -> None:
        self._leave(works)
        for work in works:
            work.done.set_exception(error)

    def _give_up(self, work: Work) -> None:
        """Let go of a work whose caller left before its turn."""
        self._leave([work])
        work.done.cancel()

    def _run(self, group: Group) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the candles, to the recorder
        accepted = group.moved.pushed.verdict == feature_state.ACCEPTED
        if accepted.any():
            self._unrecorded[given] = group.candles.symbol[accepted]
            given.add_done_callback(self._unrecorded.pop)
        task = asyncio.create_task(self._answer(group, given))
        self._tasks.add(task)
        if (rows := len(group.candles)) <= (_ASKED_TOGETHER_MAX if group.is_asked else self._group_rows_max):
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
            self._rows -= work.rows
            work.place.__exit__(None, None, None)

    def _no_longer_in_the_way(self, group: Group) -> None:
        self._unanswered.pop(group, None)
        if self._waiting or any(self._waiting_asks.values()):
            self._schedule_pump()

    async def _answer(self, group: Group, given: asyncio.Future[None]) -> None:
        candles, moved, works = group.candles, group.moved, group.works
        verdict = moved.pushed.verdict
        accepted = np.flatnonzero(verdict == feature_state.ACCEPTED)
        unrecorded = candles.take(accepted) if len(accepted) else None
        if len(unseen := accepted[moved.pushed.window[accepted] < 0]):
            self._signals.follow(candles.take(unseen))
        if group.is_asked and await self._go_apart(group):
            return
        recalled = await self._recall.of(group) if len(moved.windows) else None
        place, durable = works[0].place, works[0].durable
        said: Said | None
        made, forecasts, error = None, None, None
        if len(moved.windows):
            asked = moved.only(recalled.fresh) if recalled else moved
            source = candles.take(asked.of_windows)
            of_gate = self._ask_gate(source) if len(source) else None
            self._recall.asks(asked, until=given)
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
                series, made = self._reader.read(source, asked, said, decode_us, decisions)
                self._recall.keep(series, made)
                said.spoke(made.meaning.confidence)
            forecasts = made
            if recalled is not None:
                forecasts = recalled.joined(made)
                self.ml_cache_hits_total += group.rows_at(moved.of_windows[recalled.known])
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
        self._observe(answer, group.is_asked)
        if error is not None:  # its callers may have left: nobody else will say it
            log.warning("candles=%d windows=%d error=%r", len(candles), len(moved.windows), error)

    async def _go_apart(self, group: Group) -> bool:
        """Start those who ask anew, apart, unless all of them go the same way at once.

        Who needs no model waits for nobody who does, and who needs it for nobody who waits for what others ask it just
        now; that is waited for once.
        """
        parted = self._recall.parted(group)
        if parted.asking or parted.waiting:  # for the model, that may take long
            self._no_longer_in_the_way(group)
        if not parted.waiting and not (parted.asking and parted.alone):
            return False
        group.works.clear()
        self._start_asked(parted.alone)
        self._start_asked(parted.asking)
        if parted.waiting:
            group.works.extend(parted.waiting)  # to be failed, should this be
            await asyncio.wait(parted.others)
            group.works.clear()
            for work in parted.waiting:  # with all others that have waited for the same
                work.has_waited = True
                self._waiting_asks[work.durable].add(work)
            self._schedule_pump()
        return True

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
            shadow.hear(windows, lambda said: self._reader.read_shadow(forecasts, said, decisions))
        elif new.any():
            at = np.flatnonzero(new)
            some, windows = forecasts.take(at), windows[at]
            of = Decisions(decisions.verdict[at], decisions.probability[at], decisions.degraded[at])
            shadow.hear(windows, lambda said: self._reader.read_shadow(some, said, of))

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
