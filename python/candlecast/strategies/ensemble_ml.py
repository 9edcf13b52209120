"""Follow the signals that the server's filters let through, when horizons and members are of one mind.

    python -m candlecast.strategies.ensemble_ml --server 127.0.0.1:50051 --symbols BTCUSDT ETHUSDT

In: a LONG or SHORT with AGREEMENT of the horizons on its side, of a forecast that nothing was missing from. Where the
server has an ensemble, disagreement of its members has lowered the confidence already, which the filters look at.
Out: at its stop, take or time, or when such a signal of the other side comes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from candlecast.strategies.columns import F64, Held, Seen, followed

NAME: Final = "ensemble_ml"
MODEL: Final = ""
"""Whose forecasts are followed: whatever the server serves."""
AGREEMENT: Final = 0.85
"""All horizons, or all but 12h: they weigh 0.25, 0.25, 0.35 and 0.15."""


def decide(seen: Seen, held: Held) -> F64:
    """Return the positions wanted [N]."""
    is_clear = ~seen.degraded & (seen.agreement >= AGREEMENT)
    return followed(np.where(is_clear, seen.side, 0.0), seen.size, held)


if __name__ == "__main__":
    from candlecast.strategies.live import main

    raise SystemExit(main(NAME, decide, MODEL))
