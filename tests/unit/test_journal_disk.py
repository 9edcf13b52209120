"""The journal over a disk that is full, fails or crashes: nothing is acknowledged that is not there afterwards."""

import asyncio
import errno
import itertools
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.journal import HEADER, Failed
from tests.journals import LIMIT_S, Disk, append, journal, payloads, read_all, segments, until


async def test_without_room_nothing_is_acknowledged_and_with_room_everything_is_written_in_order(tmp_path):
    given = payloads(6)
    disk = Disk(room=HEADER.size + 20 + 7)  # the first record, and a piece of the second
    async with journal(tmp_path, write=disk.write) as j:
        await append(j, given[:1])
        waits = [j.append(payload) for payload in given[1:]]
        await until(lambda: j.blocked is not None)
        assert "No space left" in j.blocked
        assert not any(wait.done() for wait in waits)
        path = tmp_path / segments(tmp_path)[0]
        assert path.stat().st_size == j.end == HEADER.size + 20
        disk.room = None
        async with asyncio.timeout(LIMIT_S):
            assert await asyncio.gather(*waits) == sorted(wait.result() for wait in waits)
        assert j.blocked is None
        assert await read_all(j) == given


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_after_a_sync_that_failed_nothing_is_acknowledged_or_tried_again(tmp_path, number):
    disk = Disk()
    async with journal(tmp_path, sync=disk.sync) as j:
        await append(j, payloads(2))
        disk.error = OSError(number, os.strerror(number))
        waits = [j.append(b"never acknowledged"), j.append(b"nor this")]
        for wait in waits:
            with pytest.raises(Failed, match=os.strerror(number)):
                await asyncio.wait_for(wait, LIMIT_S)
        syncs, disk.error = disk.syncs, None
        with pytest.raises(Failed):
            await asyncio.wait_for(j.append(b"later"), LIMIT_S)
        assert disk.syncs == syncs
        assert j.failed
        assert j.size == j.end  # what was acknowledged can still be taken
        assert [payload for _, payload in await j.read(j.mark, 1 << 20)] == payloads(2)
    async with journal(tmp_path) as j:
        found = await read_all(j)
        assert found[:2] == payloads(2)
        assert set(found[2:]) <= {b"never acknowledged", b"nor this"}
        await append(j, [b"well again"])


async def test_a_disk_that_fails_in_an_unknown_way_is_told_to_those_who_wait(tmp_path):
    def broken(file, buffers):
        raise MemoryError("no more")

    async with journal(tmp_path, write=broken) as j:
        with pytest.raises(Failed, match="no more"):
            await asyncio.wait_for(j.append(b"one"), LIMIT_S)


async def test_stopping_without_room_tells_those_who_wait_and_ends(tmp_path):
    disk = Disk(room=5)
    async with asyncio.timeout(LIMIT_S), journal(tmp_path, write=disk.write) as j:
        wait = j.append(b"no room for this")
        await until(lambda: j.blocked is not None)
    with pytest.raises(Failed, match="no room"):
        await wait
    async with journal(tmp_path) as j:
        assert await read_all(j) == []


def crash(directory, synced, at):
    """Leave of every byte that was not synced those before `at`, a fraction."""
    for path in directory.glob("*.journal"):
        start, size = int(path.stem), path.stat().st_size
        kept = min(max(synced - start, 0), size)
        os.truncate(path, kept + int((size - kept) * at))


RUNS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 60), max_size=8),  # sizes of records that are acknowledged
        st.integers(0, 8),  # of those that wait, so many are taken
        st.lists(st.integers(1, 60), max_size=4),  # and of records that are written, but not synced before the crash
        st.floats(0, 1),  # so much of these is left
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS, st.sampled_from([1, 100, 10_000]))
def test_whatever_crashes_every_acknowledged_record_is_there_in_order_and_once(tmp_path_factory, runs, segment_bytes):
    directory = tmp_path_factory.mktemp("journal")
    numbers = itertools.count()

    def made(sizes):
        return [f"{next(numbers)}:".encode().ljust(size, b"x") for size in sizes]

    def next_of(expected, payload):
        """Drop what was not acknowledged and is not there; what comes next is the payload."""
        while (known := expected.pop(0))[0] != payload:
            assert not known[1], "acknowledged, and lost"

    async def lives():
        expected: list[tuple[bytes, bool]] = []  # not taken yet, and whether it was acknowledged
        for acknowledged, taken, unsynced, left in runs:
            disk = Disk()
            async with (
                asyncio.timeout(LIMIT_S),
                journal(directory, sync=disk.sync, segment_bytes_max=segment_bytes) as j,
            ):
                given = made(acknowledged)
                await asyncio.gather(*map(j.append, given))
                expected += [(payload, True) for payload in given]
                for end, payload in (await j.read(j.mark, 1 << 20))[:taken]:
                    next_of(expected, payload)
                    await j.advance(end)
                synced, disk.error = j.end, OSError(errno.EIO, "crash")
                given = made(unsynced)
                await asyncio.gather(*map(j.append, given), return_exceptions=True)
                expected += [(payload, False) for payload in given]
            crash(directory, synced, left)
        async with journal(directory) as j:
            for payload in await read_all(j):
                next_of(expected, payload)
        assert not any(is_acknowledged for _, is_acknowledged in expected)

    asyncio.run(lives())
