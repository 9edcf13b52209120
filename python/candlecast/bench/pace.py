"""Open-loop load: things done on a schedule, whatever became of those before. Knows neither candle nor server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class Schedule:
    """`count` moments, `rate_hz` of them a second. The first is due `head_s` after the start.

    A loop's own timers are rounded to milliseconds, so a thread keeps the time.
    """

    def __init__(self, rate_hz: float, count: int, *, head_s: float = 0.05) -> None:
        self.due_s = head_s + np.arange(count) / rate_hz  # [count], from the start
        self.late_s = np.zeros(count)
        """By how much each moment was missed: what the load generator itself costs, part of every latency."""
        self.started_s = 0.0

    async def run(self, fire: Callable[[int], None]) -> None:
        """Call fire(i) in this loop at each moment, never before it, and return after the last.

        One that comes late does not shift those after it.
        """
        loop, done, gone = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        self.started_s = time.perf_counter()

        def now(i: int) -> None:
            if not gone.is_set():
                self.late_s[i] = self.since_due_s(i)
                fire(i)

        def keep() -> None:
            for i, due in enumerate(self.due_s.tolist()):
                if gone.wait(max(0.0, self.started_s + due - time.perf_counter())):
                    return
                loop.call_soon_threadsafe(now, i)
            loop.call_soon_threadsafe(done.set)

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            await done.wait()
        finally:
            gone.set()

    def since_due_s(self, i: int) -> float:
        """Return the seconds since moment i was due."""
        return time.perf_counter() - self.started_s - float(self.due_s[i])


def percentiles(samples: Sequence[float] | F64, *points: float) -> list[float]:
    """Return percentiles of all samples, none of them estimated: the smallest sample with so many at or below it."""
    return [float(value) for value in np.percentile(samples, points, method="inverted_cdf")]
