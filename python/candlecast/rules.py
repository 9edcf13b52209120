"""The rule score: a transparent vote of six indicators, and the hybrid of it and the model's edge. Pure, vectorised.

Each votes 1 LONG, -1 SHORT or 0, from the newest feature row as the model saw it; the score is the mean of the votes:

rsi         RSI(14) below 30: 1, above 70: -1
macd        sign of the histogram of MACD(12, 26, 9)
bollinger   close below the lower band (20, 2): 1, above the upper one: -1
stochastic  slow %K(14, 3) below 20: 1, above 80: -1
adx_di      sign of +DI(14) - -DI(14) while ADX(14) is above 25
ma_cross    sign of EMA(8) - EMA(21)

A column that is not finite does not vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.values import F32, F64

COLUMNS: Final = {
    "rsi": "rsi_14",  # (RSI - 50) / 25
    "macd": "macd_hist_12_26_9",
    "bollinger": "bb_pctb_20",  # -1 at the lower band, 1 at the upper one
    "stochastic": "stoch_k_14_3",  # (%K - 50) / 50
    "adx": "adx_14",  # (ADX - 25) / 15
    "di": "di_diff_14",
    "ma_cross": "ema_cross_age_8_21",  # bars since the cross, with its sign
}
"""Feature of each indicator."""
VOTES: Final = ("rsi", "macd", "bollinger", "stochastic", "adx_di", "ma_cross")
RSI_EDGE: Final = 0.8
STOCHASTIC_EDGE: Final = 0.6
ML_WEIGHT: Final = 0.7
_EDGES: Final = np.array([RSI_EDGE, 0, 1, STOCHASTIC_EDGE, 0, 0], dtype=np.float32)
_AGAINST: Final = np.array([1, -1, 1, 1, -1, -1], dtype=np.int8)
"""Who votes against what is beyond an edge, and who for it."""
_DI: Final = VOTES.index("adx_di")


class Rules:
    """Reads votes from feature rows whose columns are called `feature_names`.

    Raises:
        ValueError: a column that votes is missing.
    """

    def __init__(self, feature_names: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(feature_names)}
        if missing := [name for name in COLUMNS.values() if name not in position]:
            raise ValueError(f"the feature set lacks {', '.join(missing)}, which the rule score reads")
        self._adx = position[COLUMNS["adx"]]
        self._positions = np.array([position[name] for who, name in COLUMNS.items() if who != "adx"])

    def votes(self, rows: F32) -> NDArray[np.int8]:
        """Return who voted what [B, 6], in the order of VOTES, of feature rows [B, F]."""
        read = rows[:, self._positions]
        with np.errstate(invalid="ignore"):  # NaN is beyond no edge
            votes: NDArray[np.int8] = (read < -_EDGES).astype(np.int8) - (read > _EDGES)
            votes[:, _DI] *= rows[:, self._adx] > 0
        return votes * _AGAINST * np.isfinite(read)

    def score(self, rows: F32) -> F64:
        """Return the mean vote [B], -1 to 1, of feature rows [B, F]."""
        score: F64 = self.votes(rows).sum(axis=1) / len(VOTES)
        return score


def hybrid(edge: F64, rule_score: F64, ml_weight: float = ML_WEIGHT) -> F64:
    """Return [B] ml_weight · edge + (1 - ml_weight) · rule score, -1 to 1; NaN where the model said nothing finite."""
    return ml_weight * edge + (1 - ml_weight) * rule_score
