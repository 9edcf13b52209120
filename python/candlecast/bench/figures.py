"""What was measured: one figure per name, as a table and as JSON. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = (
    "burst_1000",
    "closed_32",
    "latency_50_p50",
    "latency_50_p99",
    "overhead_null_us",
    "scale_10",
    "scale_100",
    "scale_1000",
    "scale_10000",
    "rss_10000_mb",
)
"""The measures that every bench names, in this order."""
RATE, LATENCY, COST, MEMORY = "forecasts/s", "ms", "µs", "MB"
MORE_IS_BETTER = frozenset({RATE})
"""Units of which more is better; of all others, less."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure; None is what could not be measured, and the note says why."""

    name: str
    what: str
    unit: str
    ours: float | None = None
    baseline: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the baseline: above 1 we are faster where more is better, slower or larger where less is."""
        return self.ours / self.baseline if self.ours is not None and self.baseline else None


def in_order(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures of NAMES in their order, then the others."""
    place = {name: i for i, name in enumerate(NAMES)}
    return sorted(figures, key=lambda figure: place.get(figure.name, len(place)))


def as_json(figures: Sequence[Figure]) -> str:
    """Return the list of {name, ours, baseline, ratio, unit}; unknown values are null."""
    return json.dumps(
        [
            {
                "name": figure.name,
                "ours": _rounded(figure.ours),
                "baseline": _rounded(figure.baseline),
                "ratio": _rounded(figure.ratio),
                "unit": figure.unit,
            }
            for figure in figures
        ],
        indent=2,
        allow_nan=False,
    )


def as_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return name, what, ours, baseline, ratio and unit of each, as people read them; ↑ more is better, ↓ less is."""
    rows: list[tuple[str, ...]] = []
    for figure in figures:
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else "–"
        unit = f"{figure.unit} {'↑' if figure.unit in MORE_IS_BETTER else '↓'}"
        rows.append((figure.name, figure.what, _words(figure.ours), _words(figure.baseline), ratio, unit))
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _words(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
