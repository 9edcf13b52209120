"""Memory that Triton reads windows from, where the core wrote them. Knows rows of float32, not what they mean.

A window travels as two numbers instead of 92 KB: no copy into a message, through a socket and out of it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import mmap
import os
import re
import secrets
import weakref
from itertools import count
from pathlib import Path
from typing import Final, Self

import numpy as np

from candlecast.values import F32, I64

log = logging.getLogger(__name__)

DIRECTORY: Final = Path("/dev/shm")
PREFIX: Final = "candlecast-windows-"
ALIGNMENT: Final = 64
"""Bytes: whole cache lines, as vector instructions like them."""


class SharedWindows:
    """A region of shared memory; a context manager.

    Args:
        rows_max: windows it may hold. It takes memory as it is used, never more than that.
        shape: of one window.
    """

    def __init__(self, rows_max: int, shape: tuple[int, ...]) -> None:
        self._rows_max = rows_max
        self._shape = shape
        self._row_bytes = 4 * math.prod(shape)
        assert self._row_bytes % ALIGNMENT == 0, "every row begins at a cache line"
        self._free: list[tuple[int, int]] = [(0, rows_max)]  # (from, to) in rows, ascending
        self._reserved = 0  # rows the file system has promised
        self._file = -1
        self.name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        """Of the region, and of its file."""
        # What the models that are asked with it share: it is registered with Triton once for all of them.
        self.users = 0
        self.registering = asyncio.Lock()
        self.registration = 0
        """The number of the one at the tritonserver that answers now; 0: it knows nothing of this memory."""
        self._registrations = count(1)

    @property
    def size(self) -> int:
        """Return its bytes."""
        return self._rows_max * self._row_bytes

    def __enter__(self) -> Self:
        """Create it.

        Raises:
            OSError: this machine gives no shared memory.
        """
        _sweep()
        self._file = os.open(DIRECTORY / self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(self._file, self.size)
        self._memory = mmap.mmap(self._file, self.size)
        self._begin = np.frombuffer(self._memory, np.uint8).__array_interface__["data"][0]
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it; what still lies in it stays readable as long as somebody holds it."""
        os.close(self._file)
        (DIRECTORY / self.name).unlink(missing_ok=True)

    def registered(self) -> None:
        """Take note that Triton knows it now."""
        self.registration = next(self._registrations)

    def forgotten(self, registration: int) -> None:
        """Take note that Triton, another than before, knows nothing of it, unless it was told meanwhile."""
        if registration == self.registration:
            self.registration = 0

    def room(self, rows: int) -> F32:
        """Return room for windows [rows, …]: here, until nobody holds it or a part of it, else in ordinary memory."""
        start = self._take(rows)
        if start < 0:
            return np.empty((rows, *self._shape), np.float32)
        place = np.frombuffer(self._memory, np.float32, rows * self._row_bytes // 4, start * self._row_bytes)
        weakref.finalize(place.base, self._release, start, start + rows).atexit = False
        return place.reshape(rows, *self._shape)

    def joined(self, parts: list[F32]) -> F32:
        """Return the windows of parts [b, …], one part behind the other."""
        return np.concatenate(parts, out=self.room(sum(map(len, parts))))

    def picked(self, windows: F32, index: I64) -> F32:
        """Return rows [K] of windows [B, …]."""
        return np.take(windows, index, axis=0, out=self.room(len(index)), mode="clip")  # "raise" would copy twice

    def place_of(self, windows: F32) -> int | None:
        """Return at which byte windows [B, …] begin, None when they lie elsewhere."""
        offset = int(windows.__array_interface__["data"][0]) - self._begin
        return offset if 0 <= offset < self.size and windows.flags.c_contiguous else None

    def _take(self, rows: int) -> int:
        for i, (start, stop) in enumerate(self._free):
            if 0 < rows <= stop - start:
                if not self._promised(start + rows):
                    break
                self._free[i : i + 1] = [(start + rows, stop)] if start + rows < stop else []
                return start
        return -1

    def _promised(self, rows: int) -> bool:
        """Have the file system promise so many rows: to find none when they are written would end the process."""
        if rows > self._reserved:
            try:
                os.posix_fallocate(self._file, 0, rows * self._row_bytes)
            except OSError as error:
                log.warning("shared memory windows=%d error=%s", rows, error)
                return False
            self._reserved = rows
        return True

    def _release(self, start: int, stop: int) -> None:
        free = sorted([*self._free, (start, stop)])
        self._free = free[:1]
        for begin, end in free[1:]:
            if begin == self._free[-1][1]:
                self._free[-1] = self._free[-1][0], end
            else:
                self._free.append((begin, end))


def owner_is_gone(name: str) -> bool:
    """Say whether the process that made a region of this name has ended."""
    owner = re.fullmatch(rf"{PREFIX}(\d+)-[0-9a-f]+", name)
    return owner is not None and not Path(f"/proc/{owner[1]}").exists()


def _sweep() -> None:
    """Remove what processes left that were killed."""
    for path in DIRECTORY.glob(f"{PREFIX}*"):
        if owner_is_gone(path.name):
            path.unlink(missing_ok=True)
