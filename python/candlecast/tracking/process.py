"""Outcomes are followed in a process of its own at low priority: serving's loop neither reckons nor carries rows.

The server says of which series it has stored candles: a line each, `INTERVAL_MS SYMBOL`, to the standard input of the
process, whose first line is its settings. Who starts looks at every series there is, so nothing depends on a line that
was lost, and a process that has ended is started again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from candlecast.lifecycle import Child, Keeper, give_way
from candlecast.store.batch import Batch
from candlecast.store.outcomes import Series
from candlecast.tracking.outcomes import NICE, Tracking

COMMAND: Final = [sys.executable, "-m", "candlecast.tracking.process"]
LINE_BYTES_MAX: Final = 64 * 1024
STOP_TIMEOUT_MS: Final = 2_000
log = logging.getLogger(__name__)


class TrackingProcess:
    """Follows outcomes while it is entered, by a process that it keeps running.

    Args:
        log_path: of the process.
        given: what `Tracking` takes by name.
    """

    def __init__(self, database_url: str, fees: float, *, log_path: Path, **given: Any) -> None:
        self._settings = json.dumps({"database_url": database_url, "fees": fees, **given})
        self._log_path = log_path
        self._due = dict[Series, None]()
        self._heard = asyncio.Event()
        self._worker: _Worker | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(Keeper("outcomes", self._make, log.warning, restarts_max=None))
            teller = asyncio.create_task(self._tell())
            stack.callback(teller.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int:
        """Return the process id of the process that runs now."""
        assert self._worker is not None, "not entered"
        return self._worker.child.pid

    def stored(self, batches: Sequence[Batch]) -> None:
        """Hear that rows are in PostgreSQL."""
        for batch in batches:
            self._due.update(dict.fromkeys(batch.series))
        if self._due:
            self._heard.set()

    def _make(self) -> _Worker:
        self._worker = _Worker(self._settings, self._log_path)
        return self._worker

    async def _tell(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            due, self._due = self._due, {}
            assert self._worker is not None, "the keeper has started one"
            with suppress(ConnectionError):  # who starts next looks at every series
                await self._worker.child.tell("".join(f"{ms} {symbol}\n" for symbol, ms in due).encode())


class _Worker:
    """One process."""

    def __init__(self, settings: str, log_path: Path) -> None:
        self._settings = settings
        self.child = Child(
            "outcomes",
            COMMAND,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            log_path=log_path,
            listens=True,
            stop_timeout_ms=STOP_TIMEOUT_MS,
        )

    async def __aenter__(self) -> Self:
        await self.child.__aenter__()
        with suppress(ConnectionError):  # it has ended already: whoever waits for it hears that
            await self.child.tell(self._settings.encode() + b"\n")  # not an argument: it may hold a password
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.child.__aexit__(kind, error, trace)

    async def wait(self) -> int:
        return await self.child.wait()


async def _run() -> None:
    """Follow until standard input ends."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    async with Tracking(given.pop("database_url"), given.pop("fees"), **given) as tracking:
        while line := await reader.readline():
            interval_ms, symbol = line.decode().split()
            tracking.look_at([(symbol, int(interval_ms))])


def main() -> None:
    """Be the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    give_way(NICE)
    asyncio.run(_run())


if __name__ == "__main__":
    main()
