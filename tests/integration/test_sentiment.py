"""Scores over gRPC and the real PostgreSQL: kept once, refused by name, and never seen before they were published."""

import math
import time
from contextlib import asynccontextmanager

import grpc
import pytest

from candlecast.client import AsyncClient, Client, SentimentScore, ServerError
from candlecast.server.sentiment_service import SentimentService
from candlecast.server.wire import TolerantServer
from candlecast.v1 import sentiment_pb2 as pb
from candlecast.v1 import sentiment_pb2_grpc
from candlecast.v1.sentiment_pb2_grpc import SentimentStub

START_MS = 1_704_067_200_000
HOUR_MS = 3_600_000


@asynccontextmanager
async def serving(pool):
    server = grpc.aio.server()
    sentiment_pb2_grpc.add_SentimentServicer_to_server(SentimentService(pool), TolerantServer(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@pytest.fixture
async def client(pool):
    async with serving(pool) as address, AsyncClient(address) as client:
        yield client


def said(ts_ms, score, symbol="BTCUSDT", source="news"):
    return SentimentScore(symbol=symbol, ts_ms=ts_ms, score=score, source=source)


async def test_a_score_is_never_seen_before_its_publication(client):
    await client.put_sentiment([said(START_MS, -0.5), said(START_MS + HOUR_MS, 0.75)])
    for at_ms, expected in (
        (START_MS - 1, None),
        (START_MS, -0.5),
        (START_MS + HOUR_MS - 1, -0.5),
        (START_MS + HOUR_MS, 0.75),
        (0, 0.75),  # now
    ):
        found = await client.sentiment_as_of(["BTCUSDT"], at_ms)
        assert (found["BTCUSDT"].score if found else None) == expected, at_ms


async def test_the_same_score_again_changes_nothing_and_another_source_is_another_score(client):
    first = await client.put_sentiment([said(START_MS, 0.5), said(START_MS, 0.5), said(START_MS, -1.0, source="forum")])
    again = await client.put_sentiment([said(START_MS, 0.9), said(START_MS + 1, 0.1)])
    assert (first.created, first.known) == (2, 1)
    assert (again.created, again.known) == (1, 1)
    as_of = await client.sentiment_as_of(["BTCUSDT"], START_MS, source="news")
    assert as_of["BTCUSDT"].score == 0.5
    assert (await client.sentiment_as_of(["BTCUSDT"], START_MS, source="forum"))["BTCUSDT"] == said(
        START_MS, -1.0, source="forum"
    )


async def test_symbols_are_answered_each_for_itself_and_those_without_a_score_left_out(client):
    many = [said(START_MS + i, (i % 3 - 1) / 2, symbol=f"S{i % 7}USDT") for i in range(1_500)]  # two messages
    assert (await client.put_sentiment(many)).created == 1_500
    found = await client.sentiment_as_of([*(f"S{i}USDT" for i in range(8))], START_MS + 1_400)
    expected = {one.symbol: one for one in many if one.ts_ms <= START_MS + 1_400}
    assert found == expected
    assert list(found) == [f"S{i}USDT" for i in range(7)]


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("symbol", {"symbol": "btc usdt"}),
        ("ts_ms", {"ts_ms": 0}),
        ("ts_ms", {"ts_ms": 99_999_999_999_999}),
        ("score", {"score": 1.01}),
        ("score", {"score": math.nan}),
        ("source", {"source": ""}),
        ("source", {"source": "s" * 65}),
    ],
)
async def test_a_malformed_score_is_named_and_none_of_its_message_is_kept(client, field, changed):
    good = {"symbol": "BTCUSDT", "ts_ms": START_MS, "score": 0.5, "source": "news"}
    with pytest.raises(ServerError, match=rf"scores\[1\]\.{field}: ") as refused:
        await client.put_sentiment([SentimentScore(**good), SentimentScore(**{**good, **changed})])
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert await client.sentiment_as_of(["BTCUSDT"]) == {}


async def test_messages_are_bounded_and_the_future_is_not_told(client):
    too_many = pb.PutSentimentRequest(scores=[said(START_MS + i, 0.0) for i in range(1_001)])
    for request, method in (
        (too_many, "Put"),
        (pb.PutSentimentRequest(), "Put"),
        (pb.SentimentAsOfRequest(), "AsOf"),
        (pb.SentimentAsOfRequest(symbols=["A"] * 1_001), "AsOf"),
        (pb.SentimentAsOfRequest(symbols=["A"], at_ms=time.time_ns() // 1_000_000 + HOUR_MS), "AsOf"),
    ):
        with pytest.raises(ServerError) as refused:
            await client.ask(method, request, None, SentimentStub)
        assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_blocking_client_says_the_same(pool):
    import asyncio

    def both(address):
        with Client(address) as client:
            return client.put_sentiment([said(START_MS, 0.25)]), client.sentiment_as_of(["BTCUSDT"], START_MS)

    async with serving(pool) as address:
        put, found = await asyncio.to_thread(both, address)
    assert (put.created, found) == (1, {"BTCUSDT": said(START_MS, 0.25)})
