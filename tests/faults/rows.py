"""The rows of the fault matrix: each brings its faults over a running stack under load and says what it saw."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from candlecast.client import AsyncClient, messages, verdict
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.types_pb2 import Candle
from tests.faults.invariants import Health, connected, serving, verify
from tests.faults.load import INTERVAL_MS, NEED, Load
from tests.faults.points import POINTS
from tests.faults.torn import Keys, hurt, keys_in
from tests.stack import CANDLECAST, Stack


@dataclass
class Scene:
    """What a row plays on."""

    stack: Stack
    load: Load
    health: Health
    dice: random.Random
    times: int
    full: bool
    others: list[Load] = field(default_factory=list)
    """Further users, who have stopped; what was acknowledged to them is verified, too."""


@dataclass
class Seen:
    """What a row saw, in seconds; `detect` and `recover` are the worst."""

    injections: int = 0
    detect_s: float | None = None
    recover_s: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, *, detect_s: float | None = None, recover_s: float | None = None, count: int = 1) -> None:
        self.injections += count
        if detect_s is not None:
            self.detect_s = max(self.detect_s or 0, detect_s)
        if recover_s is not None:
            self.recover_s = max(self.recover_s or 0, recover_s)


Row = Callable[[Scene], Awaitable[Seen]]
ROWS: dict[int, tuple[str, Row, int]] = {}
"""By number: name, row, and how often the whole matrix injects it."""


def row(number: int, name: str, times: int) -> Callable[[Row], Row]:
    def register(function: Row) -> Row:
        ROWS[number] = name, function, times
        return function

    return register


def part(scene: Scene, name: str) -> psutil.Process:
    """Return a running part, waiting for it to be there."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(KeyError, psutil.NoSuchProcess):
            return scene.stack.processes()[name]
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.02)


async def ready(scene: Scene, since_s: float, limit_s: float) -> float:
    """Return the seconds since then until the server is ready and answers."""
    async with asyncio.timeout(limit_s):
        while not await serving(scene.stack.grpc):
            await asyncio.sleep(0.02)
    ready_s = time.monotonic() - since_s
    await scene.load.until_answered(1)
    return ready_s


@row(1, "kill -9 the server under load", 25)
async def kill_server(scene: Scene) -> Seen:
    seen = Seen(notes={"points": {}})
    for i in range(scene.times):
        await scene.load.until_answered(2)
        await asyncio.sleep(scene.dice.uniform(0, 0.3))
        server, doubled = part(scene, "server"), scene.load.duplicates
        point = await POINTS[i % len(POINTS)](scene.stack, scene.load, server)
        killed_s = time.monotonic()
        seen.add(recover_s=await ready(scene, killed_s, 20))
        await scene.load.until_answered(8)
        for hit in (point, *["appended, not answered"] * (scene.load.duplicates > doubled)):
            seen.notes["points"][hit] = seen.notes["points"].get(hit, 0) + 1
    assert not scene.load.unforecast, f"{scene.load.unforecast} candles met a state that was not what it had been"
    return seen


@row(2, "kill -9 tritonserver", 4)
async def kill_triton(scene: Scene) -> Seen:
    return await break_triton(scene, lambda: part(scene, "tritonserver").kill())


@row(3, "kill -9 a Triton Python stub", 4)
async def kill_stub(scene: Scene) -> Seen:
    return await break_triton(scene, lambda: a_stub(scene).kill())


@row(4, "Triton or a stub frozen", 4)
async def freeze_triton(scene: Scene) -> Seen:
    seen = Seen()
    for i in range(scene.times):
        victim = a_stub(scene) if i % 2 else part(scene, "tritonserver")
        one = Scene(scene.stack, scene.load, scene.health, scene.dice, 1, scene.full)
        found = await break_triton(one, victim.suspend)
        seen.add(detect_s=found.detect_s, recover_s=found.recover_s)
    return seen


def a_stub(scene: Scene) -> psutil.Process:
    return scene.dice.choice(part(scene, "tritonserver").children(recursive=True))


async def break_triton(scene: Scene, fault: Callable[[], None]) -> Seen:
    seen = Seen()
    for _ in range(scene.times):
        await ready(scene, time.monotonic(), 30)
        starts = scene.stack.output.count("triton ready")
        fault()
        since_s = time.monotonic()
        async with asyncio.timeout(20):  # told: health is false, or it has been replaced already
            while await serving(scene.stack.grpc) and scene.stack.output.count("triton ready") == starts:
                await asyncio.sleep(0.02)
            detect_s = time.monotonic() - since_s
            while scene.stack.output.count("triton ready") == starts:
                await asyncio.sleep(0.02)
        seen.add(detect_s=detect_s, recover_s=await ready(scene, since_s, 20))
        assert detect_s <= 3.5, f"told after {detect_s:.1f} s"
    return seen


@row(5, "kill -9 PostgreSQL: postmaster, one backend", 12)
async def kill_postgres(scene: Scene) -> Seen:
    seen = Seen()
    for i in range(scene.times):
        postmaster = part(scene, "postgres")
        if i % 3 == 0:
            victim = postmaster
        else:
            backends = [p for p in postmaster.children() if "candlecast" in " ".join(p.cmdline())] or [postmaster]
            victim = scene.dice.choice(backends)
        with suppress(psutil.NoSuchProcess):
            victim.kill()
        since_s = time.monotonic()
        await scene.load.until_answered(5, 10)  # serving goes on
        connection = await connected(scene.stack)
        await connection.close()
        seen.add(recover_s=time.monotonic() - since_s)
        await asyncio.sleep(scene.dice.uniform(0, 0.5))
    return seen


@row(6, "PostgreSQL frozen", 2)
async def freeze_postgres(scene: Scene) -> Seen:
    seen = Seen(notes={"p99_ratio": []})
    for i in range(scene.times):
        normal = await p99(scene, 15 if scene.full else 1)
        seconds = 60 if scene.full and i == 0 else 5
        postmaster = part(scene, "postgres")
        with frozen([*postmaster.children(recursive=True), postmaster]):
            during = await p99(scene, seconds)
            assert await serving(scene.stack.grpc), "PostgreSQL away is no reason not to serve"
        thawed_s = time.monotonic()
        await drained(scene, 30)
        seen.add(recover_s=time.monotonic() - thawed_s)
        seen.notes["p99_ratio"].append(round(during / normal, 2))
    return seen


@row(7, "PostgreSQL slow: 50 ms to 5 s a statement", 3)
async def slow_postgres(scene: Scene) -> Seen:
    seen = Seen(notes={"p99_ratio": {}})
    for i in range(scene.times):
        delay_s = (0.05, 0.5, 5.0)[i % 3]
        normal = await p99(scene, 15 if scene.full else 2)
        connection = await connected(scene.stack)
        await connection.execute(f"""
            CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep({delay_s}); RETURN NULL; END $$;
            CREATE OR REPLACE TRIGGER dawdle BEFORE INSERT ON ml_predictions EXECUTE FUNCTION dawdle()""")
        during = await p99(scene, 15 if scene.full else max(3, 1.5 * delay_s))
        async with asyncio.timeout(30):
            await connection.execute("DROP TRIGGER dawdle ON ml_predictions")
        await connection.close()
        since_s = time.monotonic()
        await drained(scene, 30)
        seen.add(recover_s=time.monotonic() - since_s)
        seen.notes["p99_ratio"].setdefault(f"{delay_s:g} s", []).append(round(during / normal, 2))
    assert min(ratio for ratios in seen.notes["p99_ratio"].values() for ratio in ratios) < 2
    return seen


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def p99(scene: Scene, seconds: float) -> float:
    """Return the 99th percentile of the replies of the next seconds, ms."""
    start = len(scene.load.latencies_ms)
    await asyncio.sleep(seconds)
    await scene.load.until_answered(1)
    return float(np.percentile(scene.load.latencies_ms[start:], 99))


async def drained(scene: Scene, timeout_s: float) -> None:
    """Return once what is acknowledged now is in PostgreSQL."""
    wanted = len(scene.load.acknowledged)
    connection = await connected(scene.stack)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                count = "SELECT count(*) FROM ml_predictions WHERE symbol = ANY($1)"
                if await connection.fetchval(count, scene.load.names) >= wanted:
                    return
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@row(8, "disk full: journal, database and logs", 2)
async def fill_disk(scene: Scene) -> Seen:
    """All of the state directory is on one small file system: see `run.py`."""
    seen, ballast = Seen(), scene.stack.state_dir / "ballast"
    for _ in range(scene.times):
        failures = sum(scene.load.failures.values())
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        since_s = time.monotonic()
        async with asyncio.timeout(30):
            while sum(scene.load.failures.values()) == failures:
                await asyncio.sleep(0.02)
        detect_s = time.monotonic() - since_s
        await asyncio.sleep(1)
        assert part(scene, "server").is_running()
        ballast.unlink()
        since_s = time.monotonic()
        await scene.load.until_answered(3, 40)
        seen.add(detect_s=detect_s, recover_s=time.monotonic() - since_s)
        await drained(scene, 60)
    return seen


@row(14, "malformed messages", 300)
async def malformed(scene: Scene) -> Seen:
    answers: dict[str, int] = {}
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(scene.stack.grpc, options=options) as channel:
        call = channel.unary_unary("/candlecast.v1.Forecasts/Predict")
        good = pb.PredictRequest(candles=scene.load.batch(NEED)).SerializeToString()
        for i in range(scene.times):
            kind = i % 5
            if kind == 0:
                data = scene.dice.randbytes(scene.dice.randrange(1, 400))
            elif kind == 1:
                at = scene.dice.randrange(len(good))
                data = good[:at] + bytes([scene.dice.randrange(256)]) + good[at + 1 :]
            elif kind == 2:
                data = good[: scene.dice.randrange(len(good))]
            elif kind == 3:
                data = b"\x0a\x04\x0a\x02\xff\xfe"  # a symbol that is no UTF-8
            else:
                data = bytes(5 * 1024 * 1024) if i < 20 else b"\x12\x00"
            try:
                await call(data, timeout=5)
                answers["OK"] = answers.get("OK", 0) + 1
            except grpc.aio.AioRpcError as error:
                answers[error.code().name] = answers.get(error.code().name, 0) + 1
    allowed = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    assert answers.keys() <= allowed, answers
    await scene.load.until_answered(2)
    return Seen(injections=scene.times, notes=answers)


@row(15, "NaN, infinite, zero, negative, denormal, 1e300, high < low", 60)
async def bad_values(scene: Scene) -> Seen:
    bad = [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e300, 5e-324]
    fields = ["open", "high", "low", "close"]
    refused = 0
    async with AsyncClient(scene.stack.grpc) as client:
        for i in range(scene.times):
            candle = Candle()
            candle.CopyFrom(scene.load.batch(scene.load._next + 50)[0])
            if i % 8 == 7:
                candle.high, candle.low = candle.low * 0.9, candle.high
            else:
                setattr(candle, scene.dice.choice(fields), bad[i % 7])
            (result,) = await client.predict([candle])
            assert verdict(result) == "REFUSED" and result.refusal.reason, result
            refused += 1
    return Seen(injections=refused)  # that the state did not move, the recomputation of every features_hash shows


@row(16, "duplicates, late, conflicts, gaps of 1, 4, 5 and 1000", 8)
async def disorder(scene: Scene) -> Seen:
    seen = Seen()
    async with AsyncClient(scene.stack.grpc) as client:
        for i in range(scene.times):
            name = f"GAP{scene.dice.randrange(10**9)}"
            bars = scene.load.bars
            start = scene.load.first - 3_000

            def one(bar: int, name: str = name, start: int = start, bars: Any = bars) -> Candle:
                (message,) = messages(bars.take(np.array([bar])))
                message.symbol, message.open_time_ms = name, (start + bar) * INTERVAL_MS
                return message

            await client.backfill([one(bar) for bar in range(NEED)])
            assert verdict((await client.predict([one(NEED - 1)]))[0]) == "DUPLICATE"
            other = one(NEED - 2)
            other.volume += 1
            assert verdict((await client.predict([other]))[0]) == "CONFLICT"
            late = one(0)
            late.open_time_ms -= INTERVAL_MS
            assert verdict((await client.predict([late]))[0]) == "LATE"
            gap = (1, 4, 5, 1_000)[i % 4]
            (result,) = await client.predict([one(NEED + gap)])
            assert verdict(result) == "ACCEPTED"
            assert (result.status.have == NEED + gap + 1) if gap <= 4 else (result.status.have == 1), result.status
            seen.add(count=4)
    return seen


@row(20, "restart of the server in good order under load", 4)
async def restart_server(scene: Scene) -> Seen:
    seen = Seen()
    for _ in range(scene.times):
        await scene.load.until_answered(3)
        server = part(scene, "server")
        server.terminate()
        since_s = time.monotonic()
        seen.add(recover_s=await ready(scene, since_s, 40))
        (code,) = [line for line in scene.stack.output.splitlines() if line.startswith("server ended with")][-1:]
        assert "ended with 0" in code, code
    return seen


@row(21, "snapshots and journal torn or damaged", 8)
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
        server.kill()
        await asyncio.sleep(0.2)
        before = keys_in(journal)
        for path in [p for p in folder.glob("*") if p.suffix in (".snapshots", ".journal")]:
            hurt(path, scene.dice)
        after = keys_in(journal)
    finally:
        supervisor.resume()
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


@row(26, "a second instance on the same directory", 2)
async def second_instance(scene: Scene) -> Seen:
    for _ in range(scene.times):
        command = [*CANDLECAST, "up", "--state-dir", str(scene.stack.state_dir)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 78, done
        await scene.load.until_answered(1)
    return Seen(injections=scene.times)
