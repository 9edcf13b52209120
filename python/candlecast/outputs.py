"""The layout of the model's 20 outputs; every other module asks here. Knows no arrays.

0..3    expected simple return close to close, one per horizon
4..15   direction logits, horizon-major: (LONG, SHORT, NEUTRAL) per horizon
16..19  max_drawdown_1h, max_rally_1h, max_drawdown_4h, max_rally_4h: non-negative magnitudes
"""

from __future__ import annotations

from typing import Final

COUNT: Final = 20
HORIZONS: Final = ("15m", "1h", "4h", "12h")
"""Names of the horizons at the default interval of 15 minutes; counted in bars at any other."""
HORIZON_BARS: Final = (1, 4, 16, 48)
THRESHOLDS: Final = (0.0015, 0.003, 0.007, 0.010)
"""|return| above which a horizon's direction is LONG or SHORT, as a fraction."""
CLASSES: Final = ("LONG", "SHORT", "NEUTRAL")
HOLD_BARS: Final = 16
"""For how long a position of a signal is held at most, in backtests and when outcomes are written back."""
RISK_BARS: Final = (4, 16)
RISK_NAMES: Final = ("max_drawdown_1h", "max_rally_1h", "max_drawdown_4h", "max_rally_4h")

RETURNS: Final = slice(0, 4)
LOGITS: Final = slice(4, 16)
RISKS: Final = slice(16, 20)
