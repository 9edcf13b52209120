"""From forecasts to positions on record, as a strategy decides. Knows the messages; who listens calls it.

Positions are on paper: entered and left at the close that the server tells, with fees and slippage. What is open is
read from the server at the start, so a restart goes on where it was; what cannot be sent waits in the SignalLog's file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from candlecast.client import Client, SentimentScore, direction
from candlecast.signal_log import SignalLog
from candlecast.strategies.columns import Decide, Held, Seen
from candlecast.v1.types_pb2 import Forecast

Series = tuple[str, int]
"""Symbol and interval."""


@dataclass(slots=True)
class Position:
    """What is open in a symbol."""

    key: str
    side: float  # 1, -1
    price: float
    size: float  # units of the symbol
    entry_time_ms: int
    stop_loss: float
    take_profit: float


@dataclass(slots=True)
class Trader:
    """Acts on forecasts, one after the other, and keeps what is open.

    Args:
        stake: quote currency of a position of size 1.
        fees: of the value of each fill; slippage: of the price, against us.
    """

    name: str
    decide: Decide
    log: SignalLog
    stake: float = 1_000.0
    fees: float = 0.0004
    slippage: float = 0.0002
    positions: dict[Series, Position] = field(default_factory=dict)
    newest_ms: dict[Series, int] = field(default_factory=dict)

    def restore(self, client: Client) -> None:
        """Read what is open.

        Raises:
            ServerError: the server did not say.
        """
        for one in client.list_signals(self.name, open_only=True):
            told, side = one.metadata, 1.0 if one.side == 1 else -1.0
            series = one.symbol, int(told["interval_ms"])
            limits = float(told["stop_loss"]), float(told["take_profit"])
            self.positions[series] = Position(one.key, side, one.entry_price, one.size, one.entry_time_ms, *limits)

    def act(self, forecast: Forecast, sentiment: SentimentScore | None = None) -> float:
        """Do what the strategy wants at the close of a forecast; return the side held then."""
        series, now_ms = (forecast.symbol, forecast.interval_ms), forecast.close_time_ms
        position = self.positions.get(series)
        since_ms = position.entry_time_ms if position else 0
        if forecast.close <= 0 or now_ms <= max(self.newest_ms.get(series, 0), since_ms):
            return position.side if position else 0.0  # no price, or what was acted on before
        self.newest_ms[series] = now_ms
        wanted = float(self.decide(seen(forecast, sentiment), held(position, forecast))[0])
        side = float(np.sign(wanted))
        if position and side != position.side:
            price = forecast.close * (1 - position.side * self.slippage)
            fees = self.fees * price * position.size
            if self.log.close_signal(position.key, price, fees=fees, exit_time_ms=now_ms):
                del self.positions[series]
        if side and series not in self.positions:
            self._open(forecast, side, abs(wanted))
        return side

    def _open(self, forecast: Forecast, side: float, times: float) -> None:
        price = forecast.close * (1 + side * self.slippage)
        size, now_ms = self.stake * times / price, forecast.close_time_ms
        key = f"{self.name}:{forecast.symbol}:{forecast.interval_ms}:{now_ms}"
        told = {"interval_ms": str(forecast.interval_ms), "stop_loss": repr(forecast.stop_loss)}
        kept = self.log.log_signal(
            self.name, forecast.symbol, "long" if side > 0 else "short", price, size, forecast.confidence, key,
            fees=self.fees * price * size, entry_time_ms=now_ms, forecast=forecast,
            metadata=told | {"take_profit": repr(forecast.take_profit)},
        )  # fmt: skip
        if kept:  # else there is no room to remember it: it is not entered
            limits = forecast.stop_loss, forecast.take_profit
            series = forecast.symbol, forecast.interval_ms
            self.positions[series] = Position(key, side, price, size, now_ms, *limits)


def seen(forecast: Forecast, sentiment: SentimentScore | None) -> Seen:
    """Return the columns [1] of a forecast."""
    side = {"LONG": 1.0, "SHORT": -1.0}.get(direction(forecast), 0.0)
    age_ms = float(forecast.close_time_ms - sentiment.ts_ms) if sentiment else np.nan
    if sentiment and age_ms < 0:  # whoever told it: not before its publication
        sentiment, age_ms = None, np.nan
    numbers = {
        "side": side,
        "size": forecast.size_multiplier,
        "confidence": forecast.confidence,
        "edge": forecast.edge,
        "agreement": forecast.agreement,
        "expected": forecast.horizons[2].expected_return,
        "stop_loss": forecast.stop_loss,
        "take_profit": forecast.take_profit,
        "sentiment": sentiment.score if sentiment else np.nan,
        "sentiment_age_ms": age_ms,
    }
    columns = {name: np.array([number]) for name, number in numbers.items()}
    return Seen(**columns, degraded=np.array([forecast.degraded]))


def held(position: Position | None, forecast: Forecast) -> Held:
    """Return the columns [1] of a position at a forecast's close."""
    if position is None:
        return Held(np.zeros(1), np.zeros(1), np.zeros(1), np.full(1, np.nan), np.full(1, np.nan))
    bars = (forecast.close_time_ms - position.entry_time_ms) / forecast.interval_ms
    gain = position.side * (forecast.close / position.price - 1)
    numbers = position.side, bars, gain, position.stop_loss, position.take_profit
    return Held(*(np.array([number]) for number in numbers))
