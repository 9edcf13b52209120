"""What the contract (its section 1) says becomes of one symbol's candles: a little model, written from that text alone.

And shuffled histories to try it on: repeated, contradicting, late, malformed candles, gaps of 1, 4, 5 and 1000.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from candlecast.v1.types_pb2 import Candle

FILLED_MAX = 4
"""A longer gap lets the symbol's state start anew."""
WINDOW = 96
FUTURE_MAX_MS = 2_000
Make = Callable[[int], Candle]
"""Gives the candle of a bar number."""
GAPS = (0,) * 12 + (1, 1, 4, 4, 5, 1_000)


@dataclass
class Book:
    """One symbol, candle by candle.

    Attributes:
        accepted: candles that moved the state, in the order in which they did.
        have: bars since the (re)start, filled ones included.
    """

    accepted: list[Candle] = field(default_factory=list)
    have: int = 0
    _known: dict[int, Candle] = field(default_factory=dict)
    _filled_at: int = 0

    def take(self, candle: Candle, now_ms: int) -> str:
        """Return the verdict. Of a forming candle of a past bar the contract says nothing; it is late for a peek."""
        if not _is_well_formed(candle, now_ms):
            return "REFUSED"
        newest = self.accepted[-1] if self.accepted else None
        if newest is None or candle.open_time_ms > newest.open_time_ms:
            if candle.forming:
                return "PEEKED"
            gap = (candle.open_time_ms - newest.open_time_ms) // candle.interval_ms - 1 if newest is not None else 0
            if gap > FILLED_MAX:
                self.have = self._filled_at = 0
            elif gap:
                self._filled_at = self.have + gap
                self.have += gap
            self.have += 1
            self.accepted.append(candle)
            self._known[candle.open_time_ms] = candle
            return "ACCEPTED"
        if candle.forming or (before := self._known.get(candle.open_time_ms)) is None:
            return "LATE"
        return "DUPLICATE" if candle == before else "CONFLICT"

    @property
    def is_gap_filled(self) -> bool:
        """Whether one of the newest rows was filled in."""
        return self._filled_at > 0 and self.have - self._filled_at < WINDOW


def _is_well_formed(candle: Candle, now_ms: int) -> bool:
    prices = candle.open, candle.high, candle.low, candle.close
    amounts = [candle.volume]
    amounts += [
        getattr(candle, name) for name in ("quote_volume", "trades", "taker_buy_volume") if candle.HasField(name)
    ]
    close_ms = candle.open_time_ms + candle.interval_ms
    return (
        all(math.isfinite(value) for value in (*prices, *amounts))
        and min(prices) > 0
        and candle.low <= min(candle.open, candle.close)
        and candle.high >= max(candle.open, candle.close)
        and min(amounts) >= 0
        and candle.open_time_ms % candle.interval_ms == 0
        and (candle.forming or close_ms <= now_ms + FUTURE_MAX_MS)
    )


def shuffled(make: Make, dice: random.Random, *, start: int, steps: int) -> list[Candle]:
    """Return candles of one symbol from a bar on, out of order as far as the dice say, with all that may go wrong."""
    bar, fresh = start, list[int]()
    for _ in range(steps):
        bar += dice.choice(GAPS)
        fresh.append(bar)
        bar += 1
    reach = dice.choice((0.0, 0.0, 0.0, 1.5, 5.0, float(steps)))  # how far from its place a candle may come
    placed = [(place + dice.uniform(0, reach), make(bar)) for place, bar in enumerate(fresh)]
    for _ in range(steps):
        place = dice.uniform(0, steps)
        placed.append((place, _trouble(make, dice, fresh, int(place))))
    return [candle for _, candle in sorted(placed, key=lambda one: one[0])]


def _trouble(make: Make, dice: random.Random, fresh: list[int], place: int) -> Candle:
    """Return a candle that repeats, contradicts, comes late, is still forming or is none."""
    past = fresh[: place + 1]
    kind = dice.randrange(6)
    if kind <= 1:
        candle = make(dice.choice(past))
        if kind:
            candle.volume = math.nextafter(candle.volume, math.inf)
    elif kind == 2:  # long ago, or in a gap
        candle = make(dice.choice(past) - dice.choice((1, 2, 3, 50, 97, 200)))
    elif kind == 3:
        candle = make(fresh[place])
        candle.forming = True
    else:
        candle = make(dice.choice(past))
        _spoil(candle, dice)
    return candle


def _spoil(candle: Candle, dice: random.Random) -> None:
    what = dice.randrange(6)
    if what == 0:
        setattr(candle, dice.choice(("open", "high", "low", "close", "volume")), dice.choice((math.nan, math.inf)))
    elif what == 1:
        setattr(candle, dice.choice(("open", "high", "low", "close")), dice.choice((0.0, -1.0, -math.inf)))
    elif what == 2:
        candle.high, candle.low = candle.low * 0.9, candle.high
    elif what == 3:
        candle.volume = -1e-9
    elif what == 4:
        candle.open_time_ms += dice.randrange(1, candle.interval_ms)
    else:
        candle.open_time_ms += 10**6 * candle.interval_ms
