"""`make rollout-proof`: the model is switched under load, again and again; nobody may notice but by the version.

Usage: python -m tests.faults.rollout_proof [--switches N] [--share S] [--pause S] [--json FILE]. Each switch loads a
version that Triton lacks beside the one that answers, warms it, moves the traffic and unloads the other: so many
load/unload cycles there are, too. What is quiet, before each switch, is what p99 is compared with. Ends with one line:
switches=N failed=N mixed=N p99_ratio=X. Exits with 1 when a request failed, an answer was not of one version, p99 was
more than --ratio-max times that of quiet, or memory did not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import numpy as np

from candlecast.client import AsyncClient
from tests.faults.switches import Traffic, admin, pushed, server_memory_mb, stored_otherwise, triton_memory_mb
from tests.stack import Stack
from tests.versions import repository

MAXIMUM_S, QUIET_S = 10.0, 30.0
SETTLE_S = 0.5
"""After a switch, before what counts as quiet."""
WARM_SWITCHES = 3
"""Before memory is looked at: what a process takes once, it keeps."""
MEMORY_SHARE, MEMORY_SPARE_MB = 1.05, 32.0


async def prove(stack: Stack, directory: Path, *, switches: int, share: float, pause_s: float, quiet_s: float) -> Any:
    """Switch under load and return the figures."""
    started = time.perf_counter()
    async with admin(stack) as models, AsyncClient(stack.grpc, timeout_s=10, resume_s=0) as client:
        await pushed(models, directory)
        for version in (2, 3, 2):
            await models.switch(version)
        traffic = Traffic(client)
        await traffic.warm()
        best = await traffic.maximum(min(MAXIMUM_S, quiet_s))
        stop, rate_hz = asyncio.Event(), share * best
        said(f"maximum {best:.0f} messages of 8 candles a second; sending {rate_hz:.0f}")
        load = asyncio.create_task(traffic.run(rate_hz, stop))
        try:
            await asyncio.sleep(2)
            quiet = [(time.perf_counter(), time.perf_counter() + quiet_s)]
            await asyncio.sleep(quiet_s)
            memory: list[dict[str, float]] = []
            spans: list[tuple[float, float]] = []
            for i in range(switches):
                begun = time.perf_counter()
                await models.switch(3 - i % 2)
                spans.append((begun, time.perf_counter()))
                await asyncio.sleep(SETTLE_S)
                quiet.append((time.perf_counter(), time.perf_counter() + pause_s))
                memory.append(triton_memory_mb(stack) | {"our_server": server_memory_mb(stack)})
                if (i + 1) % 10 == 0 or i + 1 == switches:
                    said(f"switch {i + 1}: {spans[-1][1] - begun:.1f} s, {len(traffic.failures)} failed, {memory[-1]}")
                await asyncio.sleep(pause_s)
        finally:
            stop.set()
            await load
        before = [ms for span in quiet for ms in traffic.latencies_ms(*span)]
        during = [ms for span in spans for ms in traffic.latencies_ms(*span)]
        differing = await stored_otherwise(stack, traffic.answers)
    p50, p99 = (float(np.percentile(before, q)) for q in (50, 99))
    found = {
        "switches": switches,
        "took_s": round(time.perf_counter() - started),
        "failed": len(traffic.failures),
        "mixed": len(traffic.mixed) + len(differing),
        "p99_ratio": round(float(np.percentile(during, 99)) / p99, 2),
        "messages": len(traffic.sent),
        "messages_during": len(during),
        "answers": len(traffic.answers),
        "by_version": {str(v): sum(1 for one in traffic.answers.values() if one == v) for v in (2, 3)},
        "best_per_s": round(best, 1),
        "rate_per_s": round(rate_hz, 1),
        "before_ms": {"p50": round(p50, 2), "p99": round(p99, 2)},
        "during_ms": {f"p{q}": round(float(np.percentile(during, q)), 2) for q in (50, 99)},
        "switch_s": {f"p{q}": round(float(np.percentile([b - a for a, b in spans], q)), 2) for q in (50, 100)},
        "memory_mb": {"first": memory[min(WARM_SWITCHES, switches) - 1], "last": memory[-1]},
    }
    for what, some in (("failed", traffic.failures), ("mixed", traffic.mixed), ("stored otherwise", differing)):
        if some:
            said(f"{what}: {some[:3]}")
    return found


def above(memory: dict[str, dict[str, float]]) -> list[str]:
    """Say what is held at the end that was not after the first switches."""
    first, last = memory["first"], memory["last"]
    return [
        f"{name} {last[name]:.0f}, was {first[name]:.0f}"
        for name in first
        if last[name] > first[name] * MEMORY_SHARE + (MEMORY_SPARE_MB if name in MEMORY else 4)
    ]


MEMORY = ("server", "stubs", "our_server")


def said(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.7, help="of the maximum load (default 0.7)")
    parser.add_argument("--pause", type=float, default=2, help="quiet seconds between two switches (default 2)")
    parser.add_argument(
        "--quiet", type=float, default=QUIET_S, help=f"quiet seconds before the first (default {QUIET_S:g})"
    )
    parser.add_argument("--ratio-max", type=float, default=1.5, help="of p99 during switches to before (default 1.5)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rollout-") as folder:
        directory = Path(folder)
        environment = {
            "CANDLECAST_MODEL_REPOSITORY": str(repository(directory)),
            "CANDLECAST_ROLLBACK_STANDBY": "0",  # so that each switch loads and unloads
        }
        stack = Stack(directory / "state", environment=environment)
        stack.start()
        try:
            found = asyncio.run(
                prove(
                    stack, directory, switches=args.switches, share=args.share, pause_s=args.pause, quiet_s=args.quiet
                )
            )
        finally:
            code = stack.stop()
    held = above(found["memory_mb"])
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    if held:
        print(f"held at the end: {'; '.join(held)}")
    print(" ".join(f"{name}={found[name]}" for name in ("switches", "failed", "mixed", "p99_ratio")))
    return int(bool(code or held or found["failed"] or found["mixed"] or found["p99_ratio"] > args.ratio_max))


if __name__ == "__main__":
    sys.exit(main())
