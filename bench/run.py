"""Measures the main job on stacks of its own, with every baseline beside it: `make bench`.

Usage: python bench/run.py [DIR with *-15m.parquet] [--only GROUP,…] [--seconds S] [--quick] [--json]. The table,
or with --json a list like that of `candlecast bench`, comes on standard output; progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import uvloop  # noqa: E402

from bench.fastapi_rival import fastapi  # noqa: E402
from bench.grpc_rival import empty_grpc  # noqa: E402
from bench.null_model import write_null_repository  # noqa: E402
from bench.overhead import overhead  # noqa: E402
from bench.sweep import at_target, draw, sweep, words  # noqa: E402
from candlecast.bench import machine, measures  # noqa: E402
from candlecast.bench.baselines import OnnxInProcess, bare_triton, windows_of  # noqa: E402
from candlecast.bench.figures import Figure, as_json, in_order  # noqa: E402
from candlecast.bench.market import BARS, HISTORIES, Market, names  # noqa: E402
from candlecast.bench.measures import BURST, SCALES, Bench  # noqa: E402
from candlecast.candle_files import load  # noqa: E402
from candlecast.cli.bench import print_table, say  # noqa: E402
from candlecast.client import AsyncClient  # noqa: E402
from candlecast.features import Features  # noqa: E402
from candlecast.models.bundle import Bundle  # noqa: E402
from candlecast.server.app import features_for, newest_bundle  # noqa: E402
from candlecast.settings import CHECKOUT  # noqa: E402
from candlecast.snapshots import Snapshots  # noqa: E402
from candlecast.values import F64  # noqa: E402
from candlecast.values import symbols as symbol_column  # noqa: E402
from tests.market_simulator import candles  # noqa: E402
from tests.stack import Stack  # noqa: E402

GROUPS = ("burst", "closed", "latency", "overhead", "scale", "scale_10000", "open")
DATA = ROOT.parent / "shared" / "data" / "candles"
REFERENCE = "BTCUSDT"
ASKED_WINDOWS = 64
"""Prepared windows that the rivals are asked in turn."""


@dataclass(slots=True)
class Measured:
    """Everything that came out."""

    machine: str
    candles: str
    figures: list[Figure] = field(default_factory=list)
    sweep: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ground:
    """What all stacks of one run have in common."""

    directory: Path
    histories: F64
    bundle: Bundle
    plan: measures.Plan

    def market(self, symbols: int) -> Market:
        return Market(names(symbols, reference=REFERENCE), self.histories)

    @asynccontextmanager
    async def stack(self, name: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
        stack = Stack(self.directory / name, environment=environment)
        say(f"stack {name}: ready after {stack.start():.1f} s")
        try:
            yield stack
        finally:
            stack.stop()

    @asynccontextmanager
    async def bench(self, stack: Stack, symbols: int) -> AsyncIterator[Bench]:
        async with AsyncClient(stack.grpc) as client, AsyncClient(stack.grpc, share_calls=False) as apart:
            bench = Bench(client, self.market(symbols), self.plan, say, apart=apart)
            server = bench.server_pid = stack.processes()["server"].pid
            bench.rests = lambda: machine.household(server)
            await bench.teach(symbols)
            yield bench


def histories_of(directory: Path) -> tuple[F64, str]:
    """Return histories [H, L, 8] and what they are: the newest candles of each file, or made up ones."""
    files = sorted(directory.glob("*-15m.parquet"))
    if not files:
        simulated = np.stack([candles(f"H{i}", BARS).values for i in range(HISTORIES)])
        return simulated, f"no *-15m.parquet in {directory}: simulated, {HISTORIES} random walks"
    files.sort(key=lambda file: not file.name.startswith(REFERENCE))  # the reference is symbol 0
    values = [load([file]).values for file in files]
    length = min(map(len, values))
    return np.stack([each[-length:] for each in values]), (
        f"real: {len(files)} histories of {length:,} 15-minute candles, re-dated; more symbols are the same histories"
        " under other names, at other prices and phases"
    )


async def whole(ground: Ground, only: set[str], seconds: float, out: Measured, plot: Path) -> None:
    """Measure what a stack with 1,000 symbols can show."""
    windows = windows_of(ground.market(BURST), np.arange(BURST), ground.bundle)
    onnx = OnnxInProcess(ground.bundle)
    async with AsyncExitStack() as parts:
        stack = await parts.enter_async_context(ground.stack("real"))
        triton = (stack.state_dir / "triton_address").read_text().strip()
        bench = await parts.enter_async_context(ground.bench(stack, BURST))
        bench.windows, bench.onnx = windows, onnx
        asked = windows[:ASKED_WINDOWS]
        bench.rivals[""] = await parts.enter_async_context(bare_triton(triton, ground.bundle.manifest.name, asked))
        if "burst" in only:
            say("burst")
            out.figures.append(await bench.burst(BURST, "burst_1000"))
        if only & {"closed", "latency"}:
            async with (
                fastapi(ground.bundle, asked) as bench.rivals["_fastapi"],
                empty_grpc(stack.grpc, bench.market, ground.directory) as bench.rivals["_empty"],
            ):
                if "closed" in only:
                    say("closed")
                    out.figures += await bench.closed()
                if "latency" in only:
                    say("latency")
                    out.figures += await bench.latency()
            del bench.rivals["_fastapi"], bench.rivals["_empty"]
        if "scale" in only:
            out.figures += (await bench.scales(BURST))[: SCALES.index(BURST) + 1]
        if "open" in only:
            if not bench.closed_hz:
                await bench.closed()
            say("sweep")
            steps = await sweep(bench, max(1.0, min(10.0, seconds / 10)))
            out.sweep = [asdict(step) for step in steps]
            draw(steps, plot, out.machine, say)
            say(f"open loop, {seconds:.0f} s")
            figure, step = await at_target(bench, seconds)
            say(words(step))
            out.figures.append(figure)


async def nothing(ground: Ground, out: Measured) -> None:
    """Measure what everything around the model costs."""
    repository = ground.directory / "null_models"
    write_null_repository(repository, ground.bundle)
    async with (
        ground.stack("null", {"CANDLECAST_MODEL_REPOSITORY": str(repository)}) as stack,
        ground.bench(stack, BURST) as bench,
    ):
        say("overhead")
        out.figures.append(await overhead(bench, stack, 2 * ground.plan.rounds))


async def many(ground: Ground, out: Measured, ring: Literal["f32", "f16"]) -> None:
    """Measure 10,000 symbols, READY from a snapshot, as after a restart: sending their history would take minutes."""
    symbols, name = SCALES[-1], f"many_{ring}"
    market = ground.market(symbols)
    features: Features | None = features_for(ground.bundle, symbols_max=symbols, conflicts_max=1, threads=2, ring=ring)
    assert features is not None
    for chunk in market.history(np.arange(symbols), features.need):
        features.push(chunk, windows=False)

    async def settled() -> None:
        return None

    say(f"snapshot of 10,000 symbols, {ring}")
    if not await Snapshots(ground.directory / name / "snapshots", features, settled, interval_s=1).save():
        raise SystemExit("the snapshot could not be saved")
    windows = features.newest(symbol_column(market.names[:BURST]), 900_000).windows
    features = None
    async with ground.stack(name, {"CANDLECAST_RING": ring}) as stack, ground.bench(stack, symbols) as bench:
        bench.windows, bench.onnx = windows, OnnxInProcess(ground.bundle)
        say("scale_10000")
        figures = [await bench.burst(symbols, "scale_10000"), bench.resident(symbols)]
        suffix = "" if ring == "f32" else f"_{ring}"
        out.figures += [replace(figure, name=f"{figure.name}{suffix}") for figure in figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DATA, help="folder with *-15m.parquet")
    parser.add_argument("--only", default=",".join(GROUPS), metavar="GROUP,…", help="some of %(default)s")
    parser.add_argument("--seconds", type=float, default=300, help="of the open loop at 70 %% (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few seconds for each measure")
    parser.add_argument("--plot", type=Path, default=ROOT / "bench" / "latency.svg", help="default %(default)s")
    parser.add_argument("--record", type=Path, default=ROOT / "target" / "bench.json", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON alone on standard output")
    args = parser.parse_args()
    only = set(args.only.split(","))
    if only - set(GROUPS):
        parser.error(f"unknown: {', '.join(only - set(GROUPS))}")
    histories, said = histories_of(args.data)
    out = Measured(machine.line(), said)
    say(f"{out.machine}\ncandles: {said}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL may run as another user
        bundle = newest_bundle(CHECKOUT / "triton_models" / "patchtst")
        ground = Ground(Path(temporary), histories, bundle, measures.QUICK if args.quick else measures.Plan())
        if only - {"overhead", "scale_10000"}:
            uvloop.run(whole(ground, only, min(args.seconds, 10) if args.quick else args.seconds, out, args.plot))
        if "overhead" in only:
            uvloop.run(nothing(ground, out))
        if "scale_10000" in only:
            uvloop.run(many(ground, out, "f32"))
            uvloop.run(many(ground, out, "f16"))
    out.figures = in_order(out.figures)
    args.record.parent.mkdir(parents=True, exist_ok=True)
    args.record.write_text(json.dumps(asdict(out), indent=2) + "\n")
    print_table(out.figures, to_stderr=args.json)
    if args.json:
        print(as_json(out.figures))


if __name__ == "__main__":
    main()
