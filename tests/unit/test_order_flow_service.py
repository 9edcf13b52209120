"""The door of the order flow: what is malformed is told by its field, and nothing of it moves."""

import asyncio

import grpc
import numpy as np
import pytest

from candlecast.client import AsyncClient, FlowBatch, ServerError
from candlecast.errors import InvalidRequest, Overloaded
from candlecast.flow_messages import flow_request
from candlecast.gatekeeper import Gatekeeper
from candlecast.order_flow import OrderFlow
from candlecast.server.flow_recorder import FlowRecorder
from candlecast.server.order_flow_service import OrderFlowService, flow_batches
from candlecast.server.wire import TolerantServer
from candlecast.v1 import order_flow_pb2 as pb
from candlecast.v1 import order_flow_pb2_grpc
from candlecast.values import FlowRecords

TS = 1_700_000_000_000 + np.arange(3, dtype=np.int64)
TRADES = (TS, np.arange(3), np.full(3, 100.0), np.ones(3))
QUOTES = (TS, *(np.ones(3) for _ in range(4)))
DEPTH = (TS, TS, TS, TS, np.array([1, -1, 1]), np.ones(3), np.zeros(3), np.array([1, 1, 0]))


def request(**kinds):
    return flow_request([FlowBatch("AAA", TRADES, QUOTES, DEPTH), FlowBatch("BBB", **kinds)])


def test_columns_arrive_as_they_were_sent():
    first, second = flow_batches(request(trades=TRADES), rows_max=12)
    assert (first.symbol, second.symbol) == ("AAA", "BBB")
    for sent, got in ((TRADES, first.trades), (QUOTES, first.quotes), (DEPTH, first.depth)):
        for a, b in zip(sent, got, strict=True):
            np.testing.assert_array_equal(a, b)
    assert first.depth[7].dtype == np.bool_
    assert (second.quotes, second.depth) == (None, None)


def without(columns, at, value):
    return tuple(value if i == at else column for i, column in enumerate(columns))


@pytest.mark.parametrize(
    ("kinds", "field"),
    [
        ({"trades": without(TRADES, 2, np.ones(2))}, "batches[1].trades.price"),
        ({"trades": without(TRADES, 0, TS - TS)}, "batches[1].trades.ts"),
        ({"quotes": without(QUOTES, 4, np.ones(4))}, "batches[1].quotes.ask_size"),
        ({"depth": without(DEPTH, 4, np.array([1, 0, 1]))}, "batches[1].depth.side"),
        ({"depth": without(DEPTH, 5, np.array([1, np.nan, 1]))}, "batches[1].depth.price"),
        ({"depth": without(DEPTH, 6, np.array([1, -1.0, 1]))}, "batches[1].depth.qty"),
        ({"depth": without(DEPTH, 7, np.array([0, 2, 1]))}, "batches[1].depth.is_snapshot"),
    ],
)
def test_a_malformed_column_is_named(kinds, field):
    with pytest.raises(InvalidRequest) as error:
        flow_batches(request(**kinds), rows_max=100)
    assert error.value.field == field


def test_other_malformed_messages_are_named():
    for message, rows_max, field in (
        (pb.OrderFlowRequest(batches=[pb.FlowBatch(symbol="lower")]), 9, "batches[0].symbol"),
        (pb.OrderFlowRequest(batches=[pb.FlowBatch(symbol="A", trades=pb.TradeColumns(ts=b"123"))]), 9,
         "batches[0].trades.ts"),
        (request(), 8, "batches"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as error:
            flow_batches(message, rows_max)
        assert error.value.field == field


@pytest.fixture
async def door():
    """A service of its own with room for two symbols: (service, address)."""
    flow = OrderFlow(symbols_max=2)
    service = OrderFlowService(flow, Gatekeeper(flow, None), rows_per_message_max=100, symbols_per_message_max=2)
    server = grpc.aio.server()
    order_flow_pb2_grpc.add_OrderFlowServicer_to_server(service, TolerantServer(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(None)


async def test_a_stream_ends_with_stopping_when_the_server_stops(door):
    service, address = door

    async def batches():
        yield FlowBatch("AAA", TRADES)
        await asyncio.Event().wait()

    async with AsyncClient(address, resume_s=0) as client:
        stream = client.order_flow(batches())
        assert (await anext(stream)).acks[0].trades.accepted == 3
        service.stop()
        with pytest.raises(ServerError) as error:
            await anext(stream)
    assert error.value.server_reason == "STOPPING"


async def test_a_symbol_too_many_is_refused_and_what_is_no_message_is_told(door):
    async with AsyncClient(door[1], resume_s=0) as client:

        async def batches():
            for symbol in ("A", "B", "C"):
                yield FlowBatch(symbol, TRADES)

        answered = []
        with pytest.raises(ServerError) as error:
            async for response in client.order_flow(batches()):
                answered.append(response.acks[0].symbol)  # noqa: PERF401  what came before the error counts
    assert answered == ["A", "B"]
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with grpc.aio.insecure_channel(door[1]) as channel:
        stream = channel.stream_stream("/candlecast.v1.OrderFlow/Stream")(iter([b"\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError, match="cannot be parsed"):
            await stream.read()


async def test_without_a_gate_a_bot_hears_that_there_is_none(door):
    async with AsyncClient(door[1]) as client:
        answer = await client.gate(["AAA"])
    assert not answer.HasField("model")
    assert (answer.decisions[0].approve, list(answer.decisions[0].reasons)) == (True, ["NO_GATE"])


async def test_records_that_cannot_be_stored_now_are_stored_later():
    flow, stored, errors = OrderFlow(), [], [Overloaded("full"), None, None]

    async def record(records: FlowRecords):
        if (error := errors.pop(0)) is not None:
            raise error
        stored.append(records.ts_ms.tolist())

    recorder = FlowRecorder(flow, record)
    flow.push(FlowBatch("AAA", TRADES))
    await recorder.flush(all_of_them=True)
    assert stored == []
    await recorder.flush()
    assert stored == [[int(TS[-1])]]
    await recorder.flush()  # nothing is due
    assert len(errors) == 1
