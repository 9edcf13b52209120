"""A version that hears what the champion hears and is not heard: later, in small batches, as far as there is room.

It asks when no answer is under way, a few windows at a time: an answer that comes meanwhile waits for nothing but a
share of the processor. Knows neither Triton nor how forecasts are stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np

from candlecast.errors import CandlecastError
from candlecast.routing import Lane, Routes, Said
from candlecast.values import F32, Forecasts

log = logging.getLogger(__name__)

BATCH_ROWS: Final = 4
"""Asked at a time: 2 ms of one core."""
FAILURE_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    windows: F32  # [R, 96, F]
    interpret: Callable[[Said], Forecasts]


class Shadow:
    """Asks a lane about what it is given, while it is entered.

    Args:
        record: stores its forecasts.
        rows_max: windows that wait; more are not heard, which is counted.
    """

    def __init__(
        self, lane: Lane, routes: Routes, record: Callable[[Forecasts], Awaitable[None]], *, rows_max: int
    ) -> None:
        self.lane = lane
        self.not_heard = 0
        """Windows that found no room, or no answer."""
        self._routes = routes
        self._record = record
        self._rows_max = rows_max
        self._rows = 0
        self._waiting: deque[_Heard] = deque()
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._waiting.clear()

    def hear(self, windows: F32, interpret: Callable[[Said], Forecasts]) -> None:
        """Take windows [R, 96, F], if there is room for all; `interpret` makes forecasts of what is said to them."""
        if self._rows + len(windows) > self._rows_max:
            self.not_heard += len(windows)
            return
        self._rows += len(windows)
        self._waiting.append(_Heard(windows, interpret))
        self._some.set()

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            heard = self._waiting[0]
            try:
                said = await self._ask(heard.windows)
                forecasts = heard.interpret(said)
                said.spoke(forecasts.meaning.confidence)
                await self._record(forecasts)
            except CandlecastError as error:
                self.not_heard += len(heard.windows)
                log.info("shadow version=%d windows=%d error=%s", self.lane.model.version, len(heard.windows), error)
                await asyncio.sleep(FAILURE_PAUSE_S)
            except Exception as error:  # it must not end for a mistake of ours, or of its model
                self.not_heard += len(heard.windows)
                log.error("shadow version=%d: a mistake of ours", self.lane.model.version, exc_info=error)
            finally:
                self._waiting.popleft()
                self._rows -= len(heard.windows)
            del heard

    async def _ask(self, windows: F32) -> Said:
        parts, queue_us, run_us = [], 0, 0
        for start in range(0, len(windows), BATCH_ROWS):
            await self._routes.idle()
            batched = await self.lane.ask(windows[start : start + BATCH_ROWS])
            parts.append(batched.outputs)
            queue_us, run_us = queue_us + batched.queue_us, run_us + batched.run_us
        outputs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Said(outputs, queue_us, run_us, self.lane)
