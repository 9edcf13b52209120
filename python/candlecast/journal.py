"""Records on local disk before anybody is told, kept until they are taken further. Knows bytes, not what they mean.

A record is appended to the newest segment, as magic, length, checksum and payload; while one group of records is being
synced to disk, whatever comes is the next group. A record's position is its place in the stream of all bytes ever
appended, and a segment is called by the position it begins at. Records before the mark have been taken further; a
segment that holds no others is removed. What is found torn or damaged at the start is passed over, the rest is kept.
Small groups are written over zeros, for a file that grows takes the disk half as long again to sync.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

MAGIC: Final = b"CCJ1"
HEADER: Final = struct.Struct("<4sII")  # magic, length of the payload, its checksum
GROUP_BYTES_MAX: Final = 8 * 1024 * 1024
BLOCKED_PAUSE_S: Final = 0.2
ZEROS: Final = bytes(1024 * 1024)
"""Put in the way of small groups at once: some hundred forecasts."""
SMALL_BYTES: Final = len(ZEROS) // 8
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class InUse(Exception):
    """Another process keeps its journal there."""


class Failed(Exception):
    """The disk did not take what it was given: nothing more is acknowledged until the next start."""


@dataclass(slots=True)
class Segment:
    """A file of records; `start` and `end` are positions."""

    path: Path
    start: int
    end: int


@dataclass(slots=True, eq=False)
class _Waiting:
    payload: bytes
    done: asyncio.Future[int]


class Journal:
    """Appends records while it is entered.

    Args:
        checksum: of a payload, 32 bits.
        segment_bytes_max: size at which the next segment is begun.
        segment_age_max_s: age at which a segment of which nothing is left to take is ended, so that it can be removed.
        write: writes all of some buffers to a file; for tests of a failing disk.
        sync: makes them durable; likewise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        checksum: Callable[[bytes], int],
        segment_bytes_max: int = 16 * 1024 * 1024,
        segment_age_max_s: float = 60.0,
        write: Callable[[int, list[bytes]], None] | None = None,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._directory = directory
        self._checksum = checksum
        self._segment_bytes_max = segment_bytes_max
        self._segment_age_max_s = segment_age_max_s
        self._write_all = write or _write_all
        self._sync = sync
        self._segments: list[Segment] = []
        self._file = self._lock = -1
        self._zeros_end = 0  # in the newest segment
        self._begun_s = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._mark = 0
        self._wake, self._grown = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-write")  # all that changes files, in turn
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self.blocked: str | None = None
        """Why nothing can be appended now; it is tried again."""
        self.failed: str | None = None
        """Why nothing will be appended until the next start."""
        self.appended_records = self.appended_bytes = self.groups = 0
        """Since the start; a group is written and synced at once."""
        self.written_s = 0.0
        """What the groups took."""

    @property
    def size(self) -> int:
        """Return how many bytes wait on disk or to get there."""
        return self.end - self._mark + self._waiting_bytes

    @property
    def end(self) -> int:
        """Return the position behind the newest record on disk."""
        newest = self._segments[-1:]  # at once: another thread may be taking the last one away
        return newest[0].end if newest else self._mark

    @property
    def mark(self) -> int:
        """Return the position up to which everything was taken further."""
        return self._mark

    async def __aenter__(self) -> Self:
        """Open what an earlier run left.

        Raises:
            OSError: the directory cannot be used.
            InUse.
        """
        await _in(self._writer, self._open)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, unless the disk does not take it."""
        assert self._task is not None, "not entered"
        self._stopping = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._waiting:
            _fail(waiting.done, Failed(self.failed or self.blocked or "stopped"))
        if self._waiting:
            log.error("records lost at stop records=%d because=%s", len(self._waiting), self.failed or self.blocked)
        self._writer.shutdown()
        self._reader.shutdown()
        self._close()
        os.close(self._lock)

    def append(self, payload: bytes) -> asyncio.Future[int]:
        """Queue a record; the future is its end position once it is on disk.

        The future raises Failed when the disk fails. While there is no room on it, the record waits.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.failed is not None or self._stopping:
            _fail(done, Failed(self.failed or "the journal is closed"))
            return done
        self._waiting.append(_Waiting(payload, done))
        self._waiting_bytes += HEADER.size + len(payload)
        self._wake.set()
        return done

    async def read(self, position: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """Return the records from a position on, at least one if there are any: (end position, payload)."""
        return await _in(self._reader, partial(self._read, position, self.end, bytes_max))

    async def wait(self) -> None:
        """Return once there is something to read."""
        while self.end <= self._mark:
            self._grown.clear()
            await self._grown.wait()

    async def advance(self, position: int) -> None:
        """Move the mark: what lies before was taken further. Segments of which nothing is left are removed."""
        self._mark = max(self._mark, position)  # what was read may have been dropped meanwhile
        await _in(self._writer, self._keep_mark)

    async def drop_oldest(self) -> int:
        """Give up the oldest segment that is no longer written; return its bytes, 0 when there is none."""
        if len(self._segments) < 2:
            return 0
        lost = max(0, self._segments[0].end - self._mark)
        log.error("journal full: oldest records dropped bytes=%d", lost)
        await self.advance(self._segments[0].end)
        return lost

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
            group: list[_Waiting] = []
            size = 0
            for waiting in self._waiting:
                if group and size + len(waiting.payload) > GROUP_BYTES_MAX:
                    break
                group.append(waiting)
                size += HEADER.size + len(waiting.payload)
            try:
                begun_s, payloads = time.perf_counter(), [waiting.payload for waiting in group]
                ends = await _in(self._writer, partial(self._append, payloads))
            except Exception as error:  # whatever it is, those who wait must hear of it
                if not isinstance(error, OSError) or error.errno not in NO_ROOM:
                    self._fail(error)
                    return
                if self.blocked is None:
                    log.error("journal blocked error=%s", error)
                self.blocked = f"no room in {self._directory}: {error.strerror}"
                if self._stopping:
                    return
                await asyncio.sleep(BLOCKED_PAUSE_S)
                continue
            if self.blocked is not None:
                log.warning("journal has room again")
                self.blocked = None
            for waiting, end in zip(group, ends, strict=True):
                self._waiting.popleft()
                if not waiting.done.done():
                    waiting.done.set_result(end)
            self._waiting_bytes -= size
            self.appended_records += len(group)
            self.appended_bytes += size
            self.groups += 1
            self.written_s += time.perf_counter() - begun_s
            self._grown.set()

    def _fail(self, error: Exception) -> None:
        """Trust the disk no more: after a failed sync nobody knows what it holds, so nothing is tried again."""
        self.failed = f"the journal in {self._directory} failed: {error}; start again when the disk is well"
        log.critical("journal failed error=%r", error)
        for waiting in self._waiting:
            _fail(waiting.done, Failed(self.failed))
        self._waiting.clear()
        self._waiting_bytes = 0

    def _append(self, payloads: list[bytes]) -> list[int]:
        segment = self._writable()
        at, buffers, ends = segment.end, [], []
        for payload in payloads:
            buffers += [HEADER.pack(MAGIC, len(payload), self._checksum(payload)), payload]
            at += HEADER.size + len(payload)
            ends.append(at)
        begin = segment.end - segment.start
        self._put_zeros(begin, at - segment.end)
        try:
            self._write_all(self._file, buffers)
        except OSError:
            os.ftruncate(self._file, begin)  # a record that is torn is none
            os.lseek(self._file, begin, os.SEEK_SET)
            self._zeros_end = begin
            raise
        try:
            self._sync(self._file)
        except OSError as error:  # no room found this late is no reason to try again: what was written may be lost
            raise Failed(f"not synced: {error}") from error
        segment.end = at
        return ends

    def _put_zeros(self, begin: int, size: int) -> None:
        if begin + size > self._zeros_end and size <= SMALL_BYTES:
            with suppress(OSError):  # there is no room for as many: that is seen by what is written
                os.pwrite(self._file, ZEROS, begin)
                self._zeros_end = begin + len(ZEROS)

    def _writable(self) -> Segment:
        newest = self._segments[-1] if self._file >= 0 else None
        if newest is not None:
            size, age_s = newest.end - newest.start, time.monotonic() - self._begun_s
            is_taken = newest.end <= self._mark and size > 0
            if size < self._segment_bytes_max and not (is_taken and age_s > self._segment_age_max_s):
                return newest
        return self._begin()

    def _begin(self) -> Segment:
        start = self.end
        path = self._directory / f"{start:020d}.journal"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _sync_directory(self._directory)
        except OSError:
            os.close(file)
            raise
        self._close()
        self._file, self._begun_s, self._zeros_end = file, time.monotonic(), 0
        segment = Segment(path, start, start)
        self._segments.append(segment)
        self._remove_taken()
        return segment

    def _close(self) -> None:
        """End the newest segment behind its last record, unless the disk is not to be trusted."""
        if self._file >= 0:
            with suppress(OSError):
                if self.failed is None:
                    os.ftruncate(self._file, self._segments[-1].end - self._segments[-1].start)
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except OSError as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise InUse(f"another process keeps its journal in {self._directory}") from error
            raise

    def _load(self) -> None:
        self._mark = self._load_mark()
        for path in sorted(self._directory.glob("*.journal")):
            if not path.stem.isdigit():
                log.error("journal: not a segment path=%s", path)
                continue
            segment = self._check(path)
            if segment.end > segment.start:
                self._segments.append(segment)
            else:
                path.unlink()  # the next one may begin where it did, under the same name
        if self._segments:
            self._mark = max(self._mark, self._segments[0].start)
        self._keep_mark()

    def _check(self, path: Path) -> Segment:
        """Cut off what is torn at the end of a segment; say what is damaged within."""
        start = int(path.stem)
        data = path.read_bytes()
        good = max((end for _, end, _ in _records(data, self._checksum)), default=0)
        if good < len(data):
            if data.count(0, good) < len(data) - good:  # else those zeros that no record came to
                log.warning("journal cut segment=%s bytes=%d", path.name, len(data) - good)
            os.truncate(path, good)
        return Segment(path, start, start + good)

    def _read(self, start: int, end: int, bytes_max: int) -> list[tuple[int, bytes]]:
        records: list[tuple[int, bytes]] = []
        size = 0
        for segment in list(self._segments):
            base, limit = max(start, segment.start), min(segment.end, end)
            if base >= limit:
                continue
            window = bytes_max
            while True:  # a record may be larger than asked for
                data = _part(segment.path, base - segment.start, min(limit - base, window))
                found = list(_records(data, self._checksum, goes_on=window < limit - base))
                if found or window >= limit - base:
                    break
                window *= 2
            for _, stop, payload in found:
                if records and size + len(payload) > bytes_max:
                    return records
                size += len(payload)
                records.append((base + stop, payload))
            if not records:  # nothing of it can be read any more
                records.append((limit, b""))
            if window < limit - base:  # the rest of the segment comes first
                return records
        return records

    def _keep_mark(self) -> None:
        try:
            mark = struct.pack("<Q", self._mark)
            _replace(self._directory / "mark", HEADER.pack(MAGIC, len(mark), self._checksum(mark)) + mark)
        except OSError as error:  # what lies behind an older mark is taken once more, which is harmless
            log.warning("journal mark not kept error=%s", error)
        self._remove_taken()

    def _load_mark(self) -> int:
        path = self._directory / "mark"
        data = path.read_bytes() if path.exists() else b""
        for _, _, mark in _records(data, self._checksum):
            if len(mark) == 8:
                return int(struct.unpack("<Q", mark)[0])
        return 0  # everything that is there is taken once more

    def _remove_taken(self) -> None:
        while self._segments and self._segments[0].end <= self._mark:
            if self._file >= 0 and len(self._segments) == 1:
                break  # it is being written
            self._segments.pop(0).path.unlink(missing_ok=True)


async def _in(thread: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, function)


def _records(
    data: bytes, checksum: Callable[[bytes], int], *, goes_on: bool = False
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (begin, end, payload) of the whole records in data; what is damaged between them is passed over.

    Where the data goes on behind what was read, a record that is not all there is none that is damaged.
    """
    at = 0
    while (at := data.find(MAGIC, at)) >= 0:
        if at + HEADER.size <= len(data):
            _, length, expected = HEADER.unpack_from(data, at)
            end = at + HEADER.size + length
            if goes_on and end > len(data):
                return
            if end <= len(data) and checksum(payload := data[at + HEADER.size : end]) == expected:
                yield at, end, payload
                at = end
                continue
        elif goes_on:
            return
        log.error("journal: damaged record skipped")
        at += 1


def _write_all(file: int, buffers: list[bytes]) -> None:
    data = memoryview(b"".join(buffers))
    while data:
        data = data[os.write(file, data) :]


def _part(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except FileNotFoundError:  # dropped, or somebody's mistake: what is no more is not waited for
        log.error("journal: segment gone path=%s bytes=%d", path, size)
        return b""


def _replace(path: Path, data: bytes) -> None:
    aside = path.with_name(f"{path.name}.new")
    aside.write_bytes(data)
    aside.replace(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fail(future: asyncio.Future[int], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waited may have left
