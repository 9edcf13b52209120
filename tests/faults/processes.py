"""Rows of processes: server and Triton killed, frozen, restarted, started twice, and a clock that jumps."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable

import psutil

from candlecast.client import AsyncClient, Candle, verdict
from candlecast.features import now_ms
from tests.faults import shim
from tests.faults.points import POINTS
from tests.faults.readiness import serving
from tests.faults.scene import Scene, Seen, part, ready, row
from tests.stack import CANDLECAST

JUMPS_S = 300.0, -300.0


@row(1, "kill -9 the server under load", 25, stays_ready=False, restarts_max=5)
async def kill_server(scene: Scene) -> Seen:
    seen = Seen(notes={"points": {}})
    for i in range(scene.times):
        await scene.load.until_answered(2)
        await asyncio.sleep(scene.dice.uniform(0, 0.3))
        server, doubled = part(scene, "server"), scene.load.duplicates
        point = await POINTS[i % len(POINTS)](scene.stack, scene.load, server)
        killed_s = scene.unready().began_s
        seen.add(recover_s=await ready(scene, killed_s, 20))
        await scene.load.until_answered(8)
        for hit in (point, *["appended, not answered"] * (scene.load.duplicates > doubled)):
            seen.notes["points"][hit] = seen.notes["points"].get(hit, 0) + 1
    assert not scene.load.unforecast, f"{scene.load.unforecast} candles met a state that was not what it had been"
    return seen


@row(2, "kill -9 tritonserver", 4, stays_ready=False, restarts_max=4)
async def kill_triton(scene: Scene) -> Seen:
    return await break_triton(scene, lambda: part(scene, "tritonserver").kill(), scene.times)


@row(3, "kill -9 a Triton Python stub", 4, stays_ready=False, restarts_max=4)
async def kill_stub(scene: Scene) -> Seen:
    return await break_triton(scene, lambda: a_stub(scene).kill(), scene.times)


@row(4, "Triton or a stub frozen", 4, stays_ready=False, restarts_max=4)
async def freeze_triton(scene: Scene) -> Seen:
    seen = Seen()
    for i in range(scene.times):
        victim = a_stub(scene) if i % 2 else part(scene, "tritonserver")
        found = await break_triton(scene, victim.suspend, 1)
        seen.add(detect_s=found.detect_s, recover_s=found.recover_s)
    return seen


def a_stub(scene: Scene) -> psutil.Process:
    return scene.dice.choice(part(scene, "tritonserver").children(recursive=True))


async def break_triton(scene: Scene, fault: Callable[[], None], times: int) -> Seen:
    seen = Seen()
    for _ in range(times):
        await ready(scene, time.monotonic(), 30)
        starts = scene.stack.output.count("triton ready")
        fault()
        unready = scene.unready()
        async with asyncio.timeout(20):  # told: health is false, or it has been replaced already
            while await serving(scene.stack.grpc) and scene.stack.output.count("triton ready") == starts:
                await asyncio.sleep(0.02)
            detect_s = time.monotonic() - unready.began_s
            while scene.stack.output.count("triton ready") == starts:
                await asyncio.sleep(0.02)
        unready.repaired()
        seen.add(detect_s=detect_s, recover_s=await ready(scene, unready.began_s, 20))
    return seen


@row(20, "restart of the server in good order under load", 4, stays_ready=False, restarts_max=4)
async def restart_server(scene: Scene) -> Seen:
    seen = Seen()
    for _ in range(scene.times):
        await scene.load.until_answered(3)
        server = part(scene, "server")
        since_s = scene.unready().began_s
        server.terminate()
        seen.add(recover_s=await ready(scene, since_s, 40))
        (code,) = [line for line in scene.stack.output.splitlines() if line.startswith("server ended with")][-1:]
        assert "ended with 0" in code, code
    return seen


@row(26, "a second instance on the same directory", 2, stays_ready=True)
async def second_instance(scene: Scene) -> Seen:
    for _ in range(scene.times):
        command = [*CANDLECAST, "up", "--state-dir", str(scene.stack.state_dir)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 78, done
        await scene.load.until_answered(1)
    return Seen(injections=scene.times)


@row(
    17,
    "the wall clock jumps by 5 minutes; a client's clock is ahead",
    6,
    stays_ready=False,
    environment=shim.environment,
    restarts_max=3,
)
async def clock_jumps(scene: Scene) -> Seen:
    """Under load nobody notices; a candle is in the future by the server's clock alone; a restart finds its order."""
    seen, control = Seen(notes={"jumps_s": []}), shim.Control(scene.directory)
    async with AsyncClient(scene.stack.grpc) as client:
        for i in range(scene.times):
            jump_s = JUMPS_S[i % len(JUMPS_S)]
            failures = scene.load.failures.total()
            await _is_future(scene, client, i, clock_s=0.0)
            control.tell(offset_s=jump_s)
            await scene.load.until_answered(20, 10)
            await _is_future(scene, client, i, clock_s=jump_s)
            control.tell()
            await scene.load.until_answered(20, 10)
            assert scene.load.failures.total() == failures, scene.load.failures
            server = part(scene, "server")
            since_s = scene.unready().began_s
            server.kill()
            seen.add(recover_s=await ready(scene, since_s, 20))
            seen.notes["jumps_s"].append(jump_s)
    assert not scene.load.unforecast, f"{scene.load.unforecast} candles met a state that was not what it had been"
    return seen


async def _is_future(scene: Scene, client: AsyncClient, i: int, *, clock_s: float) -> None:
    """Send candles that close a little before and a little after what the server takes for now, in minutes."""
    for ahead_s in (-1, 60):
        candle = Candle()
        candle.CopyFrom(scene.load.batch(0)[0])
        candle.symbol, candle.interval_ms = f"AHEAD{i}.{ahead_s}.{clock_s:.0f}", 1_000
        candle.open_time_ms = (now_ms() // 1_000 + int(clock_s) + ahead_s - 1) * 1_000
        (result,) = await client.predict([candle])
        expected = ("REFUSED", "IN_FUTURE") if ahead_s > 0 else ("ACCEPTED", "")
        assert (verdict(result), result.refusal.reason) == expected, result
