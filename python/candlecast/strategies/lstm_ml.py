"""Follow the edge of an LSTM with hysteresis: in at a clear edge, out when it has gone.

    python -m candlecast.strategies.lstm_ml --server 127.0.0.1:50051 --symbols BTCUSDT

The server has to serve a bundle of `candlecast train lstm`; forecasts of other models are not acted on. The server's
filters are not asked: the edge, and a 4h return above what a trade costs, are.
Out: at its stop, take or time, or when the edge is on the other side.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.strategies.columns import F64, Held, Seen, followed

NAME: Final = "lstm_ml"
MODEL: Final = "lstm"
EDGE: Final = 0.15
"""From which on a position is opened: weighted p_long - p_short."""
RETURN: Final = 0.0015
"""Expected at 4h, on the side: fees and slippage of two fills are 0.0012."""


def decide(seen: Seen, held: Held) -> F64:
    """Return the positions wanted [N]."""
    edge, expected = np.nan_to_num(seen.edge), np.nan_to_num(seen.expected)
    side = np.sign(edge)
    is_clear = (np.abs(edge) >= EDGE) & (side * expected >= RETURN) & ~seen.degraded
    is_gone = (held.side != 0) & (side == -held.side) & ~is_clear
    wanted = followed(np.where(is_clear, side, 0.0), np.ones_like(edge), held)
    return np.where(is_gone, 0.0, wanted)


if __name__ == "__main__":
    from candlecast.strategies.live import main

    raise SystemExit(main(NAME, decide, MODEL))
