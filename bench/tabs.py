"""What open tabs of the dashboard cost those who are answered: latencies with and without them, in turns.

Usage: python bench/tabs.py [DIR with *-15m.parquet] [--tabs 50] [--rate 1000] [--symbols 1000] [--rounds 6]
[--seconds 20] [--json FILE]. One `candlecast up`; calls of 25 candles are due at the rate, open loop, and latency
counts from the moment a call was due. A tab is a WebSocket that asks for what the page Now asks for: the newest of 50
symbols, and every signal. All tabs are in one process beside; no browser draws, for 50 of them would leave the server
no processor. With the defaults some 5 minutes. The ratio is with over without: of each round, and of all samples.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from websockets.asyncio.client import connect

from bench.run import Ground, histories_of
from candlecast.bench.load import ask
from candlecast.bench.measures import Bench, Plan
from candlecast.bench.pace import Schedule
from candlecast.lifecycle import give_way
from candlecast.models.bundle import Bundle
from candlecast.settings import CHECKOUT

CALL_SYMBOLS, TAB_SYMBOLS = 25, 50
SETTLE_S = 2.0
MOVED_MAX = 1.05
"""What the p99 may be with tabs, over without."""


async def looked(pipe: Connection, http: str, names: list[str], tabs: int) -> None:
    """Keep tabs open until told otherwise; send how much each was told."""
    told = np.zeros(tabs, dtype=np.int64)

    async def tab(i: int) -> None:
        shown = [names[(i * TAB_SYMBOLS + k) % len(names)] for k in range(TAB_SYMBOLS)]
        async with connect(f"ws://{http}/api/ml/live/ws") as socket:
            await socket.send(json.dumps({"any": [{"symbol": shown}, {"direction": ["LONG", "SHORT"]}]}))
            async for message in socket:
                told[i] += json.loads(message)["event"] != "status"

    async with asyncio.TaskGroup() as group:
        open_ = [group.create_task(tab(i)) for i in range(tabs)]
        await asyncio.to_thread(pipe.recv)
        for task in open_:
            task.cancel()
    pipe.send(told.tolist())


def looks(pipe: Connection, http: str, names: list[str], tabs: int) -> None:
    os.setsid()  # what is said of its session does not mean ours
    give_way(19)  # who looks on does so on a machine of their own
    asyncio.run(looked(pipe, http, names, tabs))


async def answered(bench: Bench, rate_hz: float, seconds: float) -> list[float]:
    """Make calls on a schedule; return their latencies in ms, each from the moment it was due."""
    schedule, latencies = Schedule(rate_hz / CALL_SYMBOLS, int(seconds * rate_hz / CALL_SYMBOLS)), list[float]()
    parts = np.arange(len(bench.market.names)).reshape(-1, CALL_SYMBOLS)
    calls: set[asyncio.Task[None]] = set()

    async def call(i: int) -> None:
        if await ask(bench.client, bench.market.next(parts[i % len(parts)])) != CALL_SYMBOLS:
            raise RuntimeError("a candle was answered without a forecast")
        latencies.append(schedule.since_due_s(i) * 1e3)

    def fire(i: int) -> None:
        calls.add(asyncio.create_task(call(i)))

    await schedule.run(fire)
    await asyncio.gather(*calls)
    return latencies


async def measure(data: Path, directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures."""
    histories, what = histories_of(data)
    bundle = Bundle.load(CHECKOUT / "triton_models" / "patchtst" / "1")
    ground = Ground(directory, histories, bundle, Plan())
    of: dict[bool, list[list[float]]] = {True: [], False: []}
    told: list[list[int]] = []
    async with ground.stack("tabs") as stack, ground.bench(stack, args.symbols) as bench:
        await answered(bench, args.rate, SETTLE_S)
        for i in range(args.rounds):
            for is_looked_at in (True, False) if i % 2 == 0 else (False, True):
                here, there = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=looks, args=(there, stack.http, bench.market.names, args.tabs), daemon=True
                )
                if is_looked_at:
                    process.start()
                    await asyncio.sleep(SETTLE_S)
                await answered(bench, args.rate, SETTLE_S)
                of[is_looked_at].append(await answered(bench, args.rate, args.seconds))
                if is_looked_at:
                    here.send(None)
                    told.append(await asyncio.to_thread(here.recv))
                    await asyncio.to_thread(process.join)
            line = f"round {i + 1}: p99 {_p(of[True][-1]):.1f} / {_p(of[False][-1]):.1f} ms"
            print(line, file=sys.stderr, flush=True)
    ratios = [_p(a) / _p(b) for a, b in zip(of[True], of[False], strict=True)]
    all_of = {one: np.concatenate(of[one]) for one in of}
    return {
        "candles": what,
        "tabs": args.tabs,
        "symbols": args.symbols,
        "forecasts_per_s": args.rate,
        "messages_a_tab_per_s": round(float(np.mean(told)) / (args.seconds + 2 * SETTLE_S), 2),
        "silent_tabs": int((np.array(told) == 0).sum()),
        "p50_ms": {"with": _p(all_of[True], 50), "without": _p(all_of[False], 50)},
        "p99_ms": {"with": _p(all_of[True]), "without": _p(all_of[False])},
        "p99_ratio": round(_p(all_of[True]) / _p(all_of[False]), 3),
        "p99_ratio_rounds": {"median": round(median(ratios), 3), "all": [round(one, 3) for one in ratios]},
    }


def _p(samples: Any, q: float = 99) -> float:
    return round(float(np.percentile(samples, q)), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=CHECKOUT.parent / "shared" / "data" / "candles")
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1_000.0, help="forecasts a second (default 1000)")
    parser.add_argument("--symbols", type=int, default=1_000, help=f"a multiple of {CALL_SYMBOLS} (default 1000)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each span (default 20)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tabs-") as folder:
        found = asyncio.run(measure(args.data, Path(folder), args))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    print(f"tabs: p99_ratio={found['p99_ratio']} after {time.monotonic() - begun:.0f} s")
    return int(found["p99_ratio"] > MOVED_MAX or found["silent_tabs"] > 0)


if __name__ == "__main__":
    sys.exit(main())
