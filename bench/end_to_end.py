"""Measures the main job on real candles: `candlecast up`, one symbol and then all, beside bare Triton on the same box.

Usage: python bench/end_to_end.py [DIR with *-15m.parquet] [--candles N]. Prints a table; says machine and commit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from candlecast.candle_files import load  # noqa: E402
from candlecast.client import AsyncClient, Candle, messages  # noqa: E402
from candlecast.features import Features  # noqa: E402
from candlecast.server.app import newest_bundle  # noqa: E402
from candlecast.settings import CHECKOUT  # noqa: E402
from candlecast.triton.client import TritonModel  # noqa: E402
from tests.stack import Stack  # noqa: E402

NEED = Features(symbols_max=1, conflicts_max=1).need
LONE_REQUESTS = 500
LONE_CANDLES = 2_000
BURST_ROWS, BURST_IN_FLIGHT = 12, 2


async def bare_triton(address: str) -> tuple[float, float]:
    """Return p50 milliseconds of lone windows and windows per second of requests as the server makes them."""
    bundle = newest_bundle(CHECKOUT / "triton_models" / "patchtst")
    one, many = bundle.golden_inputs[:1], np.repeat(bundle.golden_inputs, BURST_ROWS // 4, axis=0)
    async with TritonModel(address, "patchtst", timeout_ms=5_000) as model:
        lone = []
        for _ in range(LONE_REQUESTS):
            started = time.perf_counter()
            await model.infer(one)
            lone.append((time.perf_counter() - started) * 1e3)

        async def caller(count: int) -> None:
            for _ in range(count):
                await model.infer(many)

        started = time.perf_counter()
        await asyncio.gather(*(caller(60) for _ in range(BURST_IN_FLIGHT)))
        rate = BURST_IN_FLIGHT * 60 * BURST_ROWS / (time.perf_counter() - started)
    return float(np.median(lone)), rate


async def lone_candles(address: str, file: Path) -> tuple[list[float], list[float]]:
    """Return milliseconds per candle, each sent when the one before was answered: to the answer, and to the disk."""
    candles = load([file])
    answered, on_disk, sent = [], [], 0.0
    turn = asyncio.Semaphore(1)

    async def source() -> AsyncIterator[list[Candle]]:
        nonlocal sent
        for i in range(NEED, NEED + LONE_CANDLES):
            batch = messages(candles.take(np.array([i])))
            await turn.acquire()
            sent = time.perf_counter()
            yield batch

    async with AsyncClient(address) as client:
        await client.backfill(messages(candles.take(np.arange(NEED))))
        async for (result,) in client.stream(source()):
            answered.append((time.perf_counter() - sent) * 1e3)
            turn.release()
            spent = result.forecast.times
            on_disk.append(sum(getattr(spent, stage.name) for stage in spent.DESCRIPTOR.fields) / 1e3)
    return answered, on_disk


def triton_address(stack: Stack) -> str:
    words = stack.processes()["server"].cmdline()
    return words[words.index("--triton") + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "candles")
    parser.add_argument("--candles", type=int, default=2_000, help="per symbol (default %(default)s)")
    args = parser.parse_args()
    files = sorted(args.data.glob("*-15m.parquet"))
    if not files:
        sys.exit(f"no *-15m.parquet in {args.data}")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(
        f"machine: {platform.machine()}, {psutil.cpu_count()} cores; commit {commit.stdout.strip()};"
        f" {time.strftime('%Y-%m-%d')}"
    )
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory) / "state")
        print(f"candlecast up, first start: {stack.start():.1f} s")
        stack.stop()
        print(f"candlecast up, later start: {stack.start():.1f} s")
        lone_ms, rate = asyncio.run(bare_triton(triton_address(stack)))
        answered, on_disk = asyncio.run(lone_candles(stack.grpc, files[0]))
        p50, p99 = np.percentile(answered, (50, 99))
        print(f"one symbol, one at a time: candle to answer p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        print(f"  in the server, from the candle to the disk: p50 {np.median(on_disk):.2f} ms")
        print(f"  bare Triton, one window: p50 {lone_ms:.2f} ms; ratio {p50 / lone_ms:.2f}")
        server = stack.processes()["server"]
        before = server.memory_info().rss
        every = stack.replay(*files[1:], arguments=("--limit", str(len(files) * args.candles)))
        after = server.memory_info().rss
        print(f"{len(files) - 1} symbols: {every['forecasts']} forecasts, {every['forecasts_per_s']:.0f} forecasts/s")
        print(f"  bare Triton, requests of {BURST_ROWS}, {BURST_IN_FLIGHT} in flight: {rate:.0f} windows/s;", end=" ")
        print(f"ratio {every['forecasts_per_s'] / rate:.2f}")
        print(f"  server memory before {before / 1e6:.0f} MB, after {after / 1e6:.0f} MB")
        stack.stop()


if __name__ == "__main__":
    main()
