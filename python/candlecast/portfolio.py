"""The filters that remember, contract section 4: rate, correlation, realised Sharpe, and the cap on open positions.

One object for serving and the backtest, fed with columns: forecasts close by close, candles between them. It knows time
only as that of the candles, so a replay is judged as the days were. Within a close the best quality comes first, and
each signal counts for those behind it. A forecast is judged once: the same close again gets the same answer. The work
is done by the Rust core (`rust_features/src/portfolio`): one signal after the other is no work for columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.filters import BIT, Reason
from candlecast.values import F32, F64, I64, Bool

_BITS: Final = tuple(
    BIT[reason]
    for reason in (Reason.RATE_LIMITED, Reason.CORRELATED_POSITION, Reason.LOW_SHARPE, Reason.POSITION_LIMIT)
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the filters that remember."""

    max_signals_per_minute: int = 10
    max_correlation: float = 0.8
    min_sharpe_ratio: float = 0.5
    max_position_score: float = 3.0
    position_bars_max: int = 16
    trade_cost: float = 0.0012  # of entering and leaving, as a fraction


@dataclass(frozen=True, slots=True)
class Candidates:
    """B forecasts as these filters need them, several closes of a series in time order."""

    series: I64  # [B] SeriesNumbers
    interval_ms: I64  # [B]
    close_time_ms: I64  # [B]
    ohlc: F64  # [B, 4] of the newest candle; NaN: asked for without one
    side: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 none
    quality: F64  # [B]
    stop_loss: F64  # [B]
    take_profit: F64  # [B]
    passes: Bool  # [B] no other filter holds it back
    forming: Bool  # [B] judged, but opens nothing

    def take(self, index: I64) -> Candidates:
        """Return the forecasts at index [K]."""
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class Others:
    """N candles without a forecast."""

    series: I64  # [N]
    close_time_ms: I64  # [N]
    ohlc: F64  # [N, 4]


class Portfolio:
    """What has to be remembered of signals, positions and returns; bounded by the number of series.

    Its `core` has what else is known: open positions, closed trades, correlations.
    """

    def __init__(self, limits: Limits) -> None:
        self.core = _rust.Portfolio(
            signals_per_minute_max=limits.max_signals_per_minute,
            correlation_max=limits.max_correlation,
            sharpe_min=limits.min_sharpe_ratio,
            score_max=limits.max_position_score,
            position_bars_max=limits.position_bars_max,
            trade_cost=limits.trade_cost,
            bits=(_BITS[0], _BITS[1], _BITS[2], _BITS[3]),
        )

    def judge(self, given: Candidates, past: F32, others: Others | None = None) -> NDArray[np.uint32]:
        """Return for each forecast [B] the bits of the reasons that hold it back, and open what passes everything.

        Args:
            past: [B, 96] last one-bar returns, oldest first; one bar after the other only the newest is read.
            others: candles of the same time that have no forecast; they move positions in the order of the closes.
        """
        return self.core.judge(
            given.series, given.interval_ms, given.close_time_ms, given.ohlc, given.side, given.quality,
            given.stop_loss, given.take_profit, given.passes, given.forming, past,
            (others.series, others.close_time_ms, others.ohlc) if others else None,
        )  # fmt: skip

    def follow(self, others: Others) -> None:
        """Move positions by candles that have no forecast."""
        self.core.follow(others.series, others.close_time_ms, others.ohlc)
