"""Takes what is to be recorded of the order flow to the journal, again and again. Knows neither disk nor table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from candlecast.errors import Overloaded, Unavailable
from candlecast.order_flow import OrderFlow
from candlecast.values import FlowRecords

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.2


class FlowRecorder:
    """Runs while it is entered; leaving it records what is left.

    What cannot be recorded waits in the order flow, which gives up the oldest when there is too much of it.
    """

    def __init__(self, flow: OrderFlow, record: Callable[[FlowRecords], Awaitable[None]]) -> None:
        self._flow = flow
        self._record = record
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self._dropped = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.flush(all_of_them=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_S)
            await self.flush()

    async def flush(self, *, all_of_them: bool = False) -> None:
        """Record what is due; with `all_of_them` also intervals that are not over."""
        if (records := self._flow.take_records(all_of_them=all_of_them)) is None:
            return
        try:
            await self._record(records)
        except (Overloaded, Unavailable) as error:
            self._flow.give_back(records)
            if not self._is_failing:
                log.warning("order flow not recorded rows=%d, kept in memory error=%s", len(records), error)
            self._is_failing = True
        else:
            if self._is_failing:
                log.info("order flow is recorded again rows=%d", len(records))
            self._is_failing = False
        if self._flow.dropped > self._dropped:
            log.error("order flow given up rows=%d", self._flow.dropped - self._dropped)
            self._dropped = self._flow.dropped
