"""Follow the server's signals only while what is said about the symbol speaks for them.

    python -m candlecast.strategies.sentiment_ml --server 127.0.0.1:50051 --symbols BTCUSDT --scores scores.csv

Scores come from whoever calls `Client.put_sentiment`, or from --scores (CSV: symbol, ts_ms, score, source). For each
forecast the newest one as of its close is used: one that is published later is not there, live and in the backtest.
Out: at its stop, take or time, at such a signal of the other side, or when the sentiment turns against the position.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.strategies.columns import F64, Held, Seen, followed

NAME: Final = "sentiment_ml"
MODEL: Final = ""
"""Whose forecasts are followed: whatever the server serves."""
SCORE: Final = 0.2
"""On the side of the signal; as much against it closes a position."""
AGE_MAX_MS: Final = 24 * 3_600_000
"""An older score says nothing."""


def decide(seen: Seen, held: Held) -> F64:
    """Return the positions wanted [N]; without a score nothing is opened, and nothing closed because of it."""
    with np.errstate(invalid="ignore"):
        score = np.where(seen.sentiment_age_ms <= AGE_MAX_MS, np.nan_to_num(seen.sentiment), 0.0)
    is_backed = ~seen.degraded & (seen.side * score >= SCORE)
    wanted = followed(np.where(is_backed, seen.side, 0.0), seen.size, held)
    is_turned = (held.side != 0) & (held.side * score <= -SCORE) & ~is_backed
    return np.where(is_turned, 0.0, wanted)


if __name__ == "__main__":
    from candlecast.strategies.live import main

    raise SystemExit(main(NAME, decide, MODEL, uses_sentiment=True))
