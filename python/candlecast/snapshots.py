"""Snapshots of all symbols in one file, saved now and then, read back whatever became of it. Knows no feature.

`DIR/<time_ns>.snapshots` is a magic with a version, a record per symbol and an end mark. Each record begins with a head
that names its symbol and has a checksum of its own; what follows it is checked by the market. The file gets its name
only when it is complete and on disk, and the newest two are kept: what is damaged in one is taken from the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self
from zlib import crc32

FILES_KEPT: Final = 2
SYNC_BYTES: Final = 16 * 1024 * 1024
"""Written between two syncs: who syncs another file on this disk meanwhile waits for no more than that."""
SETTLE_TIMEOUT_S: Final = 60.0
LOGGED_MAX: Final = 10
"""Damaged records that are named in the log, of one file."""
_ENDING, _PARTIAL = ".snapshots", ".partial"
_MAGIC: Final = b"CCSNAP\x01\x00"
_SNAPSHOT, _END = b"SNAP", b"LAST"
_HEAD: Final = struct.Struct("<4sIq32sI")
"""What it is; bytes that follow (the end mark: records before it); interval in ms; symbol; crc32 of the rest."""
log = logging.getLogger(__name__)

Key = tuple[str, int]
"""Symbol and interval in ms."""


class Market(Protocol):
    """What is saved. Its methods are called in a thread."""

    @property
    def reference_symbol(self) -> str | None:
        """The symbol that others are compared with, if any."""

    @property
    def moves(self) -> int:
        """A number that grows with every change."""

    def symbols(self) -> list[Key]:
        """Return what is known, the reference symbol first."""

    def snapshot(self, symbol: str, interval_ms: int) -> bytes | None:
        """Return what is remembered of a symbol."""

    def restore(self, snapshot: bytes) -> Key:
        """Put a symbol back, or raise ValueError with the reason."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    keys: set[Key]
    damaged: int  # records and files that were not what had been written


class _Damaged(ValueError):
    """A file is not what was written, from here on."""


class _Abandoned(Exception):
    """A save is broken off, because the last one is about to begin."""


class Snapshots:
    """Saves the market every interval_s while the body runs, when it has changed, and once more on leaving.

    A save that fails says so and is tried again at the next interval. Nothing waits for it.

    Args:
        directory: made when it is missing; of one process at a time.
        settled: returns when everything that the market has taken so far is on disk elsewhere, and raises when that
            cannot be: a snapshot must never know what nobody else does.
    """

    def __init__(
        self, directory: Path, market: Market, settled: Callable[[], Awaitable[None]], *, interval_s: float
    ) -> None:
        self._directory = directory
        self._market = market
        self._settled = settled
        self._interval_s = interval_s
        self._saved_moves = 0
        self.saved_at_s: float | None = None
        """When everything was last saved, seconds since 1970; None: not yet."""
        self._stopping = asyncio.Event()
        self._abandon = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._save_now_and_then())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._abandon = True
        self._stopping.set()
        await self._task
        self._abandon = False
        await self.save()

    async def _save_now_and_then(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval_s)
            if not self._stopping.is_set():
                await self.save()

    async def save(self) -> bool:
        """Save what has changed since the last time; return whether everything is saved. Raises nothing."""
        started, moves = time.monotonic(), self._market.moves
        if moves == self._saved_moves:
            return True
        partial = self._directory / f"{time.time_ns()}{_PARTIAL}"
        try:
            count = await asyncio.to_thread(self._write, partial)
            # Only now: the bytes were taken while candles came in.
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self._settled()
            path, size = await asyncio.to_thread(self._publish, partial)
        except Exception as error:
            await asyncio.to_thread(self._remove, partial)
            if not isinstance(error, _Abandoned):
                log.warning("snapshots not saved directory=%s error=%r", self._directory, error)
            return False
        self._saved_moves, self.saved_at_s = moves, time.time()
        ms = (time.monotonic() - started) * 1000
        log.info("snapshots saved file=%s symbols=%d bytes=%d ms=%.0f", path.name, count, size, ms)
        return True

    def restore(self) -> Restored:
        """Put back what the newest file has, and from the one before what is damaged there. For use in a thread."""
        keys: set[Key] = set()
        damaged = 0
        for path in reversed(self._files()):
            damaged_here = self._restore(path, keys)
            damaged += damaged_here
            if not damaged_here:
                break
        return Restored(keys, damaged)

    def _restore(self, path: Path, keys: set[Key]) -> int:
        """Restore what is not among the keys yet, and add it; return how many records, or rests of them, are damaged.

        The reference is restored again: it must not know more than what is restored beside it.
        """
        damaged = 0
        try:
            with path.open("rb") as file:
                for key, snapshot in _read(file):
                    if key in keys and key[0] != self._market.reference_symbol:
                        continue
                    try:
                        keys.add(self._market.restore(snapshot))
                    except ValueError as error:
                        damaged += 1
                        if damaged <= LOGGED_MAX:
                            log.warning("snapshot skipped file=%s symbol=%s interval_ms=%d error=%s", path, *key, error)
        except (OSError, _Damaged) as error:
            damaged += 1
            log.warning("snapshots damaged file=%s error=%s", path, error)
        if damaged > LOGGED_MAX:
            log.warning("snapshots skipped file=%s count=%d", path, damaged)
        return damaged

    def _write(self, partial: Path) -> int:
        """Write every symbol and sync; the memory it takes does not grow with their number."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_behind in self._directory.glob(f"*{_PARTIAL}"):
            self._remove(left_behind)
        count, unsynced = 0, 0
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_MAGIC)
            for symbol, interval_ms in self._market.symbols():
                if self._abandon:
                    raise _Abandoned
                snapshot = self._market.snapshot(symbol, interval_ms)
                if snapshot is None:
                    continue
                file.write(_head(_SNAPSHOT, len(snapshot), interval_ms, symbol))
                file.write(snapshot)
                count, unsynced = count + 1, unsynced + len(snapshot)
                if unsynced >= SYNC_BYTES:
                    _sync(file)
                    unsynced = 0
            file.write(_head(_END, count))
            _sync(file)
        return count

    def _publish(self, partial: Path) -> tuple[Path, int]:
        """Give a complete file its name, and remove those it replaces; return it and its size in bytes."""
        files = self._files()
        # A clock that was set back must not make the newest file look old.
        newest = max([int(partial.stem), *(int(path.stem) + 1 for path in files[-1:])])
        path = partial.replace(partial.with_name(f"{newest}{_ENDING}"))
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        for old in files[: max(0, len(files) + 1 - FILES_KEPT)]:
            self._remove(old)
        return path, path.stat().st_size

    def _files(self) -> list[Path]:
        """Return the complete files, oldest first."""
        return sorted(
            (path for path in self._directory.glob(f"*{_ENDING}") if path.stem.isdigit()),
            key=lambda path: int(path.stem),
        )

    @staticmethod
    def _remove(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # it takes room and does no harm
            log.warning("snapshots not removed file=%s error=%s", path, error)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _head(what: bytes, count: int, interval_ms: int = 0, symbol: str = "") -> bytes:
    head = _HEAD.pack(what, count, interval_ms, symbol.encode("ascii"), 0)
    return head[:-4] + crc32(head[:-4]).to_bytes(4, "little")


def _read(file: BinaryIO) -> Iterator[tuple[Key, bytes]]:
    """Yield what a file holds, one by one.

    Raises:
        _Damaged: it is of another version, or does not go on as it was written.
    """
    if (magic := file.read(len(_MAGIC))) != _MAGIC:
        raise _Damaged(f"it begins with {magic!r}, which this version does not write")
    count = 0
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _Damaged(f"it ends after {count} snapshots, without its end mark")
        what, size, interval_ms, name, checksum = _HEAD.unpack(head)
        if checksum != crc32(head[:-4]) or what not in (_SNAPSHOT, _END):
            raise _Damaged(f"what follows after {count} snapshots is not what was written")
        if what == _END:
            if size != count:
                raise _Damaged(f"it has {count} snapshots instead of {size}")
            return
        snapshot = file.read(size)
        if len(snapshot) < size:
            raise _Damaged(f"it ends in the middle of snapshot {count + 1}")
        count += 1
        yield (name.rstrip(b"\0").decode("ascii"), interval_ms), snapshot
