"""Snapshots in a file: whatever is done to it, what comes back is what was saved, or nothing."""

import asyncio
import logging
import os
import subprocess
import threading
from contextlib import contextmanager
from itertools import pairwise

import pytest

from candlecast import snapshots as module
from candlecast.lifecycle import poll
from candlecast.snapshots import Snapshots

REFERENCE = "BTCUSDT"


class Market:
    """Remembers a number per symbol, checked as the core checks a snapshot."""

    reference_symbol = REFERENCE

    def __init__(self, **numbers):
        self.numbers = {(name, 60_000): number for name, number in numbers.items()}
        self.moves = len(numbers)
        self.lost = False

    def move(self, **numbers):
        self.numbers |= {(name, 60_000): number for name, number in numbers.items()}
        self.moves += 1

    def symbols(self):
        return sorted(self.numbers, key=lambda key: (key[0] != REFERENCE, key))

    def snapshot(self, symbol, interval_ms):
        if self.lost:
            raise RuntimeError("this market is lost")
        text = f"{symbol} {interval_ms} {self.numbers[symbol, interval_ms]} ".ljust(200, "x").encode()
        return text + module.crc32(text).to_bytes(4, "little")

    def restore(self, snapshot):
        if len(snapshot) != 204 or module.crc32(snapshot[:-4]).to_bytes(4, "little") != snapshot[-4:]:
            raise ValueError("snapshot is damaged")
        symbol, interval_ms, number, _ = snapshot.decode("latin1").split(" ", 3)
        self.numbers[symbol, int(interval_ms)] = int(number)
        return symbol, int(interval_ms)


OLD = {REFERENCE: 1, "AAA": 1, "BBB": 1, "CCC": 1}
NEW = {REFERENCE: 2, "AAA": 2, "BBB": 2, "CCC": 2}


async def settled():
    return None


def snapshots(directory, market, settled=settled, interval_s=1_000.0):
    return Snapshots(directory, market, settled, interval_s=interval_s)


async def saved_twice(directory):
    """Save the old numbers, then the new ones; return the two files."""
    market = Market(**OLD)
    keeper = snapshots(directory, market)
    assert await keeper.save()
    market.move(**NEW)
    assert await keeper.save()
    return files(directory)


def files(directory):
    return sorted(directory.glob("*"), key=lambda path: path.name)


def restored(directory):
    """Return the numbers that come back by name, and what was said about it."""
    market = Market()
    found = snapshots(directory, market).restore()
    assert found.keys == set(market.numbers)
    return {name: number for (name, _), number in market.numbers.items()}, found.damaged


async def until(true):
    async def check():
        return true()

    await poll("true", check, timeout_ms=10_000, interval_ms=5)


async def test_what_is_saved_comes_back_from_the_newest_file(tmp_path):
    await saved_twice(tmp_path / "deep" / "down")
    assert restored(tmp_path / "deep" / "down") == (NEW, 0)


async def test_where_nothing_was_saved_nothing_comes_back(tmp_path):
    assert restored(tmp_path / "nowhere") == ({}, 0)
    assert await snapshots(tmp_path / "nowhere", Market()).save()
    assert not (tmp_path / "nowhere").exists()


async def test_files_are_for_their_owner_only(tmp_path):
    *_, newest = await saved_twice(tmp_path / "mine")
    assert newest.stat().st_mode & 0o777 == 0o600
    assert newest.parent.stat().st_mode & 0o777 == 0o700


async def test_the_newest_two_files_are_kept_also_when_the_clock_goes_back(tmp_path, monkeypatch):
    clock = iter([500, 400, 300, 200])
    monkeypatch.setattr(module.time, "time_ns", lambda: next(clock))
    market = Market(**OLD)
    keeper = snapshots(tmp_path, market)
    for number in range(4):
        market.move(AAA=number)
        assert await keeper.save()
    assert [path.name for path in files(tmp_path)] == ["502.snapshots", "503.snapshots"]
    assert restored(tmp_path)[0]["AAA"] == 3


async def test_a_market_that_has_not_changed_is_not_saved_again(tmp_path):
    market = Market(**OLD)
    keeper = snapshots(tmp_path, market)
    assert await keeper.save()
    assert await keeper.save()
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("how", ["cut", "flipped"])
async def test_a_file_damaged_at_any_byte_gives_the_new_or_the_old_number_of_every_symbol(tmp_path, how):
    _, newest = await saved_twice(tmp_path)
    whole = newest.read_bytes()
    for at in range(0, len(whole), 3):
        newest.write_bytes(whole[:at] if how == "cut" else whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        numbers, damaged = restored(tmp_path)
        assert numbers.keys() == NEW.keys(), at
        assert damaged >= 1, at
        # The reference never knows more than those beside it.
        assert numbers[REFERENCE] == 1, at
        assert set(numbers.values()) <= {1, 2}, at


async def test_one_damaged_record_costs_one_symbol_its_newest_snapshot(tmp_path, caplog):
    _, newest = await saved_twice(tmp_path)
    whole = newest.read_bytes()
    newest.write_bytes(whole.replace(b"BBB 60000 2", b"BBB 60000 3"))
    assert restored(tmp_path) == ({REFERENCE: 1, "AAA": 2, "BBB": 1, "CCC": 2}, 1)
    assert f"snapshot skipped file={newest} symbol=BBB interval_ms=60000 error=snapshot is damaged" in caplog.text


async def test_when_both_files_are_damaged_what_is_whole_in_either_comes_back(tmp_path):
    older, newest = await saved_twice(tmp_path)
    older.write_bytes(
        older.read_bytes().replace(b"AAA 60000 1", b"AAA 60000 7").replace(b"BBB 60000 1", b"BBB 60000 7")
    )
    newest.write_bytes(
        newest.read_bytes().replace(b"AAA 60000 2", b"AAA 60000 7").replace(b"CCC 60000 2", b"CCC 60000 7")
    )
    assert restored(tmp_path) == ({REFERENCE: 1, "BBB": 2, "CCC": 1}, 3)


@pytest.mark.parametrize(
    "contents", [b"", b"CCSNAP\x02\x00" + b"x" * 500, os.urandom(5_000)], ids=["empty", "foreign", "noise"]
)
async def test_a_file_that_is_none_of_ours_is_passed_over(tmp_path, contents):
    _, newest = await saved_twice(tmp_path)
    newest.write_bytes(contents)
    assert restored(tmp_path) == (OLD, 1)


async def test_a_file_that_cannot_be_read_is_passed_over(tmp_path):
    _, newest = await saved_twice(tmp_path)
    newest.unlink()
    newest.mkdir()
    assert restored(tmp_path) == (OLD, 1)


async def test_of_many_damaged_records_a_few_are_named(tmp_path, caplog):
    market = Market(**{f"S{i}": i for i in range(50)})
    assert await snapshots(tmp_path, market).save()
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"60000", b"60001"))
    assert restored(tmp_path) == ({}, 50)
    assert caplog.text.count("snapshot skipped") == module.LOGGED_MAX
    assert f"snapshots skipped file={file} count=50" in caplog.text


async def test_a_file_gets_its_name_only_when_all_that_it_knows_is_on_disk_elsewhere(tmp_path):
    on_disk, waiting = asyncio.Event(), asyncio.Event()

    async def settled():
        assert len(files(tmp_path)) == 1  # the bytes were taken before
        waiting.set()
        await on_disk.wait()

    saving = asyncio.create_task(snapshots(tmp_path, Market(**OLD), settled).save())
    async with asyncio.timeout(10):
        await waiting.wait()
    assert restored(tmp_path) == ({}, 0)
    on_disk.set()
    assert await saving
    assert restored(tmp_path) == (OLD, 0)


async def test_what_never_gets_to_disk_elsewhere_is_not_saved_and_leaves_nothing(tmp_path, caplog, monkeypatch):
    async def refused():
        raise OSError("journal: no space left on device")

    assert not await snapshots(tmp_path, Market(**OLD), refused).save()
    assert "snapshots not saved" in caplog.text
    assert "no space left" in caplog.text
    monkeypatch.setattr(module, "SETTLE_TIMEOUT_S", 0.02)
    assert not await snapshots(tmp_path, Market(**OLD), asyncio.Event().wait).save()
    assert files(tmp_path) == []


async def test_what_changes_while_it_is_saved_is_saved_the_next_time(tmp_path):
    market = Market(**OLD)

    async def settled():
        if market.moves < 10:
            market.move(AAA=9)
            market.moves = 10

    keeper = snapshots(tmp_path, market, settled)
    assert await keeper.save()
    assert restored(tmp_path) == (OLD, 0)
    assert await keeper.save()
    assert restored(tmp_path)[0]["AAA"] == 9


async def test_it_saves_now_and_then_and_once_more_when_left(tmp_path):
    market = Market(**OLD)
    async with snapshots(tmp_path, market, interval_s=0.01):
        await until(lambda: restored(tmp_path)[0] == OLD)
        market.move(AAA=5)
        await until(lambda: restored(tmp_path)[0]["AAA"] == 5)
    async with snapshots(tmp_path, market, interval_s=1_000):
        market.move(AAA=6)
    assert restored(tmp_path)[0]["AAA"] == 6


async def test_leaving_breaks_off_the_save_under_way_and_saves_what_is_newest(tmp_path):
    market, begun, go_on = Market(**OLD), threading.Event(), threading.Event()
    take = market.snapshot

    def slow(symbol, interval_ms):
        if symbol == REFERENCE and not begun.is_set():
            begun.set()
            assert go_on.wait(10)
        return take(symbol, interval_ms)

    market.snapshot = slow
    keeper = snapshots(tmp_path, market, interval_s=0.01)
    await keeper.__aenter__()
    await until(begun.is_set)
    market.move(**NEW)
    leaving = asyncio.create_task(keeper.__aexit__(None, None, None))
    await until(lambda: keeper._abandon)
    go_on.set()
    await leaving
    assert restored(tmp_path) == (NEW, 0)
    assert len(files(tmp_path)) == 1


async def test_a_lost_market_is_not_saved_and_stops_nobody(tmp_path, caplog):
    market = Market(**OLD)
    market.lost = True
    async with snapshots(tmp_path, market):
        pass
    assert "this market is lost" in caplog.text
    assert files(tmp_path) == []


async def test_what_a_killed_save_left_is_removed_by_the_next_one(tmp_path):
    (tmp_path / "1.partial").write_bytes(b"half")
    (tmp_path / "note.snapshots").write_text("not ours")
    assert await snapshots(tmp_path, Market(**OLD)).save()
    assert [path.suffix for path in files(tmp_path)] == [".snapshots", ".snapshots"]
    assert restored(tmp_path) == (OLD, 0)


async def test_a_full_disk_costs_the_new_file_and_nothing_else(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with tiny_disk(tmp_path / "disk", kib=64) as disk:
        directory = disk / "snapshots"
        market = Market(**OLD)
        keeper = snapshots(directory, market)
        assert await keeper.save()
        ballast = disk / "ballast"
        fill(ballast)
        market.move(**NEW)
        assert not await keeper.save()
        assert "No space left on device" in caplog.text
        assert len(files(directory)) == 1
        assert restored(directory) == (OLD, 0)
        ballast.unlink()
        assert await keeper.save()
        assert restored(directory) == (NEW, 0)


async def test_saving_holds_up_neither_the_loop_nor_the_disk(tmp_path, monkeypatch):
    market = Market(**{f"S{i}": i for i in range(3_000)})
    synced = []
    monkeypatch.setattr(module, "SYNC_BYTES", 50_000)
    sync = module._sync
    monkeypatch.setattr(module, "_sync", lambda file: (sync(file), synced.append(file.tell())))
    saving = asyncio.create_task(snapshots(tmp_path, market).save())
    turns = 0
    while not saving.done():
        await asyncio.sleep(0)
        turns += 1
    assert await saving
    assert turns > 100  # the loop went on turning
    assert max(b - a for a, b in pairwise(synced)) < 70_000  # never much that is not on disk
    assert len(restored(tmp_path)[0]) == 3_000


def fill(path):
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


@contextmanager
def tiny_disk(directory, kib):
    """Mount a small disk; skipped where that is not allowed."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)
