"""The client's calls about signals, trainings, accuracy and stored forecasts. Knows only the wire.

`client.py` has these methods beside its own; `requests` is also what `signal_log.py` keeps in its file.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, TypeVar

import grpc

from candlecast.calls import ServerError
from candlecast.v1 import history_pb2 as history
from candlecast.v1 import performance_pb2 as pb
from candlecast.v1.history_pb2_grpc import HistoryStub
from candlecast.v1.performance_pb2_grpc import PerformanceStub
from candlecast.v1.types_pb2 import Forecast

R = TypeVar("R")
PAGE_SIZE = 500
"""Rows of a page that is fetched on the way through all of them."""


class PerformanceRequests:
    """Requests from what a user says; what is wrong with them the server says."""

    @staticmethod
    def log_signal(
        strategy: str,
        symbol: str,
        side: str,
        entry_price: float,
        size: float = 1.0,
        confidence: float | None = None,
        key: str | None = None,
        *,
        fees: float = 0.0,
        entry_time_ms: int = 0,
        forecast: Forecast | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> pb.LogSignalRequest:
        request = pb.LogSignalRequest(
            key=key or uuid.uuid4().hex,
            strategy=strategy,
            symbol=symbol,
            side=side,
            entry_price=entry_price,
            size=size,
            fees=fees,
            confidence=confidence,
            entry_time_ms=entry_time_ms,
            metadata=metadata,
        )
        if forecast is not None:
            request.prediction.interval_ms = forecast.interval_ms
            request.prediction.close_time_ms = forecast.close_time_ms
            request.prediction.model = forecast.model.name
            request.prediction.version = forecast.model.version
        return request

    @staticmethod
    def close_signal(
        key: str,
        exit_price: float,
        *,
        size: float | None = None,
        fees: float = 0.0,
        exit_time_ms: int = 0,
        close_key: str | None = None,
    ) -> pb.CloseSignalRequest:
        if size is not None and close_key is None:
            close_key = uuid.uuid4().hex
        return pb.CloseSignalRequest(
            key=key,
            exit_price=exit_price,
            size=size or 0.0,
            fees=fees,
            exit_time_ms=exit_time_ms,
            close_key=close_key or "",
        )

    @staticmethod
    def log_training(
        strategy: str,
        status: str,
        key: str | None = None,
        *,
        accuracy: float | None = None,
        duration_s: float | None = None,
        data_points: int | None = None,
        version: int | None = None,
        error: str = "",
        trained_at_ms: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> pb.LogTrainingRequest:
        return pb.LogTrainingRequest(
            key=key or uuid.uuid4().hex,
            strategy=strategy,
            status=status,
            accuracy=accuracy,
            duration_s=duration_s,
            data_points=data_points,
            version=version,
            error=error,
            trained_at_ms=trained_at_ms,
            metadata=metadata,
        )


class PerformanceCalls:
    """Methods of the blocking client."""

    _channel: grpc.Channel
    _timeout_s: float

    def log_signal(
        self,
        strategy: str,
        symbol: str,
        side: str,
        entry_price: float,
        size: float = 1.0,
        confidence: float | None = None,
        key: str | None = None,
        *,
        fees: float = 0.0,
        entry_time_ms: int = 0,
        forecast: Forecast | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> pb.LogSignalResponse:
        """Log that a strategy opened a position; the same key again changes nothing.

        Args:
            strategy: any name but "candlecast".
            side: long or short, in any case.
            entry_price: quote currency.
            size: units of the symbol.
            confidence: 0..1.
            key: unique among all signals; default: made up, and in the response's `signal.key`.
            fees: of the entry, quote currency.
            entry_time_ms: UTC; 0: now.
            forecast: that was followed.
        """
        request = PerformanceRequests.log_signal(
            strategy, symbol, side, entry_price, size, confidence, key,
            fees=fees, entry_time_ms=entry_time_ms, forecast=forecast, metadata=metadata,
        )  # fmt: skip
        return self.ask("LogSignal", request, pb.LogSignalResponse)

    def close_signal(
        self,
        key: str,
        exit_price: float,
        *,
        size: float | None = None,
        fees: float = 0.0,
        exit_time_ms: int = 0,
        close_key: str | None = None,
    ) -> pb.CloseSignalResponse:
        """Log that a position was closed, wholly or `size` units of it; the same again changes nothing.

        Args:
            close_key: of a partial close, unique within the signal; default: made up.
        """
        request = PerformanceRequests.close_signal(
            key, exit_price, size=size, fees=fees, exit_time_ms=exit_time_ms, close_key=close_key
        )
        return self.ask("CloseSignal", request, pb.CloseSignalResponse)

    def log_training(
        self, strategy: str, status: str, key: str | None = None, **numbers: Any
    ) -> pb.LogTrainingResponse:
        """Log that a training ended: accuracy, duration_s, data_points, version, error, trained_at_ms, metadata."""
        request = PerformanceRequests.log_training(strategy, status, key, **numbers)
        return self.ask("LogTraining", request, pb.LogTrainingResponse)

    def get_strategy(
        self,
        strategy: str,
        *,
        symbol: str = "",
        from_ms: int = 0,
        to_ms: int = 0,
        periods_per_year: float = 0.0,
    ) -> pb.StrategyPerformance:
        """Return what a strategy's signals amount to, of one symbol or of all; numbers that do not exist are absent."""
        request = pb.GetStrategyRequest(
            strategy=strategy, symbol=symbol, from_ms=from_ms, to_ms=to_ms, periods_per_year=periods_per_year
        )
        return self.ask("GetStrategy", request, pb.GetStrategyResponse).performance

    def list_strategies(self, *, periods_per_year: float = 0.0) -> pb.ListStrategiesResponse:
        """Return every strategy with what its signals amount to, and the newest training of each."""
        request = pb.ListStrategiesRequest(periods_per_year=periods_per_year)
        return self.ask("ListStrategies", request, pb.ListStrategiesResponse)

    def list_signals(self, strategy: str = "", *, symbol: str = "", open_only: bool = False) -> Iterator[pb.Signal]:
        """Yield signals, newest entry first, page by page; open_only: the positions."""
        request = pb.ListSignalsRequest(strategy=strategy, symbol=symbol, open_only=open_only, page_size=PAGE_SIZE)
        while True:
            page = self.ask("ListSignals", request, pb.ListSignalsResponse)
            yield from page.signals
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_accuracy(self, **asked: Any) -> list[pb.Accuracy]:
        """Return how right forecasts were beside their base rates; the fields of GetAccuracyRequest say which."""
        request = pb.GetAccuracyRequest(**asked)
        return list(self.ask("GetAccuracy", request, pb.GetAccuracyResponse).rows)

    def list_predictions(
        self, symbol: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> history.ListPredictionsResponse:
        """Return a page of stored forecasts with what came after them, newest close first."""
        request = history.ListPredictionsRequest(symbol=symbol, page_size=page_size, page_token=page_token)
        return self.ask("ListPredictions", request, history.ListPredictionsResponse, HistoryStub)

    def ask(self, method: str, request: Any, kind: type[R], stub: Any = PerformanceStub) -> R:
        """Call a method of a service by its name."""
        try:
            response: R = getattr(stub(self._channel), method)(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error
        return response


class AsyncPerformanceCalls:
    """The same for asyncio."""

    _channel: grpc.aio.Channel
    _timeout_s: float

    async def log_signal(
        self,
        strategy: str,
        symbol: str,
        side: str,
        entry_price: float,
        size: float = 1.0,
        confidence: float | None = None,
        key: str | None = None,
        *,
        fees: float = 0.0,
        entry_time_ms: int = 0,
        forecast: Forecast | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> pb.LogSignalResponse:
        """As Client.log_signal."""
        request = PerformanceRequests.log_signal(
            strategy, symbol, side, entry_price, size, confidence, key,
            fees=fees, entry_time_ms=entry_time_ms, forecast=forecast, metadata=metadata,
        )  # fmt: skip
        return await self.ask("LogSignal", request, pb.LogSignalResponse)

    async def close_signal(
        self,
        key: str,
        exit_price: float,
        *,
        size: float | None = None,
        fees: float = 0.0,
        exit_time_ms: int = 0,
        close_key: str | None = None,
    ) -> pb.CloseSignalResponse:
        """As Client.close_signal."""
        request = PerformanceRequests.close_signal(
            key, exit_price, size=size, fees=fees, exit_time_ms=exit_time_ms, close_key=close_key
        )
        return await self.ask("CloseSignal", request, pb.CloseSignalResponse)

    async def log_training(
        self, strategy: str, status: str, key: str | None = None, **numbers: Any
    ) -> pb.LogTrainingResponse:
        """As Client.log_training."""
        request = PerformanceRequests.log_training(strategy, status, key, **numbers)
        return await self.ask("LogTraining", request, pb.LogTrainingResponse)

    async def get_strategy(
        self,
        strategy: str,
        *,
        symbol: str = "",
        from_ms: int = 0,
        to_ms: int = 0,
        periods_per_year: float = 0.0,
    ) -> pb.StrategyPerformance:
        """As Client.get_strategy."""
        request = pb.GetStrategyRequest(
            strategy=strategy, symbol=symbol, from_ms=from_ms, to_ms=to_ms, periods_per_year=periods_per_year
        )
        return (await self.ask("GetStrategy", request, pb.GetStrategyResponse)).performance

    async def list_strategies(self, *, periods_per_year: float = 0.0) -> pb.ListStrategiesResponse:
        """As Client.list_strategies."""
        request = pb.ListStrategiesRequest(periods_per_year=periods_per_year)
        return await self.ask("ListStrategies", request, pb.ListStrategiesResponse)

    async def list_signals(
        self, strategy: str = "", *, symbol: str = "", open_only: bool = False
    ) -> AsyncIterator[pb.Signal]:
        """As Client.list_signals."""
        request = pb.ListSignalsRequest(strategy=strategy, symbol=symbol, open_only=open_only, page_size=PAGE_SIZE)
        while True:
            page = await self.ask("ListSignals", request, pb.ListSignalsResponse)
            for signal in page.signals:
                yield signal
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_accuracy(self, **asked: Any) -> list[pb.Accuracy]:
        """As Client.get_accuracy."""
        return list((await self.ask("GetAccuracy", pb.GetAccuracyRequest(**asked), pb.GetAccuracyResponse)).rows)

    async def list_predictions(
        self, symbol: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> history.ListPredictionsResponse:
        """As Client.list_predictions."""
        request = history.ListPredictionsRequest(symbol=symbol, page_size=page_size, page_token=page_token)
        return await self.ask("ListPredictions", request, history.ListPredictionsResponse, HistoryStub)

    async def ask(self, method: str, request: Any, kind: type[R], stub: Any = PerformanceStub) -> R:
        """As Client.ask."""
        try:
            response: R = await getattr(stub(self._channel), method)(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error
        return response
