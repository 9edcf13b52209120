"""From what a model said to forecasts: meaning, verdict, and all else that a forecast tells.

Knows neither who asks nor how a model is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from candlecast import ensemble
from candlecast.features import Moved
from candlecast.gate import Decisions
from candlecast.interpret import interpret
from candlecast.routing import Said
from candlecast.signals import Signal, Signals
from candlecast.values import I64, Candles, Forecasts, Interpretation, StageTimes


class Reader:
    """Reads forecasts out of a model's outputs.

    Args:
        signals: judges them.
        max_model_age_ms: those of a model that was trained longer ago are degraded.
    """

    def __init__(self, signals: Signals, max_model_age_ms: float) -> None:
        self._signals, self._max_model_age_ms = signals, max_model_age_ms

    def read(
        self, source: Candles, moved: Moved, said: Said, decode_us: int, decisions: Decisions
    ) -> tuple[I64, Forecasts]:
        """Return the forecasts [B] of windows and the numbers of their series; what passes opens a position.

        Args:
            source: the candles [B] of the windows in `moved`, of which the gate decided so.
        """
        started = time.perf_counter()
        pushed, windows, of_window = moved.pushed, moved.windows, moved.of_windows
        state, gap_filled = pushed.state[of_window], pushed.gap_filled[of_window]
        signal, of_model = self._judged(
            said,
            decisions,
            lambda meaning: self._signals.judge(meaning, source, windows, state, gap_filled, decisions.verdict),
        )
        forecasts = Forecasts(
            symbol=source.symbol,
            interval_ms=source.interval_ms,
            close_time_ms=source.open_time_ms + source.interval_ms,
            close=source.values[:, 3],
            volume=source.values[:, 4],
            forming=source.forming,
            state=state,
            gap_filled=gap_filled,
            features_hash=pushed.features_hash[of_window],
            rows=np.ascontiguousarray(windows[:, -1, :]),
            zero_variance=pushed.still[of_window].astype(np.int32),
            gate_verdict=decisions.verdict,
            gate_probability=decisions.probability,
            challenger=said.challenger.model if said.challenger else None,
            by_challenger=said.by_challenger,
            times=StageTimes(
                decode_us=decode_us,
                features_us=moved.features_us,
                queue_us=said.queue_us,
                model_us=said.run_us,
                interpret_us=int((time.perf_counter() - started) * 1e6),
            ),
            **of_model,
        )
        return signal.series, forecasts

    def read_shadow(self, heard: Forecasts, said: Said, decisions: Decisions) -> Forecasts:
        """Return what a shadow says where these forecasts [B] were answered; it opens no position."""
        started = time.perf_counter()
        _, of_model = self._judged(
            said,
            decisions,
            lambda meaning: self._signals.alone(meaning, heard.rows, heard.state, heard.gap_filled, decisions.verdict),
        )
        return replace(
            heard,
            challenger=None,
            by_challenger=None,
            shadow=True,
            times=replace(
                heard.times,
                queue_us=said.queue_us,
                model_us=said.run_us,
                interpret_us=int((time.perf_counter() - started) * 1e6),
            ),
            **of_model,
        )

    def _judged(
        self, said: Said, decisions: Decisions, judge: Callable[[Interpretation], Signal]
    ) -> tuple[Signal, dict[str, Any]]:
        """Return the signal, and what a forecast has of its model and of that."""
        outputs, model_agreement, degraded = ensemble.parts(said.outputs)
        meaning = interpret(outputs, said.temperatures)
        signal = judge(meaning)
        verdicts = signal.verdicts
        return signal, {
            "model": said.champion.model,
            "outputs": outputs,
            "model_agreement": model_agreement,
            "degraded": degraded | decisions.degraded | said.is_older_than(self._max_model_age_ms),
            "meaning": meaning,
            "direction": verdicts.direction,
            "strength": verdicts.strength,
            "reasons": verdicts.reasons,
            "rule_score": signal.rule_score,
            "hybrid_score": signal.hybrid_score,
            "size_multiplier": signal.size_multiplier,
        }
