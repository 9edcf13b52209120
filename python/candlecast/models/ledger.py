"""What is written of a model's versions: where each stands, and what happened. Knows no traffic and no SQL.

The standing is written with its events before anything follows it. Events wait there until the database has them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from candlecast.errors import CandlecastError, StorageUnavailable
from candlecast.models.library import KEPT_EVENTS_MAX, Library
from candlecast.models.states import Event, Standing, newest_first

log = logging.getLogger(__name__)

PAUSE_S: Final = 2.0
"""Between two tries to reach the database."""
SENT_MAX: Final = 100
"""Events handed to the database at a time."""


class Ledger:
    """The standing of a model's versions; `lock` is held by whoever changes it.

    Args:
        record: stores events; it may fail, and is given them again.
    """

    def __init__(self, library: Library, record: Callable[[Sequence[Event]], Awaitable[None]]) -> None:
        self.standing = Standing(library.name)
        self.lock = asyncio.Lock()
        self._library = library
        self._record = record
        self._recorded: tuple[Event, ...] = ()
        self._pending: tuple[Event, ...] = ()
        self._some_pending = asyncio.Event()

    async def read(self) -> bool:
        """Take up what was written; false: nothing was.

        Raises:
            BundleError: it is damaged.
        """
        found = await asyncio.to_thread(self._library.read)
        if found is None:
            return False
        self.standing, self._recorded, self._pending = found[0], tuple(found[1]), tuple(found[2])
        self._some_pending.set()
        return True

    async def keep(self, standing: Standing, events: Sequence[Event]) -> None:
        """Write a standing and its events; from then on they are so.

        Raises:
            StorageUnavailable: they cannot be written; nothing has changed.
        """
        pending = (*self._pending, *events)
        try:
            await asyncio.to_thread(self._library.write, standing, self._recorded, pending)
        except OSError as error:
            raise StorageUnavailable(f"state_dir: {error}: nothing was changed") from error
        self.standing, self._pending = standing, pending
        self._say(events)

    async def keep_anyway(self, standing: Standing, events: Sequence[Event]) -> None:
        """Let a standing be so, and write it if that can be done; else it is written with the next."""
        self.standing = standing
        try:
            await self.keep(standing, events)
        except StorageUnavailable as error:
            self._pending = (*self._pending, *events)
            self._say(events)
            log.error("not written error=%s", error)

    def events(self, version: int | None, limit: int) -> Sequence[Event]:
        """Return what happened, with one version or with all, newest first."""
        events = [one for one in (*self._recorded, *self._pending) if version in (None, one.version)]
        return newest_first(events)[:limit]

    async def send(self) -> None:
        """Have events recorded, whenever the database takes them; never ends."""
        while True:
            await self._some_pending.wait()
            self._some_pending.clear()
            while some := self._pending[:SENT_MAX]:
                try:
                    await self._record(some)
                except CandlecastError as error:
                    log.info("events wait pending=%d error=%s", len(self._pending), error)
                    await asyncio.sleep(PAUSE_S)
                    continue
                async with self.lock:
                    self._recorded = (*self._recorded, *some)[-KEPT_EVENTS_MAX:]
                    self._pending = self._pending[len(some) :]
                    # What cannot be noted is told once more after a restart, which is harmless.
                    await self.keep_anyway(self.standing, [])

    def _say(self, events: Sequence[Event]) -> None:
        for one in events:
            before = one.from_state.value if one.from_state else "-"
            words = one.version, before, one.to_state.value, one.who, one.why
            log.info("model version=%d from=%s to=%s who=%s why=%s", *words)
        if events:
            self._some_pending.set()
