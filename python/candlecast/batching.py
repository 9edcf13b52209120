"""Batching without a timer: while every slot is busy, what waits is the next batch. Knows arrays, not what they mean.

A lone caller is dispatched at once; under load batches fill by themselves. A large request is cut into pieces, so
that it fills several slots, and small ones go first: they wait for no more than the batches under way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


_WEIGHT = 0.2
"""Of the newest batch in the average of their durations."""


class QueueFull(Exception):
    """As many rows wait as may wait."""


class Closed(Exception):
    """The batcher was left; nothing more is run."""


@dataclass(frozen=True, slots=True)
class Batched:
    outputs: Rows  # [B, …] in the order of the rows
    queue_us: int  # until the first of the rows was dispatched
    run_us: int  # from then until the last of them was answered


@dataclass(slots=True, eq=False)
class _Request:
    rows: Rows
    future: asyncio.Future[Batched]
    queued_s: float
    started_s: float = 0.0
    taken: int = 0
    answered: int = 0
    outputs: list[tuple[int, Rows]] = field(default_factory=list)


class Batcher:
    """Run rows through `run` in batches of at most batch_rows_max, at most in_flight_max of them at a time.

    Args:
        run: answers rows [b, …] with outputs [b, …]; an error it raises goes to every caller of that batch.
        queue_rows_max: rows that may wait; beyond it `submit` raises QueueFull.
        join: puts the rows of several callers behind one another.
    """

    def __init__(
        self,
        run: Callable[[Rows], Awaitable[Rows]],
        *,
        batch_rows_max: int,
        in_flight_max: int,
        queue_rows_max: int,
        join: Callable[[list[Rows]], Rows] = np.concatenate,
    ) -> None:
        self._run = run
        self._batch_rows_max = batch_rows_max
        self._in_flight_max = in_flight_max
        self._queue_rows_max = queue_rows_max
        self._join = join
        self._waiting: deque[_Request] = deque()
        self._waiting_rows = 0
        self._batch_s = 0.0  # of late, a moving average
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pump_scheduled = False
        self._closed = False
        self.idle = asyncio.Event()
        """Set while nothing waits and nothing is under way."""
        self.idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._closed = True
        for request in self._waiting:
            if not request.future.done():
                request.future.set_exception(Closed())
        self._waiting.clear()
        self._waiting_rows = 0
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        self.idle.set()

    @property
    def waiting_rows(self) -> int:
        return self._waiting_rows

    def expected_s(self, rows: int) -> float:
        """Return in how many seconds so many more rows would be answered, judging by the batches of late.

        It is 0 while nothing is under way: only new batches can tell that a slow model is well again.
        """
        if not self._in_flight:
            return 0.0
        batches = len(self._in_flight) + -(-(self._waiting_rows + rows) // self._batch_rows_max)
        return -(-batches // self._in_flight_max) * self._batch_s

    async def submit(self, rows: Rows) -> Batched:
        """Answer rows [B, …], B ≥ 1. A caller that is cancelled leaves the queue.

        Raises:
            QueueFull: at once, when queue_rows_max would be passed.
            Closed: the batcher was left.
        """
        if self._closed:
            raise Closed
        if self._waiting_rows + len(rows) > self._queue_rows_max:
            raise QueueFull
        request = _Request(rows, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(request)
        self._waiting_rows += len(rows)
        self.idle.clear()
        self._schedule_pump()
        return await request.future

    def _schedule_pump(self) -> None:
        # One loop turn later, so that callers of the same turn share a batch.
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while self._waiting and len(self._in_flight) < self._in_flight_max:
            pieces = self._take()
            if pieces:
                task = asyncio.create_task(self._dispatch(pieces))
                self._in_flight.add(task)
                task.add_done_callback(self._landed)
        self._note_idle()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if self._waiting:
            self._schedule_pump()
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._waiting and not self._in_flight:
            self.idle.set()

    def _take(self) -> list[tuple[_Request, int, int]]:
        """Cut the next batch off the queue: (request, from row, to row).

        First come those that fit, as far as three quarters of the room; then the oldest of the others gets what is left
        of it. A batch of one request alone needs not be joined.
        """
        pieces: list[tuple[_Request, int, int]] = []
        room, kept = self._batch_rows_max, self._batch_rows_max // 4
        large: list[_Request] = []
        now = time.perf_counter()
        for _ in range(len(self._waiting)):
            request = self._waiting.popleft()
            left = len(request.rows) - request.taken
            if request.future.done():  # its caller left, or another piece of it failed
                self._waiting_rows -= left
            elif left <= room and (room == self._batch_rows_max or left <= room - kept):
                pieces.append(self._cut(request, left, now))
                room -= left
            else:
                large.append(request)
        if large and room:
            request = large.pop(0)
            pieces.append(self._cut(request, min(room, len(request.rows) - request.taken), now))
            if request.taken < len(request.rows):
                large.insert(0, request)  # it goes on: if all took turns, all would be late under overload
        self._waiting.extend(large)
        return pieces

    def _cut(self, request: _Request, size: int, now: float) -> tuple[_Request, int, int]:
        if request.taken == 0:
            request.started_s = now
        start = request.taken
        request.taken += size
        self._waiting_rows -= size
        return request, start, request.taken

    async def _dispatch(self, pieces: list[tuple[_Request, int, int]]) -> None:
        views = [request.rows[start:stop] for request, start, stop in pieces]
        begun_s = time.perf_counter()
        try:
            outputs = await self._run(views[0] if len(views) == 1 else self._join(views))
        except Exception as error:
            for request, _, _ in pieces:
                if not request.future.done():
                    request.future.set_exception(error)
            return
        self._batch_s += _WEIGHT * (time.perf_counter() - begun_s - self._batch_s)
        at = 0
        for request, start, stop in pieces:
            self._answer(request, start, outputs[at : at + stop - start])
            at += stop - start

    @staticmethod
    def _answer(request: _Request, start: int, outputs: Rows) -> None:
        request.outputs.append((start, outputs))
        request.answered += len(outputs)
        if request.answered < len(request.rows) or request.future.done():
            return
        parts: list[Any] = [part for _, part in sorted(request.outputs, key=lambda piece: piece[0])]
        now = time.perf_counter()
        request.future.set_result(
            Batched(
                outputs=parts[0] if len(parts) == 1 else np.concatenate(parts),
                queue_us=int((request.started_s - request.queued_s) * 1e6),
                run_us=int((now - request.started_s) * 1e6),
            )
        )
