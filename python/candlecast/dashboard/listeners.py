"""Those who look on, found by what comes: only those are asked who may want it, however many look. Knows no source."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from candlecast.dashboard.board import SYMBOLS_MAX, Row

_ANY: Final = (None,)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which forecasts; those of all symbols, or in all directions, where none is named."""

    symbols: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    confidence_min: float = 0.0

    def takes(self, row: Row) -> bool:
        """Say whether a forecast of a wanted symbol is wanted."""
        fits = not self.directions or row["direction"] in self.directions
        return fits and (row["confidence"] or 0.0) >= self.confidence_min


@dataclass(eq=False, slots=True)
class Listener:
    """What waits for one who looks on: the newest forecast of each symbol, as JSON."""

    _waiting: dict[str, str] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, symbol: str, text: str) -> None:
        if len(self._waiting) < SYMBOLS_MAX or symbol in self._waiting:
            self._waiting[symbol] = text
            self._some.set()

    async def take(self, timeout_s: float) -> list[str]:
        """Return what waits, as JSON texts; nothing when nothing comes within the time."""
        try:
            await asyncio.wait_for(self._some.wait(), timeout_s)
        except TimeoutError:
            return []
        self._some.clear()
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken


class Listeners:
    """Listeners by what they want: whatever one of their wishes takes."""

    def __init__(self) -> None:
        self._wishes: dict[Listener, Sequence[Wanted]] = {}
        self._of_symbol: dict[str | None, dict[Wanted, dict[Listener, None]]] = {}  # None: of all symbols

    def __len__(self) -> int:
        return len(self._wishes)

    def put(self, listener: Listener, wishes: Sequence[Wanted]) -> None:
        """Let a listener want this, and no longer what it wanted before."""
        self.remove(listener)
        self._wishes[listener] = wishes
        for wanted in wishes:
            for symbol in wanted.symbols or _ANY:
                self._of_symbol.setdefault(symbol, {}).setdefault(wanted, {})[listener] = None

    def remove(self, listener: Listener) -> None:
        """Forget a listener, if it is known."""
        for wanted in self._wishes.pop(listener, ()):
            for symbol in wanted.symbols or _ANY:
                alike = self._of_symbol[symbol]
                alike[wanted].pop(listener, None)
                if not alike[wanted]:
                    del alike[wanted]
                if not alike:
                    del self._of_symbol[symbol]

    def of(self, row: Row) -> Collection[Listener]:
        """Return who wants a forecast."""
        found: dict[Listener, None] = {}
        for symbol in (row["symbol"], *_ANY):
            for wanted, alike in self._of_symbol.get(symbol, {}).items():
                if wanted.takes(row):
                    found.update(alike)
        return found
