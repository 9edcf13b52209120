"""What a forecast costs without candlecast: ONNX Runtime in this process, and Triton fed with prepared windows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast.bench.load import ANSWER_TIMEOUT_S
from candlecast.bench.market import Market
from candlecast.bench.pace import Schedule
from candlecast.features import Features
from candlecast.models.bundle import MODEL, Bundle
from candlecast.triton.client import CHANNEL_OPTIONS
from candlecast.values import F32, I64

BATCHES_ROWS = (8, 16, 32, 64)
"""Rows of one run that are tried; the fastest counts."""
UNSAFE_OPTIMIZERS = ["NchwcTransformer"]
"""As in triton/backends/onnxruntime: it kills the process on a transposed float16 MatMul."""


def windows_of(market: Market, index: I64, bundle: Bundle | None) -> F32:
    """Return the newest windows [K, 96, F] of symbols that a core of our own is taught; their market moves on."""
    inputs = bundle.manifest.feature_set if bundle else None
    features = Features(
        symbols_max=len(market),
        conflicts_max=1,
        optional_inputs=inputs.optional_inputs if inputs else (),
        reference_symbol=inputs.reference_symbol if inputs else None,
    )
    for chunk in market.history(index, features.need - 1):
        features.push(chunk, windows=False)
    return features.push(market.next(index)).windows


@dataclass(slots=True)
class Way:
    """One way to run the model in this process: sessions, each with so many threads, fed with so many rows a run."""

    sessions: list[Any]
    threads: int
    rows: int

    def __str__(self) -> str:
        return f"{len(self.sessions)} session(s) of {self.threads} thread(s), {self.rows} rows a run"


class OnnxInProcess:
    """ONNX Runtime on all cores of this machine.

    Raises:
        ImportError: it is not installed.
    """

    def __init__(self, bundle: Bundle) -> None:
        import onnxruntime as ort

        cores = len(os.sched_getaffinity(0))

        def session(path: Path, threads: int) -> Any:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            return ort.InferenceSession(
                path, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNSAFE_OPTIMIZERS
            )

        path = bundle.path / MODEL
        one, each = [session(path, cores)], [session(path, 1) for _ in range(cores)]
        self._pool = ThreadPoolExecutor(cores)
        self._ways = [Way(s, t, rows) for rows in BATCHES_ROWS for s, t in ((one, cores), (each, 1))]
        self.way = self._ways[0]

    def choose(self, windows: F32) -> None:
        """Try every way twice on windows [B, 96, F] and keep the fastest."""
        best: dict[int, float] = {}
        for _ in range(2):
            for i, way in enumerate(self._ways):
                best[i] = min(best.get(i, float("inf")), self.seconds(windows, way))
        self.way = self._ways[min(best, key=lambda i: best[i])]

    def seconds(self, windows: F32, way: Way | None = None) -> float:
        """Return the seconds that windows [B, 96, F] take."""
        way = way or self.way
        runs = [windows[start : start + way.rows] for start in range(0, len(windows), way.rows)]
        turns = iter(runs)

        def work(session: Any) -> None:
            for run in turns:  # shared: who is free takes the next; the GIL makes taking one step
                session.run(["outputs"], {"features": run})

        started = time.perf_counter()
        if len(way.sessions) == 1:
            work(way.sessions[0])
        else:
            list(self._pool.map(work, way.sessions))
        return time.perf_counter() - started


class Rival:
    """Something that answers windows one by one, and how fast it does.

    Args:
        ask: answers the window of a number and returns.
    """

    def __init__(self, ask: Callable[[int], Awaitable[object]]) -> None:
        self._ask = ask

    async def closed(self, callers: int, seconds: float) -> float:
        """Return windows a second of so many callers with one call under way each."""
        until, counts = time.perf_counter() + seconds, [0] * callers

        async def call(i: int) -> None:
            while time.perf_counter() < until:
                await self._ask(i)
                counts[i] += 1

        started = time.perf_counter()
        async with asyncio.timeout(seconds + ANSWER_TIMEOUT_S):
            await asyncio.gather(*map(call, range(callers)))
        return sum(counts) / (time.perf_counter() - started)

    async def scheduled(self, rate_hz: float, count: int, failures: list[Exception] | None = None) -> list[float]:
        """Return the latencies in ms of single windows on a schedule, each from its scheduled moment.

        A call that fails ends all of it, or is left out and added to `failures`.
        """
        schedule, latencies = Schedule(rate_hz, count), list[float]()
        calls: set[asyncio.Task[None]] = set()

        async def call(i: int) -> None:
            try:
                await self._ask(i)
            except grpc.aio.AioRpcError as error:
                if failures is None:
                    raise
                failures.append(error)
                return
            latencies.append(schedule.since_due_s(i) * 1e3)

        def fire(i: int) -> None:
            task = asyncio.create_task(call(i))
            calls.add(task)
            task.add_done_callback(calls.discard)

        async with asyncio.timeout(count / rate_hz + ANSWER_TIMEOUT_S):
            await schedule.run(fire)
            await asyncio.gather(*calls)
        return latencies


@asynccontextmanager
async def bare_triton(address: str, model: str, windows: F32) -> AsyncIterator[Rival]:
    """Ask Triton at HOST:PORT by unary calls with requests made beforehand, one of windows [B, 96, F] in each.

    Nothing but the wire and the model; no call has a deadline, for Triton mishandles them.
    """
    requests = [
        service_pb2.ModelInferRequest(
            model_name=model,
            inputs=[{"name": "features", "datatype": "FP32", "shape": (1, *window.shape)}],
            raw_input_contents=[window.tobytes()],
        )
        for window in windows
    ]
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer

        async def ask(i: int) -> None:
            await infer(requests[i % len(requests)])

        yield Rival(ask)
