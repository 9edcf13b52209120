"""Scores of sentiment by the time of their publication. Knows neither the wire nor who asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from candlecast.store.pool import Pool
from candlecast.store.queries import statements

STATEMENTS: Final = statements("sentiment.sql")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """What a source said about a symbol."""

    symbol: str
    ts_ms: int  # of its publication
    score: float  # -1..1
    source: str


async def put_scores(pool: Pool, scores: Sequence[Score]) -> int:
    """Write scores; return how many are new. The first of a symbol, time and source stays.

    Raises:
        StorageUnavailable: here and below.
    """
    rows = await pool.fetch(
        STATEMENTS["put_scores"],
        [score.symbol for score in scores],
        [score.ts_ms for score in scores],
        [score.source for score in scores],
        [score.score for score in scores],
    )
    return int(rows[0]["created"])


async def scores_as_of(pool: Pool, symbols: Sequence[str], at_ms: int, source: str = "") -> Sequence[Row]:
    """Return the newest score of each symbol that was published at or before a time; a symbol may have none.

    Args:
        source: "": of any.
    """
    rows: Sequence[Row] = await pool.fetch(STATEMENTS["scores_as_of"], list(symbols), at_ms, source)
    return rows
