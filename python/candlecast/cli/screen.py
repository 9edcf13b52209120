"""A terminal that may take nothing for a while: a thread writes to it, so that nobody else waits. Knows no picture.

A terminal that stands still (Ctrl-S, a stalled ssh, a program that does not read) holds up whoever writes to it, and
SIGINT does not end that: asyncio's handler asks the main task to end, and the write goes on before that task is heard.
"""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from candlecast.errors import CandlecastError

CLOSE_TIMEOUT_S: Final = 1.0
"""Longest wait, at the end, for a terminal to take what is left."""
WAITING_MAX: Final = 64
"""Writes; further ones are dropped. Whoever asks `takes_more` before a picture has two at most."""


class Screen:
    """The file of a rich Console, while it is entered.

    Args:
        descriptor: of the terminal.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text: list[str] = []
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)
        self._handed = self._taken = 0  # writes
        self._is_gone = False
        # A daemon: the process may end while it stands still in a write.
        self._thread = threading.Thread(target=self._write_all, name="screen", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT_S)

    def takes_more(self) -> bool:
        """Say whether the terminal has taken all that was flushed.

        Raises:
            CandlecastError: the terminal is gone.
        """
        if self._is_gone:
            raise CandlecastError("the terminal is gone")
        return self._taken == self._handed

    def write(self, text: str) -> int:
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the thread."""
        data = "".join(self._text).encode(self.encoding, "replace")
        self._text.clear()
        if data:
            with suppress(queue.Full):
                self._waiting.put_nowait(data)
                self._handed += 1

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def _write_all(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self._is_gone = True
                return
            self._taken += 1
