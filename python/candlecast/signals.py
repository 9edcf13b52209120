"""From the meaning of the outputs to what may be acted on: filters, positions, rule score and size, of one batch.

Serving and the backtest both come here. Knows neither model nor storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast import filters, rules
from candlecast.filters import Thresholds, Verdicts
from candlecast.portfolio import Candidates, Others, Portfolio
from candlecast.rules import Rules
from candlecast.series import SeriesNumbers
from candlecast.values import F32, F64, I64, Candles, Interpretation, Symbols

RETURN: Final = "logret_1_pct"
"""The feature whose last 96 values are correlated: the one-bar log return, in percent."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What became of B forecasts."""

    series: I64  # [B] Signals.series
    verdicts: Verdicts
    rule_score: F64  # [B] -1..1
    hybrid_score: F64  # [B] -1..1; NaN: the outputs are not finite
    size_multiplier: F64  # [B] 1..1.5


class Signals:
    """Decides for each forecast whether it may become a signal.

    Args:
        feature_names: [F] of the windows.
        states: names of the symbols' states.
        portfolio: the filters that remember; None: they are left out.
    """

    def __init__(
        self,
        feature_names: Sequence[str],
        states: tuple[str, ...],
        thresholds: Thresholds,
        portfolio: Portfolio | None = None,
        *,
        ml_weight: float = rules.ML_WEIGHT,
        size_when_strong: float = filters.SIZE_WHEN_STRONG,
    ) -> None:
        self.portfolio = portfolio
        self.series = SeriesNumbers()
        self._states, self._thresholds = states, thresholds
        self._rules = Rules(feature_names)
        self._return = feature_names.index(RETURN)
        self._ml_weight, self._size_when_strong = ml_weight, size_when_strong

    def judge(
        self,
        meaning: Interpretation,
        source: Candles,
        windows: F32,
        state: NDArray[np.uint8],
        gap_filled: NDArray[np.bool_],
        gate: NDArray[np.uint8] | None = None,
        others: Candles | None = None,
    ) -> Signal:
        """Judge forecasts [B] of the candles `source` [B] with windows [B, 96, F]; what passes opens a position.

        `others` are candles of the same time that gave no forecast: they move positions.
        """
        verdicts = filters.judge(meaning, state, gap_filled, self._thresholds, states=self._states, gate=gate)
        rows, series = windows[:, -1, :], self.series.of(source.symbol, source.interval_ms)
        if self.portfolio is not None:
            given = Candidates(
                series=series,
                interval_ms=source.interval_ms,
                close_time_ms=source.open_time_ms + source.interval_ms,
                ohlc=source.values[:, :4],
                side=meaning.side,
                quality=meaning.quality,
                stop_loss=meaning.stop_loss,
                take_profit=meaning.take_profit,
                passes=verdicts.reasons == 0,
                forming=source.forming,
            )
            past = windows[:, :, self._return]
            bits = self.portfolio.judge(given, past, self._others(others) if others else None)
            verdicts = filters.held_back(verdicts, bits)
        return self._scored(series, verdicts, meaning, rows)

    def alone(
        self,
        meaning: Interpretation,
        rows: F32,
        state: NDArray[np.uint8],
        gap_filled: NDArray[np.bool_],
        gate: NDArray[np.uint8] | None = None,
    ) -> Signal:
        """Judge forecasts [B] with newest rows [B, F] as if there were no others: nothing is remembered of them."""
        verdicts = filters.judge(meaning, state, gap_filled, self._thresholds, states=self._states, gate=gate)
        return self._scored(np.zeros(0, dtype=np.int64), verdicts, meaning, rows)

    def _scored(self, series: I64, verdicts: Verdicts, meaning: Interpretation, rows: F32) -> Signal:
        score = self._rules.score(rows)
        return Signal(
            series,
            verdicts,
            score,
            rules.hybrid(meaning.edge, score, self._ml_weight),
            filters.size_multiplier(verdicts.strength, self._size_when_strong),
        )

    def again(self, reasons: NDArray[np.uint32], state: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Return the reasons [B] of forecasts made earlier, with what the symbols' states say now."""
        return filters.again(reasons, state, states=self._states)

    def follow(self, candles: Candles) -> None:
        """Let candles [N] that gave no forecast move the open positions."""
        if self.portfolio is not None and not self.portfolio.core.is_flat and len(candles):
            self.portfolio.follow(self._others(candles))

    def take_returns(self, symbol: Symbols, interval_ms: I64, open_time_ms: I64, windows: F32) -> None:
        """Learn the returns of series [K], whose newest candles and windows [K, 96, F] these are."""
        if self.portfolio is not None and len(windows):
            series, past = self.series.of(symbol, interval_ms), windows[:, :, self._return]
            self.portfolio.core.take_returns(series, open_time_ms // interval_ms + 1, interval_ms, past)

    def _others(self, candles: Candles) -> Others:
        series = self.series.of(candles.symbol, candles.interval_ms)
        return Others(series, candles.open_time_ms + candles.interval_ms, candles.values[:, :4])
