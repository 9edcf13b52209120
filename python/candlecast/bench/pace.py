"""Open-loop load: things done on a schedule, whatever became of those before. Knows neither candle nor server."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable, Sequence

import numpy as np

from candlecast.values import F64

_MONOTONIC, _NONBLOCK, _ABSOLUTE = 1, os.O_NONBLOCK, 1  # of timerfd_create(2); perf_counter is that clock
_LIBC = ctypes.CDLL(None, use_errno=True)
_SPEC = struct.Struct("@qqqq")  # itimerspec: interval, then value, each in s and ns


class Schedule:
    """`count` moments, `rate_hz` of them a second. The first is due `head_s` after the start.

    A loop's own timers are rounded to milliseconds, so Linux keeps the time (timerfd; os has it from Python 3.13 on).
    """

    def __init__(self, rate_hz: float, count: int, *, head_s: float = 0.05) -> None:
        self.due_s = head_s + np.arange(count) / rate_hz  # [count], from the start
        self.late_s = np.zeros(count)
        """By how much each moment was missed: what the load generator itself costs, part of every latency."""
        self.started_s = 0.0

    async def run(self, fire: Callable[[int], None]) -> None:
        """Call fire(i) in this loop at each moment, never before it, and return after the last.

        One that comes late does not shift those after it. What fire raises ends the run.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        timer, due_s, i = _open_timer(), self.due_s.tolist(), 0
        self.started_s = time.perf_counter()

        def tick() -> None:
            nonlocal i
            try:
                while i < len(due_s) and (late_s := self.since_due_s(i)) >= 0:
                    self.late_s[i] = late_s
                    i += 1
                    fire(i - 1)
                if i < len(due_s):
                    _arm(timer, self.started_s + due_s[i])
                elif not done.done():
                    done.set_result(None)
            except Exception as error:
                if not done.done():
                    done.set_exception(error)

        def on_timer() -> None:
            try:
                os.read(timer, 8)
            except BlockingIOError:  # it was set anew meanwhile
                return
            if not done.done():
                tick()

        loop.add_reader(timer, on_timer)
        try:
            tick()
            await done
        finally:
            loop.remove_reader(timer)
            os.close(timer)

    def since_due_s(self, i: int) -> float:
        """Return the seconds since moment i was due."""
        return time.perf_counter() - self.started_s - float(self.due_s[i])


def percentiles(samples: Sequence[float] | F64, *points: float) -> list[float]:
    """Return percentiles of all samples, none of them estimated: the smallest sample with so many at or below it."""
    return [float(value) for value in np.percentile(samples, points, method="inverted_cdf")]


def _open_timer() -> int:
    timer: int = _LIBC.timerfd_create(_MONOTONIC, _NONBLOCK)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return timer


def _arm(timer: int, at_s: float) -> None:
    """Let the timer become readable at a time of perf_counter."""
    whole, rest = divmod(at_s, 1)
    spec = _SPEC.pack(0, 0, int(whole), max(1, int(rest * 1e9) + 1))
    if _LIBC.timerfd_settime(timer, _ABSOLUTE, spec, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
