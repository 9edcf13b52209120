"""Forecasts over gRPC: convert, call, convert. Knows no model and no table."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np

from candlecast.errors import InvalidRequest, Stopped
from candlecast.features import ACCEPTED, DUPLICATE, REFUSED, Features
from candlecast.forecaster import Forecaster
from candlecast.packed import CANDLE, RESULT_LAYOUT, unpack_candles
from candlecast.server import convert
from candlecast.server.door import Call
from candlecast.server.status import abort
from candlecast.server.subscriptions import Subscriptions
from candlecast.server.wire import parsed, parsed_as
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc, types_pb2
from candlecast.values import DEFAULT_INTERVAL_MS, Candles
from candlecast.work import Answer, Part, Waiter, Work

_REFUSED_LISTED_MAX = 1_000
_STREAM = 1

Context = grpc.aio.ServicerContext[Any, Any]
Carrier = pb.PredictRequest | pb.StreamRequest
"""What brings candles and says what its answer waits for."""
Carried = pb.PredictResponse | pb.StreamResponse


class ForecastsService(forecasts_pb2_grpc.ForecastsServicer):
    """The methods of Forecasts: Predict and Stream by `arrived`, from a Door; the others for grpc's server.

    Args:
        unary_timeout_ms: deadline of a call that brings none.
        answer_timeout_ms: longest wait for one message of a stream.
        durable: what a reply waits for when its request does not say.
        subscriptions: entered; None: there are none.
    """

    METHODS = (("/candlecast.v1.Forecasts/Predict", False), ("/candlecast.v1.Forecasts/Stream", True))
    """The second is _STREAM."""

    def __init__(
        self,
        forecaster: Forecaster,
        features: Features,
        *,
        candles_per_message_max: int,
        unary_timeout_ms: int,
        answer_timeout_ms: int,
        durable: bool = True,
        subscriptions: Subscriptions | None = None,
    ) -> None:
        self._subscriptions = subscriptions
        self._forecaster = forecaster
        self._is_durable = durable
        self._features = features
        self._candles_per_message_max = candles_per_message_max
        self._unary_timeout_ms = unary_timeout_ms
        self._answer_timeout_ms = answer_timeout_ms
        self._stopping = False

    def stop(self) -> None:
        """Read no more history, and end what subscribers hear with STOPPING."""
        self._stopping = True
        if self._subscriptions is not None:
            self._subscriptions.stop()

    def arrived(self, calls: Iterable[Call]) -> None:
        """Accept the candles of messages, in their order; each is answered when its forecasts are there."""
        for call in calls:
            try:
                self._arrived(call)
            except Exception as error:
                call.fail(error)

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[Any]:
        try:
            if self._subscriptions is None:
                raise InvalidRequest("subscribe", "this server has no subscriptions")
            async with aclosing(self._subscriptions.subscribe(parsed(request))) as messages:
                async for message in messages:  # encoded already
                    yield message
        except Exception as error:
            await abort(context, error)

    async def Backfill(self, requests: AsyncIterator[pb.BackfillRequest], context: Context) -> pb.BackfillResponse:
        try:
            return await self._backfill(requests)
        except Exception as error:
            await abort(context, error)

    async def GetSymbol(self, request: pb.GetSymbolRequest, context: Context) -> pb.GetSymbolResponse:
        try:
            return self._get_symbol(parsed(request))
        except Exception as error:
            await abort(context, error)

    def _arrived(self, call: Call) -> None:
        if call.method == _STREAM:
            request = parsed_as(pb.StreamRequest, call.message)
            self._answer(call, request, self._accept(request), pb.StreamResponse(), self._answer_timeout_ms)
            return
        asked = parsed_as(pb.PredictRequest, call.message)
        if not asked.candles and not asked.packed and not asked.symbols:
            raise InvalidRequest("candles", "send candles, or symbols whose newest candle is to be forecast")
        if asked.packed and asked.symbols:
            raise InvalidRequest("symbols", "packed candles come alone: ask for symbols in a request of their own")
        if len(asked.symbols) > self._candles_per_message_max:
            raise InvalidRequest("symbols", f"at most {self._candles_per_message_max} in one message")
        timeout_ms = self._unary_timeout_ms if call.timeout_ms is None else call.timeout_ms
        rows = len(asked.candles) + len(asked.symbols) + len(asked.packed) // CANDLE.itemsize
        self._forecaster.require_time(rows, timeout_ms)
        if asked.candles or asked.packed:
            self._answer(call, asked, self._accept(asked), pb.PredictResponse(), timeout_ms)
        else:
            self._answer_symbols(call, asked, pb.PredictResponse(), timeout_ms)

    def _answer(
        self,
        call: Call,
        request: Carrier,
        work: Work,
        response: Carried,
        timeout_ms: float,
    ) -> None:
        """Answer a call once its work is done; a stream waits for a model that is away, a single call does not."""
        started = time.perf_counter()

        def fill(answer: Answer | Part) -> None:
            self._fill(response, request, work, answer)
            if isinstance(request, pb.PredictRequest) and isinstance(response, pb.PredictResponse) and request.symbols:
                left_ms = timeout_ms - (time.perf_counter() - started) * 1e3
                self._answer_symbols(call, request, response, max(left_ms, 1))
            else:
                call.answer(response.SerializeToString())

        call.left = Waiter(work, _told(call, fill), timeout_ms, patient=call.method == _STREAM).leave

    def _answer_symbols(
        self, call: Call, request: pb.PredictRequest, response: pb.PredictResponse, timeout_ms: float
    ) -> None:
        """Answer for the newest candles of symbols, behind what is in the response."""
        interval_ms = request.interval_ms or DEFAULT_INTERVAL_MS
        work = self._forecaster.newest(request.symbols, interval_ms, durable=self._durable(request.wait))

        def fill(answer: Answer | Part) -> None:
            results = convert.results_of_asked(_whole(answer), self._features.need)
            for name, place in zip(request.symbols, work.places, strict=True):
                result = response.results.add()
                result.CopyFrom(results[place])
                if result.symbol != name:  # one that cannot be
                    result.symbol = name
            call.answer(response.SerializeToString())

        call.left = Waiter(work, _told(call, fill), timeout_ms, patient=False).leave

    def _fill(self, response: Carried, request: Carrier, work: Work, answer: Answer | Part) -> None:
        """Put results into a response as the candles came: as messages, or packed."""
        if request.packed:
            response.packed.CopyFrom(convert.packed_results(_whole(answer), self._features.need))
        else:
            assert work.candles is not None, "no ask"
            names = [candle.symbol for candle in request.candles]
            response.results.extend(convert.results(work.candles, _whole(answer), self._features.need, names=names))

    async def _backfill(self, requests: AsyncIterator[pb.BackfillRequest]) -> pb.BackfillResponse:
        response = pb.BackfillResponse()
        touched: set[tuple[str, int]] = set()
        async for request in requests:
            if self._stopping:
                raise Stopped("the server is shutting down")
            candles = self._candles(parsed(request))
            answer = await self._forecaster.accept(candles, forecast=False).answer(
                self._answer_timeout_ms, patient=True
            )
            verdict = answer.moved.pushed.verdict
            response.accepted += int((verdict == ACCEPTED).sum())
            others = np.flatnonzero((verdict != ACCEPTED) & (verdict != DUPLICATE)).tolist()
            names = [candle.symbol for candle in request.candles] if others else ()
            for result in convert.results(candles, answer, self._features.need, names=names, only=others):
                if result.verdict == types_pb2.VERDICT_DUPLICATE:
                    response.duplicates += 1
                    continue
                response.refused_count += 1
                if len(response.refused) < _REFUSED_LISTED_MAX:
                    response.refused.append(result)
            response.duplicates += int((verdict == DUPLICATE).sum())
            taken = candles.take(verdict != REFUSED)
            touched |= set(zip(taken.names, taken.interval_ms.tolist(), strict=True))
        for symbol, interval_ms in sorted(touched):
            status = convert.status(self._features.status(symbol, interval_ms))
            response.symbols[f"{symbol}@{interval_ms}"].CopyFrom(status)
        return response

    def _get_symbol(self, request: pb.GetSymbolRequest) -> pb.GetSymbolResponse:
        interval_ms = request.interval_ms or DEFAULT_INTERVAL_MS
        try:
            status = self._features.status(request.symbol, interval_ms)
        except ValueError as error:
            raise InvalidRequest("symbol", str(error)) from error
        return pb.GetSymbolResponse(
            symbol=request.symbol,
            interval_ms=interval_ms,
            status=convert.status(status),
            newest_open_time_ms=status.newest_open_time_ms,
            gap_filled=status.gap_filled,
            conflicts=status.conflicts,
        )

    def _durable(self, wait: types_pb2.Wait) -> bool:
        return self._is_durable if wait == types_pb2.WAIT_UNSPECIFIED else wait == types_pb2.WAIT_DURABLE

    def _accept(self, request: Carrier) -> Work:
        if request.packed and request.packed_layout != RESULT_LAYOUT:
            raise InvalidRequest(
                "packed_layout",
                f"packed results have layout {RESULT_LAYOUT}, this caller reads {request.packed_layout or 1}: use the"
                " client of this version, or send candles as messages",
            )
        started = time.perf_counter()
        candles = self._candles(request)
        decode_us = int((time.perf_counter() - started) * 1e6)
        return self._forecaster.accept(candles, decode_us=decode_us, durable=self._durable(request.wait))

    def _candles(self, request: Carrier | pb.BackfillRequest) -> Candles:
        if request.packed and request.candles:
            raise InvalidRequest("packed", "send candles as messages or packed, not both")
        try:
            candles = unpack_candles(request.packed, DEFAULT_INTERVAL_MS) if request.packed else None
        except ValueError as error:
            raise InvalidRequest("packed", str(error)) from error
        count = len(request.candles) if candles is None else len(candles)
        if count > self._candles_per_message_max:
            raise InvalidRequest("candles", f"{count} candles; at most {self._candles_per_message_max} in one message")
        return convert.candles(request.candles) if candles is None else candles


def _told(call: Call, fill: Callable[[Answer | Part], object]) -> Callable[[Answer | Part | BaseException], None]:
    """Return what a Waiter tells: `fill` answers the call, or begins what is missing; an error ends it."""

    def told(outcome: Answer | Part | BaseException) -> None:
        if isinstance(outcome, BaseException):
            call.fail(outcome if isinstance(outcome, Exception) else Stopped("the server is shutting down"))
            return
        try:
            fill(outcome)
        except Exception as error:
            call.fail(error)
            error.with_traceback(None)  # an answer's error may outlive the call, and would hold all of this

    return told


def _whole(answer: Answer | Part) -> Answer | Part:
    """Raise what kept forecasts from an answer."""
    if answer.error is not None:
        raise answer.error
    return answer
