"""Measures order flow and the gate on a stack of their own, beside a bare gRPC server that answers the same messages.

Usage: python bench/order_flow.py [--rounds N] [--json]. Ours and the bare server take turns in one run; the table, or
one JSON object, comes on standard output. Where the repository has no gate, a logistic of three features stands in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import uvloop  # noqa: E402

from candlecast.client import AsyncClient, Candles, FlowBatch, gate_verdict  # noqa: E402
from candlecast.features import Features, now_ms  # noqa: E402
from candlecast.models import gate_bundle  # noqa: E402
from candlecast.v1 import order_flow_pb2 as pb  # noqa: E402
from candlecast.v1 import order_flow_pb2_grpc  # noqa: E402
from tests import gates  # noqa: E402
from tests.market_simulator import INTERVAL_MS, candles  # noqa: E402
from tests.stack import Stack, free_port  # noqa: E402

BATCH = 100
TRADES = 200_000
"""In one round."""
TOGETHER = 8
CALLS = 1_000
FORECASTS = 400
NEED = Features(symbols_max=1, conflicts_max=1).need


class Bare(order_flow_pb2_grpc.OrderFlowServicer):
    """Parses what comes, and answers with messages of the size of ours."""

    state = pb.FlowState(
        symbol="R0",
        ts_ms=1,
        tick_ratio=1,
        depth_ratio=1,
        price_dist=1,
        price=1,
        vwap=1,
        std_dev=1,
        bid_vol=1,
        ask_vol=1,
    )

    async def Stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            ack = pb.FlowAck(symbol=request.batches[0].symbol, trades=pb.FlowCounts(accepted=BATCH))
            yield pb.OrderFlowResponse(acks=[ack], states=[self.state])

    async def Gate(self, request: Any, context: Any) -> Any:
        decision = pb.GateDecision(symbol=request.symbols[0], approve=True, probability=0.5, state=self.state)
        return pb.GateResponse(decisions=[decision], threshold=0.5)


async def serve_bare(port: int) -> None:
    server = grpc.aio.server()
    order_flow_pb2_grpc.add_OrderFlowServicer_to_server(Bare(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextmanager
def bare_server() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "--bare", str(port)])
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def repository(root: Path) -> tuple[Path, str]:
    """Return a repository with the shipped forecaster and a gate, and what the gate is."""
    shipped = ROOT / "triton_models"
    if gate_bundle.newest(shipped / "gate"):
        return shipped, "the repository's gate"
    models = root / "models"
    models.mkdir()
    (models / "patchtst").symlink_to(shipped / "patchtst")
    gates.write(models / "gate")
    return models, "a logistic of three features"


def trades(symbol: str, count: int, newest_ms: int) -> FlowBatch:
    """Return trades of a random walk, 5 ms apart, with a best bid and ask each 50 trades."""
    rng = np.random.default_rng([count, *symbol.encode()])
    ts = newest_ms - 5 * np.arange(count, dtype=np.int64)[::-1]
    price = np.round(60_000 + np.cumsum(rng.integers(-2, 3, count)) * 0.1, 2)
    bid, ask = rng.random(count)[::50], rng.random(count)[::50]
    quotes = (ts[::50].copy(), price[::50] - 0.1, bid.copy(), price[::50].copy(), ask.copy())
    return FlowBatch(symbol, (ts, np.arange(count), price, rng.random(count) + 0.01), quotes)


def batches(symbol: str) -> list[FlowBatch]:
    whole = trades(symbol, TRADES, now_ms())
    assert whole.trades is not None
    starts = range(0, TRADES, BATCH)
    ts, number, price, quantity = whole.trades
    parts = [slice(at, at + BATCH) for at in starts]
    return [FlowBatch(symbol, (ts[part], number[part], price[part], quantity[part])) for part in parts]


async def rate(client: AsyncClient, given: list[FlowBatch], together: int = 1) -> float:
    """Return the trades/s of one stream, so many batches in each message."""

    async def each() -> AsyncIterator[list[FlowBatch]]:
        for start in range(0, len(given), together):
            yield given[start : start + together]

    started, accepted = time.perf_counter(), 0
    async for response in client.order_flow(each()):
        accepted += sum(ack.trades.accepted for ack in response.acks)
    assert accepted == TRADES, accepted
    return TRADES / (time.perf_counter() - started)


async def times_ms(calls: int, *asks: Callable[[], Awaitable[Any]]) -> list[np.ndarray]:
    """Return the milliseconds of each of several calls, which take turns."""
    found: list[list[float]] = [[] for _ in asks]
    for turn in range(calls + 20):
        for ask, spent in zip(asks, found, strict=True):
            started = time.perf_counter()
            await ask()
            if turn >= 20:
                spent.append((time.perf_counter() - started) * 1e3)
    return [np.array(spent) for spent in found]


async def live(client: AsyncClient, symbol: str) -> None:
    async def one() -> AsyncIterator[FlowBatch]:
        yield trades(symbol, 1_000, now_ms())

    async for _ in client.order_flow(one()):
        pass


async def warm(client: AsyncClient, symbol: str) -> Candles:
    """Send a symbol's history until now and return its forming candle."""
    opened = now_ms() // INTERVAL_MS * INTERVAL_MS
    given = candles(symbol, NEED + 11, start_ms=opened - (NEED + 10) * INTERVAL_MS)
    await client.backfill(given.take(np.arange(NEED + 10)))
    newest = given.take(np.array([NEED + 10]))
    return Candles(newest.symbol, newest.interval_ms, newest.open_time_ms, newest.values, np.ones(1, dtype=np.bool_))


async def measure(address: str, bare: str, rounds: int) -> dict[str, Any]:
    async with AsyncClient(address) as ours, AsyncClient(bare) as echo:
        rates = []
        for number in range(rounds + 1):
            given = batches(f"R{number}")
            several = batches(f"S{number}")
            rates.append((await rate(ours, given), await rate(echo, given), await rate(ours, several, TOGETHER)))
            print("streams: {:,.0f} trades/s, bare {:,.0f}, several {:,.0f}".format(*rates[-1]), file=sys.stderr)
        streams = np.array(rates[1:])  # the first warms up

        await live(ours, "GATED")
        (decision,) = (await ours.gate(["GATED"])).decisions
        assert gate_verdict(decision) in ("APPROVE", "REFUSE"), decision
        unary = []
        for _ in range(5):  # its trades must not be over before it is asked
            await live(ours, "GATED")
            unary.append(await times_ms(CALLS // 5, lambda: ours.gate(["GATED"]), lambda: echo.gate(["GATED"])))
        gate, echoed = (np.concatenate(parts) for parts in zip(*unary, strict=True))

        forming = {symbol: await warm(ours, symbol) for symbol in ("FLOWING", "SILENT")}
        await live(ours, "FLOWING")
        (with_gate,), (without,) = [await ours.predict(forming[symbol]) for symbol in ("FLOWING", "SILENT")]
        assert with_gate.forecast.HasField("gate_probability"), with_gate
        assert not without.forecast.HasField("gate_approved"), without
        flowing, silent = await times_ms(FORECASTS, *(lambda c=c: ours.predict(c) for c in forming.values()))
    return {
        "trades_per_s": round(median(streams[:, 0])),
        "bare_messages_as_trades_per_s": round(median(streams[:, 1])),
        f"trades_per_s_{TOGETHER}_batches_a_message": round(median(streams[:, 2])),
        "ratio_to_bare": round(float(np.median(streams[:, 0] / streams[:, 1])), 2),
        "gate_ms": {f"p{q}": round(float(np.percentile(gate, q)), 2) for q in (50, 99)},
        "bare_unary_ms": {f"p{q}": round(float(np.percentile(echoed, q)), 2) for q in (50, 99)},
        "forecast_with_gate_ms_p50": round(float(np.median(flowing)), 2),
        "forecast_without_gate_ms_p50": round(float(np.median(silent)), 2),
        "gate_adds_ms_p50": round(float(np.median(flowing) - np.median(silent)), 2),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="of streams (default %(default)s)")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.bare:
        uvloop.run(serve_bare(args.bare))
        return
    with tempfile.TemporaryDirectory() as directory, bare_server() as bare:
        models, what = repository(Path(directory))
        environment = {"CANDLECAST_MODEL_REPOSITORY": str(models), "CANDLECAST_ALLOW_SIMULATED": "true"}
        stack = Stack(Path(directory) / "state", environment=environment)
        stack.start()
        try:
            found = {"gate": what, **uvloop.run(measure(stack.grpc, bare, args.rounds))}
        finally:
            stack.stop()
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
