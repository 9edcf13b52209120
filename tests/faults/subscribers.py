"""The row of subscribers: some read one message a second while forecasts come faster, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import numpy as np

from candlecast.calls import ServerError
from candlecast.client import AsyncClient
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from tests.faults.holdings import Holdings
from tests.faults.scene import Scene, Seen, row

BACKLOG = 256
"""Forecasts kept: at 480 a second, half a second's."""
CLOSES = 160
"""Of the load, with and without slow subscribers."""
NARROW: list[tuple[str, Any]] = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
"""The client's own buffers stay small, so that it is slow in earnest."""


@row(
    11,
    "slow subscribers: one message a second",
    8,
    stays_ready=True,
    environment=lambda directory: {"CANDLECAST_SUBSCRIBER_BACKLOG_MAX": str(BACKLOG)},
)
async def slow_subscribers(scene: Scene) -> Seen:
    """Each is sent the newest of each symbol or ended, as it asked; a quick one hears all, the load's p99 stays."""
    heard: dict[tuple[str, int], int] = {}
    async with AsyncClient(scene.stack.grpc) as client:

        async def listen() -> None:
            async for forecast in client.subscribe(symbols=scene.load.names, every=True):
                key = forecast.symbol, forecast.close_time_ms
                heard[key] = heard.get(key, 0) + 1

        quick = asyncio.create_task(listen())
        try:
            await scene.load.until_answered(20)
            known = set(scene.load.acknowledged)
            scene.before = await Holdings.of(scene.stack)
            alone_ms = await _p99_ms(scene)
            slow = [asyncio.create_task(_slow(scene, pb.WhenBehind.Name(1 + i % 2))) for i in range(scene.times)]
            beside_ms = await _p99_ms(scene)
            seen = Seen()
            for task in slow:
                async with asyncio.timeout(60):
                    ended, skipped, told_s = await task
                assert ended or skipped > BACKLOG, f"a slow subscriber missed {skipped} forecasts only"
                seen.add(detect_s=told_s)
            again_ms = await _p99_ms(scene)
            seen.notes |= {"p99_alone_ms": [alone_ms, again_ms], "p99_beside_ms": beside_ms}
            wanted = set(scene.load.acknowledged) - known
            async with asyncio.timeout(20):
                while wanted - heard.keys():
                    await asyncio.sleep(0.05)
        finally:
            quick.cancel()
    assert max(heard.values()) == 1, "a forecast came twice"
    # Of 160 samples p99 is the second worst: this is to tell a machine's moods from somebody who waits.
    assert beside_ms < 2 * max(alone_ms, again_ms) + 20, seen.notes
    seen.notes["forecasts_heard"] = len(heard)
    return seen


async def _p99_ms(scene: Scene) -> float:
    start = len(scene.load.latencies_ms)
    await scene.load.until_answered(CLOSES)
    return round(float(np.percentile(scene.load.latencies_ms[start:], 99)), 1)


async def _slow(scene: Scene, when_behind: str) -> tuple[bool, int, float]:
    """Read one message a second; return whether the call was ended, what was left out, and seconds until either."""
    started = time.monotonic()
    async with grpc.aio.insecure_channel(scene.stack.grpc, options=NARROW) as channel:
        stub: Any = ForecastsStub(channel)  # type: ignore[no-untyped-call]
        request = pb.SubscribeRequest(symbols=scene.load.names, when_behind=pb.WhenBehind.Value(when_behind))
        try:
            async for response in stub.Subscribe(request):
                if response.skipped > BACKLOG:
                    assert {f.symbol for f in response.forecasts} == set(scene.load.names)
                    return False, response.skipped, time.monotonic() - started
                await asyncio.sleep(1)
        except grpc.RpcError as error:
            failure = ServerError(error)
            assert failure.server_reason == "SUBSCRIBER_BEHIND", failure
            return True, 0, time.monotonic() - started
    raise AssertionError("the subscription ended by itself")
