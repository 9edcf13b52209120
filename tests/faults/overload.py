"""The row of too much: an open loop sends what is asked for, not what can be had."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import numpy as np

from candlecast.client import AsyncClient, messages
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from tests.faults.load import NEED, Load
from tests.faults.scene import Scene, Seen, row

SYMBOLS = 12
DEADLINE_S = 1.0
CLOSED_AT_ONCE = 8
GOODPUT = 0.9
"""Of what closed-loop callers get just before; the median of the runs of a kind."""
FACTORS = (2.0, 5.0), (10.0, 1.0)
"""Times what closed-loop callers get, for so many seconds."""


@row(12, "2x capacity, 10x burst", 8, stays_ready=True)
async def overload(scene: Scene) -> Seen:
    """Ask for what is remembered, and for what the model has to compute; both move nothing.

    Goodput is what came within the deadline.
    """
    seen = Seen(notes={"runs": []})
    kinds = {"remembered": pb.PredictRequest(symbols=scene.load.names[:SYMBOLS]), "computed": await forming(scene)}
    async with grpc.aio.insecure_channel(scene.stack.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = ForecastsStub(channel)
        for i in range(scene.times):
            (factor, seconds), kind = FACTORS[i % 2], list(kinds)[i // 2 % 2]
            best = await closed_loop(stub, kinds[kind], 3.0)
            answers, waits = await open_loop(stub, kinds[kind], factor * best, seconds)
            assert answers.keys() <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}, answers
            since_s = time.monotonic()
            await scene.load.until_answered(2)
            seen.add(recover_s=time.monotonic() - since_s)
            refused_ms = round(float(np.median(waits)), 1) if waits else None
            run = {"kind": kind, "factor": factor, "best_per_s": round(best * SYMBOLS)}
            run |= {"goodput": round(answers["OK"] / seconds / best, 2), "refused_p50_ms": refused_ms}
            seen.notes["runs"].append(run | answers)
    wanted = GOODPUT if scene.full else GOODPUT / 3  # a short one has few runs, on a machine that may do other things
    for kind in {run["kind"] for run in seen.notes["runs"]}:
        goodput = float(np.median([run["goodput"] for run in seen.notes["runs"] if run["kind"] == kind]))
        assert goodput >= wanted, (kind, goodput, seen.notes)
    return seen


async def forming(scene: Scene) -> pb.PredictRequest:
    """Return a request of candles that are not closed, of symbols that have their history: never remembered."""
    market = Load(scene.stack.grpc, symbols=SYMBOLS, seed=scene.dice.randrange(10**6, 10**7))
    async with AsyncClient(scene.stack.grpc) as client:
        await client.backfill([candle for bar in range(NEED) for candle in market.batch(bar)])
    return pb.PredictRequest(candles=messages(replace(market.columns(NEED), forming=np.ones(SYMBOLS, dtype=np.bool_))))


async def closed_loop(stub: Any, request: pb.PredictRequest, seconds: float) -> float:
    """Return how many requests a second are answered to callers that wait for each other."""
    done, until = 0, time.monotonic() + seconds

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < until:
            await stub.Predict(request, timeout=10)
            done += 1

    await asyncio.gather(*(caller() for _ in range(CLOSED_AT_ONCE)))
    return done / seconds


async def open_loop(
    stub: Any, request: pb.PredictRequest, per_s: float, seconds: float
) -> tuple[Counter[str], list[float]]:
    """Send at a rate whatever comes back; return the answers by status, and the ms until each early refusal."""
    answers: Counter[str] = Counter()
    waits: list[float] = []

    async def one() -> None:
        started = time.monotonic()
        try:
            await stub.Predict(request, timeout=DEADLINE_S)
            answers["OK"] += 1
        except grpc.aio.AioRpcError as error:
            answers[error.code().name] += 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                waits.append((time.monotonic() - started) * 1e3)

    calls, begin = [], time.monotonic()
    for i in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, begin + i / per_s - time.monotonic()))
        calls.append(asyncio.create_task(one()))
    await asyncio.gather(*calls)
    return answers, waits
