"""Rows of disks: full, failing, damaged."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil

from tests.faults import shim
from tests.faults.disks import APART, SIZES_MB, TOGETHER, disk_of, full
from tests.faults.invariants import connected, size_of, verify
from tests.faults.readiness import serving
from tests.faults.scene import Scene, Seen, backend, drained, failing, part, ready, row, silent
from tests.faults.torn import Keys, hurt, keys_in

FULL_S = 20.0
"""How long a disk stays full in the whole matrix: a supervisor that gives up has done so."""


@row(8, "disk full: journal, PostgreSQL, logs; all on one", 3, stays_ready=False, stages=(APART, TOGETHER))
async def fill_disk(scene: Scene) -> Seen:
    """Each on a disk of its own, and all of them on one."""
    seen, fills = Seen(), {"journal": full_journal, "postgres": full_postgres, "logs": full_logs}
    for i in range(scene.times):
        what = TOGETHER if scene.stage == TOGETHER else list(SIZES_MB)[i % len(SIZES_MB)]
        starts = scene.stack.output.count("starting it again")
        disk, seconds = disk_of(scene.directory, what), FULL_S if scene.full and i < len(SIZES_MB) else 3.0
        told_s, again_s = await fills.get(what, full_all)(scene, disk, seconds)
        seen.add(detect_s=told_s, recover_s=again_s)
        again = scene.stack.output.count("starting it again") - starts
        seen.notes.setdefault(what, []).append({"recovered_s": round(again_s, 1), "restarts": again})
        await drained(scene, 60)
    return seen


async def full_journal(scene: Scene, disk: Path, seconds: float) -> tuple[float | None, float]:
    """Nothing more is acknowledged."""
    server = part(scene, "server")
    async with full(disk):
        unready = scene.unready()
        told_s = await failing(scene)
        await silent(scene, seconds)
        assert part(scene, "server") == server, "it stays alive"
    unready.over()
    return told_s, await scene.load.until_answered(3, 40)


async def full_postgres(scene: Scene, disk: Path, seconds: float) -> tuple[float | None, float]:
    """Serving goes on, and the journal grows."""
    journal, log = scene.stack.state_dir / "journal", scene.stack.state_dir / "logs" / "server.log"
    said = log.read_text().count("not stored")
    async with full(disk):
        async with asyncio.timeout(60):  # it has some room of its own
            while log.read_text().count("not stored") == said:
                await scene.load.until_answered(1, 5)
        before, until_s = size_of(journal), time.monotonic() + seconds
        while time.monotonic() < until_s:
            await scene.load.until_answered(5, 5)
        assert size_of(journal) > before
    since_s = time.monotonic()
    await drained(scene, 60)
    return None, time.monotonic() - since_s


async def full_logs(scene: Scene, disk: Path, seconds: float) -> tuple[float | None, float]:
    """Nobody notices, and what dies meanwhile is started again as ever."""
    async with full(disk):
        backend(scene).kill()  # which PostgreSQL, server and supervisor want to say
        until_s = time.monotonic() + min(seconds, 5)
        while time.monotonic() < until_s:
            await scene.load.until_answered(5, 5)
        unready = scene.unready()
        part(scene, "server").kill()
        return None, await ready(scene, unready.began_s, 20)


async def full_all(scene: Scene, disk: Path, seconds: float) -> tuple[float | None, float]:
    """PostgreSQL gives room back now and then, so a record may get through; nothing is lost."""
    server, dashboard = part(scene, "server"), part(scene, "dashboard")
    async with full(disk):
        unready = scene.unready()
        told_s = await failing(scene)
        dashboard.kill()  # which the supervisor wants to say
        await asyncio.sleep(seconds)
        assert part(scene, "server") == server, "it stays alive"
    unready.over()
    return told_s, await scene.load.until_answered(3, 40)


@row(9, "a sync of the journal fails", 6, stays_ready=False, environment=shim.environment, restarts_max=3)
async def failed_sync(scene: Scene) -> Seen:
    """Nothing is acknowledged until the next start, which finds what is whole; every other time a record was torn."""
    seen, control = Seen(notes={"torn": 0}), shim.Control(scene.directory)
    log = scene.stack.state_dir / "logs" / "server.log"
    for i in range(scene.times):
        await scene.load.until_answered(5)
        cut = log.read_text().count("journal cut")
        unready = scene.unready()
        control.tell(sync=shim.FAILS_AND_TEARS if i % 2 else shim.FAILS)
        told_s = await failing(scene)
        control.tell()  # the disk is well again, which nobody may believe
        await silent(scene, 2.0)
        assert not await serving(scene.stack.grpc)
        server = part(scene, "server")
        server.terminate() if i % 4 < 2 else server.kill()
        unready.over()
        seen.add(detect_s=told_s, recover_s=await ready(scene, unready.over_s, 30))
        torn = log.read_text().count("journal cut") - cut
        assert torn == i % 2, f"{torn} torn records found at the start"
        seen.notes["torn"] += torn
    return seen


@row(21, "snapshots and journal torn or damaged", 8, stays_ready=False, restarts_max=4)
async def damage(scene: Scene) -> Seen:
    """First what nobody needs any more, so nothing may be lost; in the last third records that nobody has taken yet.

    Of those, what is destroyed may be lost, and no more; what was computed from it can then not be computed again.
    """
    seen, untaken = Seen(notes={"destroyed": 0}), scene.times // 3
    for i in range(scene.times - untaken):
        await scene.load.until_answered(3)
        await scene.load.__aexit__()
        await drained(scene, 30)
        folder = scene.stack.state_dir / ("journal" if i % 2 else "snapshots")
        _, since_s = await damaged(scene, folder)
        async with asyncio.timeout(30):
            while not await serving(scene.stack.grpc):
                await asyncio.sleep(0.02)
        seen.add(recover_s=time.monotonic() - since_s)
        scene.load.go_on()
        await scene.load.__aenter__()
    assert not scene.load.unforecast, f"{scene.load.unforecast} candles met a state that was not what it had been"
    if untaken:
        await scene.load.__aexit__()
        found = await verify(scene.stack, scene.load)
        assert found.lost == 0, found
        scene.load.go_on()
        await scene.load.__aenter__()
    for _ in range(untaken):
        await scene.load.until_answered(3)
        connection = await connected(scene.stack)
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE ml_predictions, candles IN EXCLUSIVE MODE")
        await scene.load.until_answered(20)
        destroyed, since_s = await damaged(scene, scene.stack.state_dir / "journal")
        connection.terminate()
        seen.add(recover_s=await ready(scene, since_s, 30))
        scene.load.is_whole = False
        seen.notes["destroyed"] += await forgotten(scene, *destroyed)
    return seen


async def damaged(scene: Scene, folder: Path) -> tuple[Keys, float]:
    """Kill the server, damage a folder's files, have it started again; return what was destroyed, and when that was."""
    supervisor, journal = psutil.Process(scene.stack.process.pid), scene.stack.state_dir / "journal"
    server = part(scene, "server")
    supervisor.suspend()  # nobody starts the server again before the damage is done
    try:
        unready = scene.unready()
        server.kill()
        await asyncio.sleep(0.2)
        before = keys_in(journal)
        for path in [p for p in folder.glob("*") if p.suffix in (".snapshots", ".journal")]:
            hurt(path, scene.dice)
        after = keys_in(journal)
    finally:
        supervisor.resume()
        unready.over()
    async with asyncio.timeout(10):  # it is a zombie, which answers to nobody
        while await serving(scene.stack.grpc):
            await asyncio.sleep(0.02)
    return (before[0] - after[0], before[1] - after[1]), time.monotonic()


async def forgotten(scene: Scene, candles: set[tuple[str, int]], forecasts: set[tuple[str, int]]) -> int:
    """Take what was destroyed, and is not stored, from what has to be stored; return how many rows that are."""
    connection = await connected(scene.stack)
    try:
        for key in candles:
            found = "SELECT count(*) FROM candles WHERE symbol = $1 AND open_time = to_timestamp($2 / 1000.0)"
            if not await connection.fetchval(found, *key):
                scene.load.candles.discard(key)
        for key in forecasts:
            found = "SELECT count(*) FROM ml_predictions WHERE symbol = $1 AND close_time = to_timestamp($2 / 1000.0)"
            if not await connection.fetchval(found, *key):
                scene.load.acknowledged.pop(key, None)
    finally:
        await connection.close()
    return len(candles) + len(forecasts)
