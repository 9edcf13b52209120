"""The empty gRPC service as a rival: what the wire alone costs, with our client and our messages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np

from bench.fastapi_rival import START_POLL_S, START_TIMEOUT_S, STOP_TIMEOUT_S
from candlecast.bench.baselines import Rival
from candlecast.bench.market import Market
from candlecast.client import AsyncClient, ServerError
from candlecast.results import asking
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from tests.stack import free_port

BASELINE = Path(__file__).with_name("grpc_baseline.py")
ASKED = 64
"""Symbols that are asked about in turn."""


@asynccontextmanager
async def empty_grpc(server: str, market: Market, directory: Path) -> AsyncIterator[Rival]:
    """Give the service that does nothing an answer of the server at HOST:PORT and ask it for one candle at a time."""
    candles = [market.next(np.array([symbol])) for symbol in range(ASKED)]
    async with grpc.aio.insecure_channel(server) as channel:
        answer = await ForecastsStub(channel).Predict(pb.PredictRequest(**asking(candles[0])))
    response = directory / "response.bin"
    response.write_bytes(answer.SerializeToString())
    port = free_port()
    command = [sys.executable, str(BASELINE), str(port), str(response)]
    process = await asyncio.to_thread(subprocess.Popen, command)  # not by asyncio: it forks, and gRPC has threads here
    try:
        async with AsyncClient(f"127.0.0.1:{port}", share_calls=False) as client:

            async def ask(i: int) -> None:
                if (await client.predict(candles[i % ASKED])).forecasts != 1:
                    raise AssertionError("the answer that is given again and again holds no forecast")

            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    try:
                        await ask(0)
                        break
                    except ServerError:
                        await asyncio.sleep(START_POLL_S)
            yield Rival(ask)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
