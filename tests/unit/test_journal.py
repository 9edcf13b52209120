"""What was acknowledged is there, in order, once; what was taken is not, and the files go."""

import asyncio
from pathlib import Path

import pytest

from candlecast import journal as module
from candlecast.journal import HEADER, Failed, InUse
from tests.journals import LIMIT_S, Disk, append, journal, payloads, read_all, segments, until


async def test_records_are_read_in_the_order_of_their_appending(tmp_path):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(9))
        assert ends == sorted(set(ends))
        assert j.size == ends[-1] == j.end
        records = await j.read(j.mark, 1 << 20)
        assert records == list(zip(ends, payloads(9), strict=True))


async def test_what_was_taken_is_not_read_again_and_the_rest_is(tmp_path):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(9))
        await j.advance(ends[3])
        assert [payload for _, payload in await j.read(j.mark, 1 << 20)] == payloads(9)[4:]
        assert j.size == ends[-1] - ends[3]


async def test_a_read_has_a_limit_and_gives_one_record_whatever_its_size(tmp_path, caplog):
    async with journal(tmp_path) as j:
        await append(j, payloads(9, size=100))
        assert len(await j.read(j.mark, 350)) == 3
        assert len(await j.read(j.mark, 1)) == 1
    assert not caplog.records, "a record that goes on behind the limit is not damaged"


async def test_waiting_ends_when_there_is_something_to_read(tmp_path):
    async with journal(tmp_path) as j:
        waiting = asyncio.create_task(j.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        await append(j, payloads(1))
        async with asyncio.timeout(LIMIT_S):
            await waiting


async def test_a_record_is_acknowledged_after_its_sync_and_not_before(tmp_path):
    disk = Disk()
    disk.go.clear()
    async with journal(tmp_path, sync=disk.sync) as j:
        done = j.append(b"one")
        await until(lambda: (tmp_path / f"{0:020d}.journal").exists())
        _, late = await asyncio.wait({done}, timeout=0.05)
        assert late
        assert (j.end, j.size) == (0, HEADER.size + 3)
        disk.go.set()
        assert await asyncio.wait_for(done, LIMIT_S) == HEADER.size + 3


async def test_what_comes_during_a_sync_is_one_group_with_one_sync(tmp_path):
    disk = Disk()
    async with journal(tmp_path, sync=disk.sync) as j:
        await append(j, payloads(1))
        disk.go.clear()
        first = j.append(b"first")
        await until(lambda: j.end > 0)
        await asyncio.sleep(0)
        others = [j.append(payload) for payload in payloads(200)]
        disk.go.set()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(first, *others)
        assert disk.syncs <= 3
        assert await read_all(j) == [payloads(1)[0], b"first", *payloads(200)]


async def test_a_record_larger_than_a_group_and_those_beside_it_get_through(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES_MAX", 64)
    given = [b"small", b"L" * 500, b"s" * 40, b"t" * 40, b"M" * 65]
    disk = Disk()
    async with journal(tmp_path, sync=disk.sync) as j:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*map(j.append, given))
        assert disk.syncs >= 4
        assert await read_all(j) == given


async def test_records_and_the_mark_survive_a_restart(tmp_path):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(6))
        await j.advance(ends[1])
    async with journal(tmp_path) as j:
        assert (j.mark, j.end) == (ends[1], ends[-1])
        await append(j, [b"later"])
        assert await read_all(j) == [*payloads(6)[2:], b"later"]


@pytest.mark.parametrize("harm", ["lost", "empty", "cut", "flipped"])
async def test_a_mark_that_is_lost_or_damaged_only_has_records_taken_again(tmp_path, harm):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(4))
        await j.advance(ends[2])
    mark = tmp_path / "mark"
    data = mark.read_bytes()
    if harm == "lost":
        mark.unlink()
    elif harm == "flipped":  # to a place further on
        mark.write_bytes(data[:-1] + bytes([data[-1] ^ 0x40]))
    else:
        mark.write_bytes(data[:-3] if harm == "cut" else b"")
    async with journal(tmp_path) as j:
        assert await read_all(j) == payloads(4)


async def test_a_record_torn_at_any_byte_is_cut_off_and_those_before_it_stay(tmp_path):
    async with journal(tmp_path / "whole") as j:
        ends = await append(j, payloads(3))
    (path,) = (tmp_path / "whole").glob("*.journal")
    data = path.read_bytes()
    for size in range(ends[1], ends[2]):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / path.name).write_bytes(data[:size])
        async with journal(directory) as j:
            assert j.end == ends[1]
            await append(j, [b"next"])
            assert await read_all(j) == [*payloads(2), b"next"]


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_segment_of_which_only_a_torn_record_is_there_does_no_harm_to_the_next(tmp_path, is_taken):
    for size in range(1, HEADER.size + 5):
        directory = tmp_path / str(size)
        async with journal(directory) as j:
            await append(j, payloads(2))
            if is_taken:
                assert await read_all(j) == payloads(2)
            torn = directory / f"{j.end:020d}.journal"
        torn.write_bytes((HEADER.pack(module.MAGIC, 9, 0) + b"payload..")[:size])
        async with journal(directory) as j:
            await append(j, [b"one"])
            assert await read_all(j) == ([] if is_taken else payloads(2)) + [b"one"]
            await append(j, [b"two"])
            assert await read_all(j) == [b"two"]
            await append(j, [b"three"])
        async with journal(directory) as j:
            assert await read_all(j) == [b"three"]


async def test_a_flipped_byte_costs_its_record_and_no_other(tmp_path):
    given = payloads(5)
    async with journal(tmp_path / "whole") as j:
        ends = await append(j, given)
    (path,) = (tmp_path / "whole").glob("*.journal")
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        harmed = next(i for i, end in enumerate(ends) if at < end)
        directory = tmp_path / str(at)
        directory.mkdir()
        (directory / path.name).write_bytes(data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :])
        async with journal(directory) as j:
            await append(j, [b"next"])
            assert await read_all(j) == [*given[:harmed], *given[harmed + 1 :], b"next"]


async def test_damage_while_it_runs_costs_what_is_damaged_and_nothing_waits_for_it(tmp_path):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(3))
        path = tmp_path / segments(tmp_path)[0]
        data = path.read_bytes()
        path.write_bytes(data[: ends[0]] + bytes(len(data) - ends[0]))
        assert await read_all(j) == payloads(1)
        await append(j, [b"next"])
        assert await read_all(j) == [b"next"]


async def test_a_segment_that_somebody_removed_is_not_waited_for(tmp_path):
    async with journal(tmp_path, segment_bytes_max=20) as j:
        await append(j, payloads(3))
        (tmp_path / segments(tmp_path)[1]).unlink()
        assert await read_all(j) == [payloads(3)[0], payloads(3)[2]]


async def test_small_records_are_written_over_zeros_which_are_no_damage_and_go_at_the_end(tmp_path, caplog):
    async with journal(tmp_path) as j:
        ends = await append(j, payloads(3))
        (segment,) = tmp_path.glob("*.journal")
        assert segment.stat().st_size > ends[-1]
        left = segment.read_bytes()  # as a crash would leave it
    assert segment.stat().st_size == ends[-1]
    segment.write_bytes(left)
    async with journal(tmp_path) as j:
        assert [payload for _, payload in await j.read(0, 10**6)] == payloads(3)
        assert segment.stat().st_size == ends[-1]
    assert "cut" not in caplog.text
    segment.write_bytes(left[: ends[-1]] + b"torn" + left[ends[-1] + 4 :])
    async with journal(tmp_path) as j:
        assert len(await j.read(0, 10**6)) == 3
    assert "cut" in caplog.text


async def test_a_segment_ends_at_its_size_and_is_removed_when_it_was_taken(tmp_path):
    async with journal(tmp_path, segment_bytes_max=100) as j:
        ends = await append(j, payloads(30))
        assert len(segments(tmp_path)) > 5
        *ended, newest = segments(tmp_path)
        assert sum((tmp_path / name).stat().st_size for name in ended) == int(Path(newest).stem)
        await j.advance(ends[14])
        assert all(int(name[:20]) <= ends[15] for name in segments(tmp_path)[:1])
        assert await read_all(j) == payloads(30)[15:]
        assert len(segments(tmp_path)) == 1


async def test_an_old_segment_is_ended_once_it_was_taken_and_not_before(tmp_path):
    async with journal(tmp_path, segment_age_max_s=0) as j:
        await append(j, payloads(5))
        assert len(segments(tmp_path)) == 1
        await j.advance(j.end)
        await append(j, [b"next"])
        assert segments(tmp_path) == [f"{j.mark:020d}.journal"]
        assert await read_all(j) == [b"next"]


async def test_positions_never_go_back_whatever_was_taken(tmp_path):
    end = 0
    for i in range(5):
        async with journal(tmp_path) as j:
            assert j.end == end
            (new,) = await append(j, [f"run {i}".encode()])
            assert new > end
            end = new
            if i % 2:
                await j.advance(end)
                assert j.size == 0
    async with journal(tmp_path) as j:
        assert await read_all(j) == [b"run 4"]


async def test_a_second_journal_in_the_directory_is_refused_and_the_first_goes_on(tmp_path):
    async with journal(tmp_path) as j:
        with pytest.raises(InUse):
            await journal(tmp_path).__aenter__()
        await append(j, payloads(2))
        assert await read_all(j) == payloads(2)
    async with journal(tmp_path):
        pass


async def test_the_oldest_records_can_be_given_up_but_never_those_being_written(tmp_path):
    async with journal(tmp_path, segment_bytes_max=99) as j:
        ends = await append(j, payloads(10))
        assert await j.drop_oldest() == ends[2]  # three records reach the limit
        assert j.size == ends[-1] - ends[2]
        assert await read_all(j) == payloads(10)[3:]
        assert await j.drop_oldest() == 0


async def test_a_reader_that_was_slower_than_dropping_does_not_move_the_mark_back(tmp_path):
    async with journal(tmp_path, segment_bytes_max=99) as j:
        ends = await append(j, payloads(10))
        (first, *_) = await j.read(j.mark, 1)
        await j.drop_oldest()
        await j.advance(first[0])
        assert j.mark == ends[2]
        assert await read_all(j) == payloads(10)[3:]


async def test_stopping_writes_what_waits(tmp_path):
    async with journal(tmp_path) as j:
        waits = [j.append(payload) for payload in payloads(20)]
    assert all(wait.done() for wait in waits)
    with pytest.raises(Failed):
        await j.append(b"too late")
    async with journal(tmp_path) as j:
        assert await read_all(j) == payloads(20)


async def test_a_waiter_who_left_leaves_its_record_and_the_others(tmp_path):
    disk = Disk()
    disk.go.clear()
    async with journal(tmp_path, sync=disk.sync) as j:
        first, second = j.append(b"first"), j.append(b"second")
        first.cancel()
        disk.go.set()
        await asyncio.wait_for(second, LIMIT_S)
        assert await read_all(j) == [b"first", b"second"]
