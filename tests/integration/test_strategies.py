"""A strategy as a process of its own against a real server's subscriptions, signals and sentiment."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np

from candlecast.client import AsyncClient, SentimentScore
from candlecast.features import Features
from candlecast.server.performance_service import PerformanceService
from candlecast.server.sentiment_service import SentimentService
from candlecast.server.service import ForecastsService
from candlecast.server.subscriptions import Subscriptions
from candlecast.server.wire import TolerantServer
from candlecast.v1 import forecasts_pb2_grpc, performance_pb2_grpc, sentiment_pb2_grpc
from candlecast.v1 import performance_pb2 as pb
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.integration.conftest import INTERVAL_MS, START_MS, forecasts
from tests.integration.test_subscribe import answer

LIMIT_S = 30


@asynccontextmanager
async def serving(pool):
    features = Features(symbols_max=1, conflicts_max=3)
    forecaster = fakes.forecaster(features, FakeModel(), FakeRecorder())
    async with Subscriptions(None, subscribers_max=8, backlog_max=64) as subscriptions:
        server = grpc.aio.server()
        service = ForecastsService(
            forecaster, features, candles_per_message_max=9, unary_timeout_ms=5_000, answer_timeout_ms=5_000,
            subscriptions=subscriptions,
        )  # fmt: skip
        tolerant = TolerantServer(server)
        forecasts_pb2_grpc.add_ForecastsServicer_to_server(service, tolerant)
        performance_pb2_grpc.add_PerformanceServicer_to_server(PerformanceService(pool), tolerant)
        sentiment_pb2_grpc.add_SentimentServicer_to_server(SentimentService(pool), tolerant)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}", subscriptions
        finally:
            service.stop()
            await server.stop(0.2)


@asynccontextmanager
async def strategy(name, address, folder, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"candlecast.strategies.{name}", "--server", address, "--any-age",
        "--queue", str(folder / "signals.queue"), *arguments, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(found):
    async with asyncio.timeout(LIMIT_S):
        while not (value := await found()):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)
    return value


def said(bar, side, close):
    """One forecast at the close of a bar."""
    one = forecasts(1, start_ms=START_MS + bar * INTERVAL_MS, seed=bar)
    meaning = replace(one.meaning, stop_loss=np.array([0.01]), take_profit=np.array([0.02]), agreement=np.array([1.0]))
    return replace(
        one, direction=np.array([side], np.int8), close=np.array([close]), degraded=np.array([False]), meaning=meaning
    )


async def test_a_position_outlives_its_strategy_and_sentiment_closes_it(pool, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text(f"symbol,ts_ms,score,source\nBTCUSDT,{START_MS},0.8,news\n")

    async with serving(pool) as (address, subscriptions), AsyncClient(address) as client:

        async def heard():
            return len(subscriptions)

        async def signals():
            return [one async for one in client.list_signals("sentiment_ml")]

        async def closed():
            return [one for one in await signals() if one.status == pb.SIGNAL_STATUS_CLOSED]

        async with strategy("sentiment_ml", address, tmp_path, "--scores", str(scores)) as process:
            await until(heard)
            subscriptions.publish(answer(said(0, 1, 100.0)))
            (opened,) = await until(signals)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        # It was entered on what was published by that close, at the price that the server told.
        assert (opened.side, opened.entry_time_ms) == (pb.SIDE_LONG, START_MS + INTERVAL_MS)
        assert opened.entry_price == 100.0 * 1.0002
        assert opened.prediction.model == "patchtst"

        async def nobody():
            return not len(subscriptions)

        await until(nobody)
        turned = SentimentScore(symbol="BTCUSDT", ts_ms=START_MS + 3 * INTERVAL_MS, score=-0.9, source="news")
        await client.put_sentiment([turned])
        async with strategy("sentiment_ml", address, tmp_path) as process:
            await until(heard)
            subscriptions.publish(answer(said(1, 0, 100.5)))  # before the score is published
            subscriptions.publish(answer(said(2, 0, 100.7)))
            (left,) = await until(closed)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
    assert (left.key, left.exit_time_ms) == (opened.key, START_MS + 3 * INTERVAL_MS)
    assert left.exit_price == 100.7 * 0.9998
