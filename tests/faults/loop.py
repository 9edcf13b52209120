"""The row of the event loop: blocked for a while, blocked for good, and starved of the processor."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from contextlib import suppress

import psutil

from tests.faults import shim
from tests.faults.scene import Scene, Seen, part, ready, row

STALL_MAX_S = 3.0
BLOCK_S = 1.5
STARVED_S, STARVED_SLICE_S, STARVED_SHARE = 2.0, 0.4, 0.1
"""For so long, and of each so long slice, the server runs for this share alone."""
LATE = re.compile(r'candlecast_loop_lag_seconds_bucket\{le="([0-9.e+-]+|\+Inf)"\} ([0-9.]+)')


@row(
    25,
    "event loop blocked, processor starved",
    6,
    stays_ready=False,
    environment=lambda directory: {
        **shim.environment(directory),
        "CANDLECAST_LOOP_STALL_MAX_S": str(STALL_MAX_S),
    },
    restarts_max=6,
)
async def block_loop(scene: Scene) -> Seen:
    seen = Seen(notes={"measured_s": [], "ended by its watchdog": 0, "starved": 0})
    control = shim.Control(scene.directory)
    kinds = (blocked, stalled, starved)
    for i in range(scene.times):
        await ready(scene, time.monotonic(), 30)
        await scene.load.until_answered(5)
        await kinds[i % len(kinds)](scene, control, seen)
    return seen


async def blocked(scene: Scene, control: shim.Control, seen: Seen) -> None:
    """Shorter than the limit: measured, said, and nothing else happens."""
    before, server, said = await late(scene, 1.0), part(scene, "server").pid, logged(scene, "event loop late")
    fault = scene.unready()  # it may be, to whoever asks meanwhile
    control.tell(block_s=BLOCK_S)
    while await late(scene, 1.0) == before:
        assert time.monotonic() < fault.began_s + 10, "not measured"
        await asyncio.sleep(0.1)
    fault.repaired()
    seen.notes["measured_s"].append(BLOCK_S)
    assert logged(scene, "event loop late") > said
    seen.add(detect_s=time.monotonic() - fault.began_s, recover_s=await ready(scene, fault.began_s, 20))
    assert part(scene, "server").pid == server, "a block is no reason to end"


async def stalled(scene: Scene, control: shim.Control, seen: Seen) -> None:
    """Longer than the limit: the watchdog ends the process with its stacks in the log, and it is started again."""
    server, told = part(scene, "server"), logged(scene, "Timeout (")
    fault = scene.unready()
    control.tell(block_s=60)
    with suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(server.wait, STALL_MAX_S + 5)
    fault.over()
    ended_s = time.monotonic() - fault.began_s
    assert ended_s < STALL_MAX_S + 2, f"it ended after {ended_s:.1f} s only"
    control.tell()
    seen.add(detect_s=ended_s, recover_s=await ready(scene, fault.began_s, 30))
    assert logged(scene, "Timeout (") > told, "the log says where it stood"
    assert logged(scene, "event loop stands still")
    seen.notes["ended by its watchdog"] += 1


async def starved(scene: Scene, control: shim.Control, seen: Seen) -> None:
    """It gets a tenth of a core for a while: late, and alive."""
    server, before = part(scene, "server"), await late(scene, 0.25)
    fault = scene.unready()
    until_s = time.monotonic() + STARVED_S
    try:
        while time.monotonic() < until_s:
            server.suspend()
            await asyncio.sleep(STARVED_SLICE_S * (1 - STARVED_SHARE))
            server.resume()
            await asyncio.sleep(STARVED_SLICE_S * STARVED_SHARE)
    finally:
        server.resume()
        fault.repaired()
    since_s = time.monotonic()
    recover_s = await ready(scene, since_s, 20)
    assert await late(scene, 0.25) > before, "not measured"
    assert part(scene, "server").pid == server.pid
    seen.add(recover_s=recover_s)
    seen.notes["starved"] += 1


async def late(scene: Scene, than_s: float) -> float:
    """Return how often the server's loop was later than this, by its own metric."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{scene.stack.metrics}/metrics", timeout=20) as answer:
            return answer.read().decode()

    counts = {
        float(bound.replace("+Inf", "inf")): float(count)
        for bound, count in LATE.findall(await asyncio.to_thread(read))
    }
    return counts[float("inf")] - counts[than_s]


def logged(scene: Scene, what: str) -> int:
    return (scene.stack.state_dir / "logs" / "server.log").read_text(errors="replace").count(what)
