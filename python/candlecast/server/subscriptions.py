"""Forecasts to whoever subscribed: encoded once, kept once for all, read by each subscriber from a place of its own.

What is kept is bounded, and a subscriber is a number in it, so one that reads slowly costs nobody anything: when it is
further behind than what is kept, it gets the newest forecast of each series, or is ended, as it wished. Subscribers are
woken a few at a time, round by round, and the loop rests after a round for as long as it took: serving goes before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from candlecast.errors import InvalidRequest, Overloaded, Stopped, SubscriberBehind
from candlecast.series import SeriesNumbers, longer
from candlecast.server import convert
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import types_pb2
from candlecast.values import FAR_MS, I64, SYMBOL, Bool, Forecasts, Recorded
from candlecast.work import Answer

MESSAGE_FORECASTS_MAX: Final = 512
ENCODED_AT_ONCE: Final = 32
"""Forecasts, a millisecond's work; then the loop turns."""
MESSAGES_KEPT_MAX: Final = 32
"""Of 300 KB at most; those who want the same are sent the same bytes."""
WOKEN_AT_ONCE: Final = 16
REST_MAX_S: Final = 0.25
SYMBOLS_MAX: Final = 1_000
"""In one request."""
SEEN_FOR_S: Final = 30.0
"""After the last stored forecast was sent: so long one that was read from storage may still be on its way here."""
log = logging.getLogger(__name__)
_FORECASTS_TAG: Final = bytes([pb.SubscribeResponse.FORECASTS_FIELD_NUMBER << 3 | 2])
_SIDES: Final = (types_pb2.DIRECTION_LONG, types_pb2.DIRECTION_SHORT, types_pb2.DIRECTION_NEUTRAL)

Key = tuple[str, int, int, str, int]
"""Symbol, interval, close, model and version: what a forecast is stored by."""


class Storage(Protocol):
    """Where forecasts are read that were made before."""

    def since(self, request: pb.SubscribeRequest) -> AsyncGenerator[list[tuple[Key | None, types_pb2.Forecast]], None]:
        """Yield pages of what is stored of the request's close and later, in the order of closes, all of it so far.

        The key of what was stored long ago, and so will not be published any more, is None.
        """


@dataclass(frozen=True, slots=True)
class Told:
    """What is needed of an answer to put its forecasts into words."""

    forecasts: Forecasts
    recorded: Recorded
    durable: bool
    spool_us: int
    rows: I64  # those that are new


@dataclass(eq=False, slots=True)
class Subscriber:
    """Who reads from `place` on."""

    request: pb.SubscribeRequest
    place: int
    sides: Bool  # [4] by code of Direction
    symbols: frozenset[bytes]  # empty: all
    wanted: Bool  # [S] which series; grows
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    seen: set[Key] = field(default_factory=set)  # sent out of storage
    seen_until_s: float = 0.0

    @property
    def filters(self) -> tuple[object, ...]:
        """Return what is alike of those who want all symbols and get the same."""
        return self.request.min_confidence, self.sides.tobytes()


class Subscriptions:
    """Fans forecasts out while the body runs; tell it of answers by `publish`.

    Args:
        storage: where a subscriber is resumed from; None: nowhere.
        subscribers_max: further ones are refused.
        backlog_max: forecasts that are kept.
    """

    def __init__(self, storage: Storage | None, *, subscribers_max: int, backlog_max: int) -> None:
        self._storage, self._subscribers_max, self._backlog_max = storage, subscribers_max, backlog_max
        self._series = SeriesNumbers()
        self._symbols: list[bytes] = []  # of each series
        self._published = 0  # forecasts that were encoded since the start: the place of the next one
        # What is kept, by place modulo backlog_max.
        self._chunks: list[bytes] = [b""] * backlog_max
        self._keys: list[Key | None] = [None] * backlog_max
        self._of: I64 = np.zeros(backlog_max, dtype=np.int64)  # series
        self._confidence = np.zeros(backlog_max)
        self._side: NDArray[np.uint8] = np.zeros(backlog_max, dtype=np.uint8)
        # The newest of each series.
        self._newest: I64 = np.zeros(0, dtype=np.int64)  # its place, -1 without
        self._newest_chunks: list[bytes] = []
        self._newest_confidence = np.zeros(0)
        self._newest_side: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self._inbox = deque[Told]()
        self._inbox_rows = 0
        self._arrived = asyncio.Event()
        self._everything: dict[Subscriber, None] = {}
        self._by_symbol: dict[bytes, dict[Subscriber, None]] = {}
        self._messages: dict[tuple[object, ...], bytes] = {}  # made for this state of what is kept
        self._count = 0
        self._stopping = False
        self._pump_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._pump_task = asyncio.create_task(self._pump())
        self._pump_task.add_done_callback(self._pumped)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()
        if self._pump_task is not None:
            self._pump_task.cancel()
            await asyncio.wait({self._pump_task})

    def __len__(self) -> int:
        """Return how many subscribers there are."""
        return self._count

    def stop(self) -> None:
        """End every subscription with STOPPING."""
        self._stopping = True
        for subscriber in self._all():
            subscriber.wake.set()

    def publish(self, answer: Answer | None) -> None:
        """Take the forecasts of an answer that were not made before; costs nothing without subscribers.

        None: some were made and are not told of, but may be stored yet. Then everybody is too far behind.
        """
        if not self._count:
            return
        if answer is None:
            self._encode_all()
            self._published += self._backlog_max + 1
            for subscriber in self._all():
                subscriber.wake.set()
            return
        if answer.forecasts is None:
            return
        rows = np.flatnonzero(answer.recorded.new)
        if len(rows):
            self._inbox.append(Told(answer.forecasts, answer.recorded, answer.durable, answer.spool_us, rows))
            self._inbox_rows += len(rows)
            self._arrived.set()
            if self._inbox_rows > self._backlog_max:
                self._encode_all()

    async def subscribe(self, request: pb.SubscribeRequest) -> AsyncGenerator[bytes, None]:
        """Yield encoded SubscribeResponses until the subscriber leaves.

        Raises:
            InvalidRequest, Overloaded, StorageUnavailable, Stopped.
            SubscriberBehind: it reads too slowly, and wants to hear so.
        """
        with self._joined(request) as subscriber:
            if request.HasField("from_close_time_ms"):
                if self._storage is None:
                    raise InvalidRequest("from_close_time_ms", "this server reads no storage")
                async with aclosing(self._storage.since(request)) as pages:
                    async for page in pages:
                        subscriber.seen.update(key for key, _ in page if key is not None)
                        yield b"".join(chunk(forecast) for _, forecast in page)
                subscriber.seen_until_s = time.monotonic() + SEEN_FOR_S
                if self._published - subscriber.place > self._backlog_max:
                    raise SubscriberBehind("more forecasts were made meanwhile than are kept: subscribe again")
            yield pb.SubscribeResponse(live=True).SerializeToString()
            while True:
                for message in self._next(subscriber):
                    yield message
                await subscriber.wake.wait()
                subscriber.wake.clear()
                if self._stopping:
                    raise Stopped("the server is shutting down")

    @contextmanager
    def _joined(self, request: pb.SubscribeRequest) -> Iterator[Subscriber]:
        if self._stopping:
            raise Stopped("the server is shutting down")
        if self._count >= self._subscribers_max:
            raise Overloaded(f"{self._count} subscribers are served, which is the limit: try again later")
        subscriber = self._subscriber(request)
        groups = [self._by_symbol.setdefault(symbol, {}) for symbol in subscriber.symbols] or [self._everything]
        for group in groups:
            group[subscriber] = None
        self._count += 1
        try:
            yield subscriber
        finally:
            self._count -= 1
            for group in groups:
                group.pop(subscriber, None)
            for symbol in subscriber.symbols:
                if not self._by_symbol.get(symbol, True):
                    del self._by_symbol[symbol]

    def _subscriber(self, request: pb.SubscribeRequest) -> Subscriber:
        if len(request.symbols) > SYMBOLS_MAX:
            raise InvalidRequest("symbols", f"at most {SYMBOLS_MAX}, or none for all")
        if bad := [name for name in request.symbols if not SYMBOL.fullmatch(name)]:
            raise InvalidRequest("symbols", f"{bad[0]!r} is no symbol")
        if not 0 <= request.min_confidence <= 1:
            raise InvalidRequest("min_confidence", "is a fraction from 0 to 1")
        if not set(request.directions) <= set(_SIDES):
            raise InvalidRequest("directions", "are LONG, SHORT and NEUTRAL")
        if not 0 <= request.from_close_time_ms <= FAR_MS:
            raise InvalidRequest("from_close_time_ms", "must be ms since 1970")
        sides = np.zeros(4, dtype=np.bool_)
        sides[list(request.directions) or list(_SIDES)] = True
        symbols = frozenset(name.encode() for name in request.symbols)
        self._encode_all()  # what was made before is not for it
        return Subscriber(request, self._published, sides, symbols, np.zeros(0, dtype=np.bool_))

    def _next(self, subscriber: Subscriber) -> Iterator[bytes]:
        """Yield what a subscriber has not been sent, as messages of bounded size."""
        while (behind := self._published - subscriber.place) > 0:
            if behind > self._backlog_max:
                if subscriber.request.when_behind == pb.WHEN_BEHIND_END or subscriber.seen:
                    raise SubscriberBehind(
                        f"{behind} forecasts were made since the last that was read: subscribe again"
                    )
                yield from self._newest_of_each(subscriber, behind)
                continue
            stop = min(self._published, subscriber.place + MESSAGE_FORECASTS_MAX)
            message = self._message(subscriber, subscriber.place, stop)
            subscriber.place = stop
            if message:
                yield message

    def _message(self, subscriber: Subscriber, start: int, stop: int) -> bytes:
        """Return the forecasts from start to stop that a subscriber wants; made once for all who want the same."""
        if subscriber.seen and time.monotonic() > subscriber.seen_until_s > 0:
            subscriber.seen = set()
        if subscriber.seen:
            return self._unseen(subscriber, start, stop)
        if subscriber.symbols:
            return b"".join([self._chunks[at] for at in self._matching(subscriber, start, stop)])
        key = (start, stop, *subscriber.filters)
        if (made := self._messages.get(key)) is None:
            if len(self._messages) >= MESSAGES_KEPT_MAX:
                self._messages.clear()
            made = b"".join([self._chunks[at] for at in self._matching(subscriber, start, stop)])
            self._messages[key] = made
        return made

    def _unseen(self, subscriber: Subscriber, start: int, stop: int) -> bytes:
        places = self._matching(subscriber, start, stop)
        return b"".join([self._chunks[at] for at in places if self._keys[at] not in subscriber.seen])

    def _matching(self, subscriber: Subscriber, start: int, stop: int) -> list[int]:
        at = np.arange(start, stop) % self._backlog_max
        fits = subscriber.sides[self._side[at]] & (self._confidence[at] >= subscriber.request.min_confidence)
        if subscriber.symbols:
            fits &= self._wanted(subscriber)[self._of[at]]
        found: list[int] = at[fits].tolist()
        return found

    def _newest_of_each(self, subscriber: Subscriber, behind: int) -> Iterator[bytes]:
        """Yield the newest forecast of each series that has one since the subscriber's place, oldest first."""
        fits = self._newest >= subscriber.place
        fits &= subscriber.sides[self._newest_side] & (self._newest_confidence >= subscriber.request.min_confidence)
        if subscriber.symbols:
            wanted = self._wanted(subscriber)
            fits[: len(wanted)] &= wanted
        series = np.flatnonzero(fits)
        series = series[np.argsort(self._newest[series])]
        subscriber.place, skipped = self._published, behind - len(series)
        chunks = [self._newest_chunks[s] for s in series.tolist()]
        yield b"".join(chunks[:MESSAGE_FORECASTS_MAX]) + pb.SubscribeResponse(skipped=skipped).SerializeToString()
        for i in range(MESSAGE_FORECASTS_MAX, len(chunks), MESSAGE_FORECASTS_MAX):
            yield b"".join(chunks[i : i + MESSAGE_FORECASTS_MAX])

    def _wanted(self, subscriber: Subscriber) -> Bool:
        known = len(subscriber.wanted)
        if known < len(self._symbols):
            more = [symbol in subscriber.symbols for symbol in self._symbols[known:]]
            subscriber.wanted = np.concatenate([subscriber.wanted, np.array(more, dtype=np.bool_)])
        return subscriber.wanted

    def _pumped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("subscriptions end error=%r", error, exc_info=error)
            self.stop()

    async def _pump(self) -> None:
        """Encode what was published and wake those who want it, round by round."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            started, due = time.perf_counter(), dict[Subscriber, None]()
            while self._inbox:
                due.update(self._encode())
                await asyncio.sleep(0)
            everyone = list(due)
            for i in range(0, len(everyone), WOKEN_AT_ONCE):
                for subscriber in everyone[i : i + WOKEN_AT_ONCE]:
                    subscriber.wake.set()
                await asyncio.sleep(0)
            await asyncio.sleep(min(time.perf_counter() - started, REST_MAX_S))

    def _encode_all(self) -> None:
        due = dict[Subscriber, None]()
        while self._inbox:
            due.update(self._encode())
        for subscriber in due:
            subscriber.wake.set()

    def _encode(self) -> dict[Subscriber, None]:
        """Encode some of what was published, and return who wants to hear of it."""
        told = self._inbox.popleft()
        rows = told.rows[:ENCODED_AT_ONCE]
        if len(told.rows) > len(rows):
            rest = Told(told.forecasts, told.recorded, told.durable, told.spool_us, told.rows[len(rows) :])
            self._inbox.appendleft(rest)
        self._inbox_rows -= len(rows)
        some = told.forecasts.take(rows)
        spoken = Told(
            some, Recorded(told.recorded.new[rows], told.recorded.stored[rows]), told.durable, told.spool_us, rows
        )
        series = self._series.of(some.symbol, some.interval_ms)
        self._make_room(some, series)
        places = self._published + np.arange(len(rows))
        at = places % self._backlog_max
        confidence = np.nan_to_num(some.meaning.confidence)
        side = convert.directions(some.direction)
        self._of[at], self._confidence[at], self._side[at] = series, confidence, side
        self._newest[series], self._newest_confidence[series], self._newest_side[series] = places, confidence, side
        keys = zip(some.names, some.interval_ms.tolist(), some.close_time_ms.tolist(), strict=True)
        of_series = series.tolist()
        for i, (forecast, key) in enumerate(zip(convert.forecasts(spoken, closes=True), keys, strict=True)):
            encoded = chunk(forecast)
            self._chunks[at[i]] = self._newest_chunks[of_series[i]] = encoded
            self._keys[at[i]] = (*key, forecast.model.name, forecast.model.version)
        self._published += len(rows)
        self._messages.clear()
        due = dict(self._everything)
        if self._by_symbol:
            for symbol in dict.fromkeys(some.symbol.tolist()):
                due.update(self._by_symbol.get(symbol, {}))
        return due

    def _make_room(self, some: Forecasts, series: I64) -> None:
        """Have places for all series there are by now."""
        count = len(self._series)
        if count == len(self._symbols):
            return
        first = len(self._symbols)
        self._symbols += [b""] * (count - first)
        for number, symbol in zip(series.tolist(), some.symbol.tolist(), strict=True):
            self._symbols[number] = symbol
        self._newest_chunks += [b""] * (count - first)
        self._newest = longer(self._newest, count, -1)
        self._newest_confidence = longer(self._newest_confidence, count, 0)
        self._newest_side = longer(self._newest_side, count, 0)

    def _all(self) -> list[Subscriber]:
        groups = (self._everything, *self._by_symbol.values())
        return list(dict.fromkeys(subscriber for group in groups for subscriber in group))


def chunk(forecast: types_pb2.Forecast) -> bytes:
    """Return a forecast as it stands in an encoded SubscribeResponse: chunks behind one another are a message."""
    data: bytes = forecast.SerializeToString()
    size, length = bytearray(), len(data)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return _FORECASTS_TAG + bytes(size) + data
