"""Order flow over gRPC: convert, call, convert. Knows no model and no table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from candlecast.errors import InvalidRequest, Overloaded, Stopped
from candlecast.features import now_ms
from candlecast.flow_messages import DEPTH, QUOTES, TRADES
from candlecast.gate import APPROVE, RECORD, REFUSE, VERDICTS
from candlecast.gatekeeper import Gatekeeper
from candlecast.order_flow import UNDEFINED, OrderFlow, Pushed
from candlecast.server.status import abort
from candlecast.server.wire import parsed
from candlecast.v1 import order_flow_pb2 as pb
from candlecast.v1 import order_flow_pb2_grpc
from candlecast.values import F64, SYMBOL, FlowBatch, symbols

Context = grpc.aio.ServicerContext[Any, Any]
_VERDICTS: Final[tuple[Any, ...]] = tuple(pb.GateVerdict.Value(f"GATE_VERDICT_{name}") for name in VERDICTS)
_NO_SYMBOL: Final = "is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -"
_STREAM_MESSAGES_MAX: Final = 8
"""Read ahead in one stream; a faster client is slowed down by flow control."""


class OrderFlowService(order_flow_pb2_grpc.OrderFlowServicer):
    """The two methods of OrderFlow.

    Args:
        rows_per_message_max: trades, quotes and levels in one message.
        symbols_per_message_max: symbols in one question to the gate.
    """

    def __init__(
        self, flow: OrderFlow, gate: Gatekeeper, *, rows_per_message_max: int, symbols_per_message_max: int
    ) -> None:
        self._flow = flow
        self._gate = gate
        self._rows_per_message_max = rows_per_message_max
        self._symbols_per_message_max = symbols_per_message_max
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Read no more from any stream: what was read is answered, then the stream ends with STOPPING."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def Stream(
        self, requests: AsyncIterator[pb.OrderFlowRequest], context: Context
    ) -> AsyncIterator[pb.OrderFlowResponse]:
        try:
            async for request in self._read(requests):
                yield self._push(request)
        except Exception as error:
            await abort(context, error)

    async def Gate(self, request: pb.GateRequest, context: Context) -> pb.GateResponse:
        try:
            return await self._decide(parsed(request))
        except Exception as error:
            await abort(context, error)

    async def _read(self, requests: AsyncIterator[pb.OrderFlowRequest]) -> AsyncIterator[pb.OrderFlowRequest]:
        """Yield the messages of a stream until its end, or until we stop.

        Raises:
            Stopped.
        """
        if self._stopping:
            raise Stopped("the server is shutting down")
        read: asyncio.Queue[pb.OrderFlowRequest | BaseException | None] = asyncio.Queue(_STREAM_MESSAGES_MAX)

        async def fill() -> None:
            end: BaseException | None = None
            try:
                async for request in requests:
                    await read.put(parsed(request))
            except asyncio.CancelledError:
                end = Stopped("the server is shutting down")
            except BaseException as error:  # whatever it is, who answers must hear of it
                end = error
            await read.put(end)

        reader = asyncio.create_task(fill())
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            while (request := await read.get()) is not None:
                if isinstance(request, BaseException):
                    raise request
                yield request
        finally:
            reader.cancel()

    def _push(self, request: pb.OrderFlowRequest) -> pb.OrderFlowResponse:
        batches = flow_batches(request, self._rows_per_message_max)
        response, newest = pb.OrderFlowResponse(), dict[str, Pushed]()
        gaps = dict[str, int]()
        for batch in batches:
            try:
                pushed = self._flow.push(batch)
            except OverflowError as error:
                raise Overloaded(f"{error}; the setting is flow_symbols_max") from error
            response.acks.append(_ack(batch.symbol, pushed))
            newest[batch.symbol] = pushed
            if batch.depth is not None:
                gaps.pop(batch.symbol, None)
                if pushed.needs_snapshot:
                    gaps[batch.symbol] = pushed.newest_ms
        for symbol, pushed in newest.items():
            response.states.append(_state(symbol, pushed.newest_ms, pushed.row, pushed.undefined))
        response.gaps.extend(pb.FlowGap(symbol=symbol, ts_ms=ts_ms) for symbol, ts_ms in gaps.items())
        return response

    async def _decide(self, request: pb.GateRequest) -> pb.GateResponse:
        if not 0 < len(request.symbols) <= self._symbols_per_message_max:
            raise InvalidRequest("symbols", f"send 1 to {self._symbols_per_message_max}")
        for i, name in enumerate(request.symbols):
            if not SYMBOL.fullmatch(name):
                raise InvalidRequest(f"symbols[{i}]", _NO_SYMBOL)
        if request.ts_ms < 0:
            raise InvalidRequest("ts_ms", "is before 1970")
        states = self._flow.at(symbols(request.symbols), request.ts_ms or now_ms())
        said = await self._gate.judge(states)
        response = pb.GateResponse(threshold=self._gate.threshold)
        if (model := self._gate.model) is not None:
            response.model.name, response.model.version = model.name, model.version
            response.model.bundle_sha256 = model.bundle_sha256
        approve = self._gate.passes(said.verdict).tolist()
        for i, (verdict, probability, degraded) in enumerate(
            zip(said.verdict.tolist(), said.probability.tolist(), said.degraded.tolist(), strict=True)
        ):
            decision = pb.GateDecision(
                symbol=request.symbols[i],
                approve=approve[i],
                verdict=_VERDICTS[verdict],
                state=_state(request.symbols[i], int(states.ts_ms[i]), states.rows[i], states.undefined[i]),
                reasons=_reasons(verdict, states.undefined[i].tolist(), degraded, has_gate=model is not None),
                degraded=degraded,
            )
            if probability == probability:
                decision.probability = probability
            response.decisions.append(decision)
        return response


def _reasons(verdict: int, undefined: list[int], degraded: bool, *, has_gate: bool) -> list[str]:
    """Return why a verdict is none to approve."""
    if verdict == APPROVE:
        return []
    if not has_gate:
        return ["NO_GATE"]
    if verdict == REFUSE:
        return ["HEURISTIC" if degraded else "LOW_PROBABILITY"]
    return [UNDEFINED[code] for code in undefined if code]


def flow_batches(request: pb.OrderFlowRequest, rows_max: int) -> list[FlowBatch]:
    """Return the batches of a message, checked as a whole: nothing of a malformed one moves.

    Raises:
        InvalidRequest: says which field.
    """
    batches, rows = list[FlowBatch](), 0
    for i, message in enumerate(request.batches):
        where = f"batches[{i}]"
        if not SYMBOL.fullmatch(message.symbol):
            raise InvalidRequest(f"{where}.symbol", _NO_SYMBOL)
        trades = _columns(f"{where}.trades", message.trades, TRADES) if message.HasField("trades") else None
        quotes = _columns(f"{where}.quotes", message.quotes, QUOTES) if message.HasField("quotes") else None
        depth = _columns(f"{where}.depth", message.depth, DEPTH) if message.HasField("depth") else None
        if depth is not None:
            depth = _levels(f"{where}.depth", depth)
        rows += sum(len(kind[0]) for kind in (trades, quotes, depth) if kind is not None)
        batches.append(FlowBatch(message.symbol, trades, quotes, depth))
    if rows > rows_max:
        raise InvalidRequest("batches", f"{rows} rows; at most {rows_max} in one message")
    return batches


def _columns(where: str, message: Any, columns: dict[str, str]) -> Any:
    """Return the columns of a message, each [N] and read-only.

    Raises:
        InvalidRequest: one is no whole number of values, or has another length than the first; or a time is none.
    """
    found = list[NDArray[Any]]()
    for name, dtype in columns.items():
        data = getattr(message, name)
        try:
            column = np.frombuffer(data, dtype)
        except ValueError as error:
            raise InvalidRequest(f"{where}.{name}", f"{len(data)} bytes are no whole number of {dtype}") from error
        if found and len(column) != len(found[0]):
            raise InvalidRequest(f"{where}.{name}", f"has {len(column)} values, ts has {len(found[0])}")
        found.append(column)
    if len(found[0]) and found[0][0] <= 0:  # what is before the first is late
        raise InvalidRequest(f"{where}.ts", "is not after 1970: it is in ms since then")
    return tuple(found)


def _levels(where: str, depth: Any) -> Any:
    *ids, side, price, qty, is_snapshot = depth
    if not ((price > 0) & np.isfinite(price)).all():
        raise InvalidRequest(f"{where}.price", "has a value that is no price")
    if not ((qty >= 0) & np.isfinite(qty)).all():
        raise InvalidRequest(f"{where}.qty", "has a value that is no size")
    if not (np.abs(side) == 1).all():
        raise InvalidRequest(f"{where}.side", "has a value that is neither 1 (bid) nor -1 (ask)")
    if (is_snapshot > 1).any():
        raise InvalidRequest(f"{where}.is_snapshot", "has a value that is neither 0 nor 1")
    return (*ids, side, price, qty, is_snapshot.view(np.bool_))


def _ack(symbol: str, pushed: Pushed) -> pb.FlowAck:
    ack = pb.FlowAck(symbol=symbol)
    for counts, (accepted, duplicate, late, refused) in ((ack.trades, pushed.trades), (ack.quotes, pushed.quotes)):
        counts.accepted = accepted
        if duplicate or late or refused:
            counts.duplicate, counts.late, counts.refused = duplicate, late, refused
    if any(pushed.depth):
        ack.depth.applied, ack.depth.known, ack.depth.early, ack.depth.gaps = pushed.depth
    return ack


def _state(symbol: str, ts_ms: int, row: F64, undefined: NDArray[np.uint8]) -> pb.FlowState:
    words = [UNDEFINED[code] for code in undefined.tolist() if code]
    state = pb.FlowState(symbol=symbol, ts_ms=ts_ms, undefined=words)
    for name, value in zip(RECORD, row.tolist(), strict=True):
        if value == value:
            setattr(state, name, value)
    return state
