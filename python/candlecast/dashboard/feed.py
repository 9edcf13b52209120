"""The live feed: forecasts as they come, handed to whoever looks. Knows neither where from nor by what door they leave.

A source yields batches of rows for as long as it can; when it fails it is asked again, after a pause. Each listener
keeps at most the newest forecast of each symbol it wants: one that reads slowly gets fewer, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from candlecast.dashboard.board import Board, Row
from candlecast.dashboard.listeners import Listener, Listeners, Wanted
from candlecast.errors import CandlecastError, Overloaded

LISTENERS_MAX: Final = 500
"""Pages and programs that look on at once."""
RETRY_PAUSE_MS: Final = 1_000
MINUTE_S: Final = 60.0
REFILL_S: Final = 60.0
"""After so long storage is asked anew: what another server made, or came while we began, is found then."""
AWAKE_TIMEOUT_MS: Final = 2_000
"""Longest wait of one who looks for a feed that rested."""
log = logging.getLogger(__name__)

Source = Callable[[], AsyncGenerator[Sequence[Row], None]]
EVERYTHING: Final = (Wanted(),)


class Feed:
    """Keeps a board current and tells listeners, while it is entered.

    Args:
        load: the newest forecast of every symbol; asked for whenever the source begins anew.
        source: what comes from then on.
        rest_after_s: without anybody who looks for so long it rests: the server has nobody to tell then.
    """

    def __init__(self, load: Callable[[], Any], source: Source, *, rest_after_s: float = math.inf) -> None:
        self.board = Board()
        self.trouble: str | None = "not begun"
        """Why nothing comes; None while all is well."""
        self.loaded = False
        self.heard_at = 0.0
        """When the source last gave a sign of life, on the monotonic clock."""
        self.resting = rest_after_s < math.inf
        """Nobody looks, and so nothing is heard."""
        self._rest_after_s = rest_after_s
        self._looked_at = -math.inf
        self._looked = asyncio.Event()
        self._began = asyncio.Event()
        self._counts: deque[tuple[float, int]] = deque()
        self._counted = 0
        self._load = load
        self._source = source
        self._listeners = Listeners()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def per_minute(self) -> int:
        """Return how many forecasts came within the last minute."""
        self._count(0)
        return self._counted

    @property
    def is_full(self) -> bool:
        """Say whether LISTENERS_MAX listen already."""
        return len(self._listeners) >= LISTENERS_MAX

    async def awake(self) -> None:
        """Be looked at: return once what comes is heard, and the board loaded, or AWAKE_TIMEOUT_MS passed."""
        self._looked_at = time.monotonic()
        self._looked.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(AWAKE_TIMEOUT_MS / 1000):
                await self._began.wait()

    @contextmanager
    def listen(self, wishes: Sequence[Wanted] = EVERYTHING) -> Iterator[Listener]:
        """Listen for as long as the body runs, to whatever one of the wishes takes.

        Raises:
            Overloaded: too many do.
        """
        if self.is_full:
            raise Overloaded(f"{LISTENERS_MAX} look on already: close some pages")
        listener = Listener()
        self._listeners.put(listener, wishes)
        self._looked.set()
        try:
            yield listener
        finally:
            self._looked_at = time.monotonic()
            self._listeners.remove(listener)

    def wish(self, listener: Listener, wishes: Sequence[Wanted]) -> None:
        """Tell one that listens of other forecasts from now on."""
        self._listeners.put(listener, wishes)

    @property
    def _is_looked_at(self) -> bool:
        return bool(self._listeners) or time.monotonic() - self._looked_at <= self._rest_after_s

    async def _run(self) -> None:
        while True:
            if not self._is_looked_at:
                self._rest()
                await self._looked.wait()
            self.resting = False
            try:
                rows = self._source()
                first = await anext(rows)  # before the board is loaded, so that nothing falls between
                await self._fill()
                self._tell(first)
                filled_at = time.monotonic()
                self._began.set()
                async for batch in rows:
                    self._tell(batch)
                    if not self._is_looked_at:
                        break
                    if time.monotonic() > filled_at + REFILL_S:
                        await self._fill()
                        filled_at = time.monotonic()
                else:
                    self.trouble = "the source has ended"
                if not self._is_looked_at:
                    await rows.aclose()
                    continue
            except CandlecastError as error:
                if self.trouble != str(error):
                    log.warning("feed down: %s", error)
                self.trouble = str(error)
            except Exception as error:  # a fault of ours: said, and tried again, for pages must not fall silent
                log.exception("feed failed")
                self.trouble = f"a fault of ours: {error!r}"
            if not self.loaded:  # what is stored can be looked at, also while nothing comes
                with suppress(CandlecastError):
                    await self._fill()
            self._began.set()  # with trouble: nobody waits for more
            await asyncio.sleep(RETRY_PAUSE_MS / 1000)

    def _rest(self) -> None:
        self.resting, self.loaded, self.trouble = True, False, None
        self._began.clear()
        self._looked.clear()
        self._counts.clear()
        self._counted = 0

    async def _fill(self) -> None:
        self._hand_out(await self._load())
        self.loaded = True

    def _tell(self, batch: Sequence[Row]) -> None:
        self.trouble, self.heard_at = None, time.monotonic()
        self._count(len(batch))
        self._hand_out(batch)

    def _count(self, more: int) -> None:
        now = time.monotonic()
        if more:
            self._counts.append((now, more))
            self._counted += more
        while self._counts and self._counts[0][0] < now - MINUTE_S:
            self._counted -= self._counts.popleft()[1]

    def _hand_out(self, rows: Sequence[Row]) -> None:
        for row in self.board.put(rows):
            if listeners := self._listeners.of(row):
                text = json.dumps(row, separators=(",", ":"))
                for listener in listeners:
                    listener.offer(row["symbol"], text)
