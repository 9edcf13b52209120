"""Candles under way, and what became of them: of one caller's, and of those that went the same way together.

Knows neither who asks nor who computes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

from candlecast.errors import DeadlineExceeded
from candlecast.features import DUPLICATE, Moved
from candlecast.values import I64, Candles, Forecasts, Known, Missed, Recorded, Symbols


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


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of N candles; the forecasts of those whose `forecast` is not -1."""

    candles: Candles
    moved: Moved
    known: dict[int, Known]  # late candles by index: what storage knows of them
    forecasts: Forecasts | None
    recorded: Recorded
    durable: bool  # it is on disk
    spool_us: int
    error: Exception | None  # why forecasts are missing, when they are

    @property
    def whole(self) -> Answer:
        """Return the answer to all candles that went the same way; its own are those from `start` to `stop`."""
        return self

    @property
    def start(self) -> int:
        return 0

    @property
    def stop(self) -> int:
        return len(self.moved.pushed.verdict)


class Part:
    """What became of some of the candles of an answer; cut off when it is looked at. The columns are views."""

    def __init__(self, whole: Answer, start: int, stop: int) -> None:
        self.whole, self.start, self.stop = whole, start, stop
        self.durable, self.spool_us = whole.durable, whole.spool_us

    @cached_property
    def moved(self) -> Moved:
        return self.whole.moved.part(self.start, self.stop)

    @cached_property
    def known(self) -> dict[int, Known]:
        return {i - self.start: known for i, known in self.whole.known.items() if self.start <= i < self.stop}

    @cached_property
    def _windows(self) -> tuple[int, int]:
        moved = self.whole.moved
        return moved.windows_before(self.start), moved.windows_before(self.stop)

    @cached_property
    def forecasts(self) -> Forecasts | None:
        before, until = self._windows
        return self.whole.forecasts.part(before, until) if self.whole.forecasts and until > before else None

    @cached_property
    def recorded(self) -> Recorded:
        of = slice(*self._windows)
        return Recorded(self.whole.recorded.new[of], self.whole.recorded.stored[of])

    @property
    def error(self) -> Exception | None:
        if self.whole.error is None:
            return None
        before, until = self._windows
        return self.whole.error if until > before else None


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """For the newest closed candles of symbols: none is sent."""

    names: Sequence[str]
    interval_ms: int


@dataclass(slots=True, eq=False)
class Work:
    """Candles under way, or an ask; await it for the answer, however long that takes.

    Those who ask together are answered together: `places` says which rows of the answer are whose.
    """

    candles: Candles | None
    place: Place
    decode_us: int
    durable: bool
    done: asyncio.Future[Answer | Part]
    trouble: asyncio.Future[Exception]  # why the model did not answer at first, while it is asked again
    ask: Ask | None = None
    places: Sequence[int] = ()  # of an ask that has begun
    has_waited: bool = False  # an ask, for what others asked the model
    is_moving: bool = False  # the state has taken the candles
    was_left: bool = False  # before that, by its caller: it is not begun
    rows: int = field(init=False)  # candles that it is about

    def __post_init__(self) -> None:
        self.rows = len(self.ask.names) if self.ask else len(self.candles or ())

    def goes_the_way_of(self, other: Work) -> bool:
        """Say whether both are of one kind, and both or neither wait for the disk."""
        return self.durable == other.durable and (self.ask is None) == (other.ask is None)

    def goes_with(self, other: Work) -> bool:
        """Say whether both may be of one group."""
        interval_ms = [work.ask.interval_ms for work in (self, other) if work.ask]
        return self.goes_the_way_of(other) and interval_ms[1:] == interval_ms[:-1]

    def __await__(self) -> Generator[Any, None, Answer | Part]:
        return asyncio.shield(self.done).__await__()

    async def answer(self, timeout_ms: float, *, patient: bool) -> Answer | Part:
        """Wait for the answer; past timeout_ms, or at the first trouble unless patient, leave.

        The work goes on, unless it still waited for its turn: then nothing has moved, and nothing will.

        Raises:
            DeadlineExceeded, and what the trouble is.
        """
        told: asyncio.Future[Answer | Part | BaseException] = asyncio.get_running_loop().create_future()

        def tell(outcome: Answer | Part | BaseException) -> None:
            if not told.done():  # its caller was cancelled in this very turn
                told.set_result(outcome)

        waiter = Waiter(self, tell, timeout_ms, patient=patient)
        try:
            outcome = await told
        except asyncio.CancelledError:
            waiter.leave()
            raise
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome, told  # the error holds this frame: they would keep each other, and the work
        return outcome


class Waiter:
    """Who waits for the answer of a work: `told` is called with it, or with why there is none, once.

    Args: as of Work.answer.
    """

    __slots__ = ("_timer", "_told", "_work")

    def __init__(
        self, work: Work, told: Callable[[Answer | Part | BaseException], object], timeout_ms: float, *, patient: bool
    ) -> None:
        self._work = work
        self._told: Callable[[Answer | Part | BaseException], object] | None = told
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(timeout_ms / 1000, self._late, timeout_ms)
        work.done.add_done_callback(self._done)
        if not patient:
            work.trouble.add_done_callback(self._trouble)

    def leave(self) -> None:
        """Wait no more: what has not begun will not."""
        if self._told is not None:
            self._work.was_left = not self._work.is_moving
            self._end()

    def _end(self) -> Callable[[Answer | Part | BaseException], object] | None:
        told, self._told = self._told, None
        self._timer.cancel()
        self._work.trouble.remove_done_callback(self._trouble)  # seldom comes: it would keep the work with all it holds
        return told

    def _done(self, done: asyncio.Future[Answer | Part]) -> None:
        if told := self._end():
            told(asyncio.CancelledError() if done.cancelled() else done.exception() or done.result())

    def _trouble(self, trouble: asyncio.Future[Exception]) -> None:
        if not trouble.cancelled() and (told := self._end()):
            told(trouble.result())

    def _late(self, timeout_ms: float) -> None:
        if told := self._end():
            work = self._work
            work.was_left = not work.is_moving
            meanwhile = "nothing has moved" if work.was_left else "the candles count and the work goes on"
            told(DeadlineExceeded(f"no answer within {timeout_ms:.0f} ms; {meanwhile}"))


@dataclass(frozen=True, eq=False)
class Group:
    """Work of several callers that goes one way together, one behind the other."""

    works: list[Work]
    candles: Candles
    moved: Moved

    @cached_property
    def is_asked(self) -> bool:
        """Whether it is of asks."""
        return self.works[0].ask is not None

    @cached_property
    def again(self) -> Symbols:
        """The symbols of candles that were sent again: their first copy may still be on its way to the disk."""
        again: Symbols = self.candles.symbol[(self.moved.pushed.verdict == DUPLICATE) & (not self.is_asked)]
        return again

    def finish(self, answer: Answer, *, but: Sequence[int] = ()) -> None:
        """Answer each caller with its part, of asks with the whole, except those that have one of these candles."""
        start = 0
        for work in self.works:
            stop = start + work.rows
            own = work.places if self.is_asked else range(start, stop)
            if not work.done.done() and not any(i in own for i in but):
                is_whole = self.is_asked or len(self.works) == 1
                work.done.set_result(answer if is_whole else Part(answer, start, stop))
            start = stop

    def rows_at(self, index: I64) -> int:
        """Return how many rows [K] these are to its callers: of asks, the same may be of several."""
        chosen = set(index.tolist())
        return sum(i in chosen for work in self.works for i in work.places) if self.is_asked else len(chosen)

    def fail(self, error: BaseException) -> None:
        for work in self.works:
            if not work.done.done():
                work.done.set_exception(error)


def looked_at(done: asyncio.Future[Answer | Part]) -> None:
    """Take an error for seen, although its caller may have left."""
    if not done.cancelled():
        done.exception()
