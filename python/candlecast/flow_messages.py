"""Order flow as messages: columns travel as little-endian bytes. Knows the wire, no call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from candlecast.v1 import order_flow_pb2 as pb
from candlecast.values import FlowBatch

TRADES: Final = {"ts": "<i8", "id": "<i8", "price": "<f8", "qty": "<f8"}
QUOTES: Final = {"ts": "<i8", "bid": "<f8", "bid_size": "<f8", "ask": "<f8", "ask_size": "<f8"}
DEPTH: Final = {
    **dict.fromkeys(("ts", "first", "last", "previous"), "<i8"),
    "side": "<i1",
    "price": "<f8",
    "qty": "<f8",
    "is_snapshot": "<u1",
}
"""Columns of each kind in the order of FlowBatch, and their NumPy types on the wire."""


def flow_request(batches: FlowBatch | Sequence[FlowBatch]) -> pb.OrderFlowRequest:
    """Return one message with one or several batches."""
    several = [batches] if not isinstance(batches, Sequence) else batches
    return pb.OrderFlowRequest(batches=[_message(batch) for batch in several])


def _message(batch: FlowBatch) -> pb.FlowBatch:
    message = pb.FlowBatch(symbol=batch.symbol)
    if batch.trades is not None:
        message.trades.CopyFrom(pb.TradeColumns(**_packed(TRADES, batch.trades)))
    if batch.quotes is not None:
        message.quotes.CopyFrom(pb.QuoteColumns(**_packed(QUOTES, batch.quotes)))
    if batch.depth is not None:
        message.depth.CopyFrom(pb.DepthColumns(**_packed(DEPTH, batch.depth)))
    return message


def _packed(columns: dict[str, str], values: Sequence[Any]) -> dict[str, bytes]:
    pairs = zip(columns.items(), values, strict=True)
    return {name: np.ascontiguousarray(column, dtype).tobytes() for (name, dtype), column in pairs}
