"""How late the event loop is, and what ends a process whose loop stands still. Knows nothing of what runs in it.

Everything waits for one loop: what blocks it, a call that does not return or a machine without a free core, delays
every forecast, and no part of the loop itself can say so meanwhile.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

log = logging.getLogger(__name__)

CHECK_S: Final = 0.1
"""Pause between two looks of the loop at the clock."""
SAY_S: Final = 1.0
"""Shortest pause between two lines of the log."""
FRAMES_MAX: Final = 8


class LoopWatch:
    """Measures, while it is entered, how much later than asked for the loop comes back to a task.

    Args:
        observe: is told of each delay, in seconds.
        late_s: a delay that is said in the log.
    """

    def __init__(self, observe: Callable[[float], None], *, late_s: float) -> None:
        self._observe = observe
        self._late_s = late_s
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

    async def _run(self) -> None:
        said_s, unsaid = -SAY_S, 0
        while True:
            asked_s = time.monotonic() + CHECK_S
            await asyncio.sleep(CHECK_S)
            now = time.monotonic()
            late_s = max(0.0, now - asked_s)
            self._observe(late_s)
            if late_s < self._late_s:
                continue
            if now - said_s < SAY_S:
                unsaid += 1
                continue
            log.warning("event loop late ms=%.0f before_unsaid=%d", 1000 * late_s, unsaid)
            said_s, unsaid = now, 0


class Watchdog:
    """Looks, while it is entered, from a thread at whether the loop goes on; enter it in the loop's own thread.

    A loop that stands still is said with where it stands. At the limit the process ends at once, as by a crash, so that
    whoever supervises it starts it again: what was acknowledged is in the journal. That is the interpreter's own timer
    (`faulthandler`), which needs no lock that the loop may hold; it leaves the stacks of all threads in the log.

    Args:
        stall_max_s: the limit; 0: it only says.
        say_s: how long the loop stands still before that is said.
    """

    def __init__(self, *, stall_max_s: float, say_s: float = 1.0) -> None:
        self._stall_max_s = stall_max_s
        self._say_s = say_s
        self._beat_s = time.monotonic()
        self._stopping = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._task = asyncio.create_task(self._beat())
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._stopping.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        faulthandler.cancel_dump_traceback_later()

    async def _beat(self) -> None:
        while True:
            self._beat_s = time.monotonic()
            if self._stall_max_s:
                faulthandler.dump_traceback_later(self._stall_max_s, exit=True, file=sys.stderr.fileno())
            await asyncio.sleep(self._say_s / 2)

    def _watch(self) -> None:
        said_of = 0.0
        while not self._stopping.wait(self._say_s / 2):
            beat_s = self._beat_s
            stands_s = time.monotonic() - beat_s - self._say_s / 2
            if stands_s < self._say_s or said_of == beat_s:
                continue
            said_of = beat_s
            log.error("event loop stands still seconds=%.1f limit=%g at=%s", stands_s, self._stall_max_s, self._where())

    def _where(self) -> str:
        """Return where the loop's thread is, innermost first, in one line."""
        frame = sys._current_frames().get(self._loop_thread)
        calls = traceback.extract_stack(frame)[-FRAMES_MAX:] if frame else []
        return " < ".join(f"{call.name} ({call.filename.rpartition('/')[2]}:{call.lineno})" for call in reversed(calls))
