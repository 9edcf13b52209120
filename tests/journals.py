"""A journal for tests, what reads it as the drain does, and a disk that fails as told."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

from candlecast._rust import crc32c
from candlecast.journal import Journal

LIMIT_S = 10


def journal(directory, **options):
    return Journal(directory, checksum=crc32c, **options)


def payloads(count, size=20):
    return [f"{i}:".encode().ljust(size + i % 3, b"x") for i in range(count)]


async def append(j, given):
    async with asyncio.timeout(LIMIT_S):
        return [await j.append(payload) for payload in given]


async def read_all(j):
    """Return what is left to take, in order, as the drain reads it."""
    found, at = [], j.mark
    async with asyncio.timeout(LIMIT_S):
        while at < j.end:
            records = await j.read(j.mark, 50)
            assert records, "there was something to read"
            found += [payload for _, payload in records if payload]
            assert records[-1][0] > at
            at = records[-1][0]
            await j.advance(at)
    return found


def segments(directory):
    return sorted(path.name for path in directory.glob("*.journal"))


class Disk:
    """Writes and syncs as told: with room for `room` bytes, or with an error of the sync."""

    def __init__(self, room=None):
        self.room, self.error, self.syncs = room, None, 0
        self.go = threading.Event()
        self.go.set()

    def write(self, file, buffers):
        data = b"".join(buffers)
        if self.room is None:
            assert os.write(file, data) == len(data)
            return
        taken = data[: self.room]
        self.room -= os.write(file, taken)
        if len(taken) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self, file):
        self.go.wait(LIMIT_S)
        self.syncs += 1
        if self.error is not None:
            raise self.error
        os.fdatasync(file)


async def until(true):
    async with asyncio.timeout(LIMIT_S):
        while True:
            if true():
                return
            await asyncio.sleep(0.001)
