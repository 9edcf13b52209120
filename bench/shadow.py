"""What a shadow costs those who are answered: latencies with and without one, in turns, under the same load.

Usage: python bench/shadow.py [--rounds 6] [--seconds 20] [--share 0.7] [--json FILE]; with the defaults some 6 minutes.
One `candlecast up` serves the shipped model; messages of 8 candles are due at 70 % of the maximum that is measured
first, in the same run. Each round has a span with a shadow and one without, in the order with, without, without, with;
loading and unloading it, and 2 s after that, are not in them. Latency counts from the moment a message was due. The
ratio is with over without: of each round, and of all samples. Also said: which share of all windows the shadow heard.
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
from statistics import median
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from candlecast.client import AsyncClient
from candlecast.v1 import models_pb2 as pb
from tests.faults.switches import GROUP_SYMBOLS, Models, Traffic, admin, pushed
from tests.stack import Stack
from tests.versions import repository

MAXIMUM_S = 10.0
SETTLE_S = 2.0
SHADOW = 2
"""Its version."""


async def measure(stack: Stack, directory: Path, *, rounds: int, seconds: float, share: float) -> dict[str, Any]:
    """Return the figures."""
    async with admin(stack) as models, AsyncClient(stack.grpc, timeout_s=10, resume_s=0) as client:
        await pushed(models, directory, (SHADOW,))
        traffic = Traffic(client)
        await traffic.warm()
        best = await traffic.maximum(MAXIMUM_S)
        stop, rate_hz = asyncio.Event(), share * best
        say(f"maximum {best:.0f} messages of {GROUP_SYMBOLS} candles a second; sending {rate_hz:.0f}")
        spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        heard = [0, 0]
        load = asyncio.create_task(traffic.run(rate_hz, stop))
        try:
            for i in range(rounds):
                for is_shadowed in (True, False) if i % 2 == 0 else (False, True):
                    await _shadow(models, is_shadowed)
                    await asyncio.sleep(SETTLE_S)
                    before = await _heard(models)
                    begun = time.perf_counter()
                    await asyncio.sleep(seconds)
                    spans[is_shadowed].append((begun, time.perf_counter()))
                    if is_shadowed:
                        answered = len(traffic.latencies_ms(*spans[True][-1])) * GROUP_SYMBOLS
                        heard[0] += max(0, answered - (await _heard(models) - before))
                        heard[1] += answered
                say(f"round {i + 1}: {_line(traffic, spans[True][-1], spans[False][-1])}")
        finally:
            stop.set()
            await load
    of = {one: [traffic.latencies_ms(*span) for span in spans[one]] for one in spans}
    found: dict[str, Any] = {
        "rounds": rounds,
        "seconds": seconds,
        "failed": len(traffic.failures),
        "best_per_s": round(best, 1),
        "rate_per_s": round(rate_hz, 1),
        "heard": round(heard[0] / max(heard[1], 1), 3),
    }
    for q in (50, 99):
        all_of = {one: float(np.percentile(np.concatenate(of[one]), q)) for one in of}
        ratios = [float(np.percentile(a, q) / np.percentile(b, q)) for a, b in zip(of[True], of[False], strict=True)]
        found[f"p{q}_ms"] = {"with": round(all_of[True], 2), "without": round(all_of[False], 2)}
        found[f"p{q}_ratio"] = round(all_of[True] / all_of[False], 3)
        found[f"p{q}_ratio_rounds"] = {"median": round(median(ratios), 3), "all": [round(one, 3) for one in ratios]}
    return found


async def _shadow(models: Models, is_on: bool) -> None:
    """Let the version hear, or take it out of Triton; the other of what is there already does nothing."""
    state = (await models.versions())[SHADOW].state
    if is_on and state != pb.MODEL_STATE_SHADOW:
        request = pb.SetAliasRequest(version=SHADOW, alias=pb.MODEL_STATE_SHADOW, why="a bench")
        await models.call("SetAlias", request)
    if not is_on and state == pb.MODEL_STATE_SHADOW:
        await models.call("Unload", pb.UnloadModelRequest(version=SHADOW, why="a bench"))


async def _heard(models: Models) -> int:
    """Return how many windows the shadow of now did not hear; 0 without one.

    Raises:
        RuntimeError: it was taken out by itself.
    """
    one = (await models.versions())[SHADOW]
    if one.state == pb.MODEL_STATE_FAILED:
        raise RuntimeError(f"the shadow was taken out: {one.reason}")
    return int(one.traffic.not_heard)


def _line(traffic: Traffic, shadowed: tuple[float, float], alone: tuple[float, float]) -> str:
    a, b = traffic.latencies_ms(*shadowed), traffic.latencies_ms(*alone)
    percentiles = ((q, np.percentile(a, q), np.percentile(b, q)) for q in (50, 99))
    return ", ".join(f"p{q} {x:.1f} / {y:.1f} ms = {x / y:.2f}" for q, x, y in percentiles)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20, help="of each span (default 20)")
    parser.add_argument("--share", type=float, default=0.7, help="of the maximum load (default 0.7)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shadow-") as folder:
        directory = Path(folder)
        environment = {"CANDLECAST_MODEL_REPOSITORY": str(repository(directory))}
        stack = Stack(directory / "state", environment=environment)
        stack.start()
        try:
            found = asyncio.run(measure(stack, directory, rounds=args.rounds, seconds=args.seconds, share=args.share))
        finally:
            code = stack.stop()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    print(f"shadow: p50_ratio={found['p50_ratio']} p99_ratio={found['p99_ratio']} heard={found['heard']:.0%}")
    return int(bool(code or found["failed"]))


if __name__ == "__main__":
    sys.exit(main())
