"""Scores of sentiment in a CSV file. Knows neither client nor bars."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Score:
    """What a source said about a symbol, -1..1, and when it was published."""

    symbol: str
    ts_ms: int
    score: float
    source: str


def read(path: Path) -> list[Score]:
    """Return the scores of a file with the columns symbol, ts_ms, score, source.

    Raises:
        OSError, ValueError: says which line.
    """
    scores = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                one = Score(row["symbol"], int(row["ts_ms"]), float(row["score"]), row["source"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: symbol, ts_ms, score, source are wanted, not {row}") from error
            if not -1 <= one.score <= 1:
                raise ValueError(f"{path}: a score is -1 to 1, not {row}")
            scores.append(one)
    return scores
