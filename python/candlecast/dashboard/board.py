"""The newest forecast of every symbol, in memory, so that looking something up among ten thousand asks no database.

Knows neither where forecasts come from nor who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

Row = dict[str, Any]
Order = Literal["symbol", "newest", "confidence", "edge", "slowest"]
Side = Literal["LONG", "SHORT", "NEUTRAL", "SIGNAL"]
SYMBOLS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the board, and how many match in all."""

    rows: list[Row]
    total: int
    symbols: int


class Board:
    """Holds at most SYMBOLS_MAX symbols; further ones are counted in `left_out` and not shown."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self.left_out = 0
        self.newest_close_ms: int | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, rows: Iterable[Row]) -> list[Row]:
        """Take forecasts in; return those that are now their symbols' newest, and were not before."""
        fresh = []
        for row in rows:
            known = self._rows.get(row["symbol"])
            if known is None and len(self._rows) >= SYMBOLS_MAX:
                self.left_out += 1
            elif known is None or (row["close_time_ms"] >= known["close_time_ms"] and row != known):
                self._rows[row["symbol"]] = row
                fresh.append(row)
                self.newest_close_ms = max(row["close_time_ms"], self.newest_close_ms or 0)
        return fresh

    def page(
        self, *, search: str = "", side: Side | None = None, order: Order = "symbol", offset: int = 0, limit: int
    ) -> Page:
        """Return the rows whose symbol holds `search`, in that order; ties by symbol."""
        wanted = search.upper()
        found = [row for row in self._rows.values() if wanted in row["symbol"] and _is_on(side, row["direction"])]
        found.sort(key=lambda row: row["symbol"])
        if order != "symbol":
            found.sort(key=_KEYS[order], reverse=True)
        return Page(found[offset : offset + limit], len(found), len(self._rows))


def _is_on(side: Side | None, direction: str) -> bool:
    return side is None or side == direction or (side == "SIGNAL" and direction != "NEUTRAL")


_KEYS: Final[dict[str, Callable[[Row], float]]] = {
    "newest": lambda row: row["close_time_ms"],
    "confidence": lambda row: row["confidence"] or 0.0,
    "edge": lambda row: abs(row["edge"] or 0.0),
    "slowest": lambda row: sum(row["stages_us"]),
}
