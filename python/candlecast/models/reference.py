"""reference.json of a bundle: what its model was trained on and what it said then, by distributions. Knows no store.

Drift is measured against it. The rows are gone: each column is kept as the values at 49 quantiles, how much lay below
and how much up to each of them, and how much had no value. What is usual is kept beside: how far stretches of a few
days, of few symbols or of all, were from the whole. Slow features hardly move within a day, and no day is like all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self

import numpy as np

from candlecast import outputs
from candlecast.values import F32, F64

FORMAT: Final = 1
GRID: Final = np.linspace(0, 1, 51)[1:-1]
"""Shares of the rows at whose values a column is cut."""
TENTHS: Final = slice(4, None, 5)
"""Those between the bins of the stability index."""
SIDES: Final[tuple[Literal["left"], Literal["right"]]] = "left", "right"
PREDICTIONS: Final = (
    "confidence",
    *(f"p_{side.lower()}_{horizon}" for horizon in outputs.HORIZONS for side in outputs.CLASSES),
)
"""The columns of what a model said: the confidence of the direction, and the calibrated probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How each of F columns is spread over rows."""

    rows: int
    values: F32  # [F, 49] at the shares of GRID, of the finite ones; NaN: there is none
    below: F64  # [F, 49] share of the finite ones that is smaller
    up_to: F64  # [F, 49] and of those that are no larger
    highest: F32  # [F]
    missing: F64  # [F] share of all rows

    @classmethod
    def of(cls, rows: F32) -> Self:
        """Return the spread of rows [N, F], N at least 1."""
        ordered, finite = _ordered(rows)
        values = np.full((rows.shape[1], len(GRID)), np.nan, dtype=np.float32)
        highest = np.full(rows.shape[1], np.nan, dtype=np.float32)
        for f, count in enumerate(finite.tolist()):
            if count:
                column = ordered[:count, f]
                values[f] = [float(f"{value:.5g}") for value in np.quantile(column.astype(np.float64), GRID)]
                highest[f] = column[-1]
        below, up_to = (
            np.round(_below(ordered, finite, values, side) / np.maximum(finite, 1)[:, None], 4) for side in SIDES
        )
        return cls(len(rows), values, below, up_to, highest, np.round(1 - finite / len(rows), 4))

    def apart(self, newest: F32) -> tuple[F64, F64]:
        """Return PSI [F] and KS [F] of newest rows [n, F], n at least 1; see `tracking.stability`.

        KS is taken at the values that are kept, so it is too small by at most 0.02, the share between two of them.
        """
        ordered, finite = _ordered(newest)
        below, up_to = (_below(ordered, finite, self.values, side) for side in SIDES)
        known = np.isfinite(self.highest)
        with np.errstate(invalid="ignore"):
            over = (newest > self.highest).sum(axis=0) / np.maximum(finite, 1)
        count = np.maximum(finite, 1)[:, None]
        ks = np.maximum(np.abs(below / count - self.below), np.abs(up_to / count - self.up_to)).max(axis=1)
        ks = np.where(known & (finite > 0), np.maximum(ks, np.where(known, over, 0)), known != (finite > 0))
        psi = [
            _index(
                self.values[f, TENTHS],
                (
                    self.below[f, TENTHS] * (1 - self.missing[f]) * self.rows,
                    (1 - self.missing[f]) * self.rows,
                    self.rows,
                ),
                (below[f, TENTHS], finite[f], len(newest)),
            )
            for f in range(len(finite))
        ]
        return np.array(psi), ks.astype(np.float64)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "rows": self.rows,
            "values": _listed(self.values),
            "below": _listed(self.below),
            "up_to": _listed(self.up_to),
            "highest": _listed(self.highest, digits=9),  # all of a float32: nothing of the rows lies above it
            "missing": _listed(self.missing),
        }

    @classmethod
    def of_json(cls, told: dict[str, Any], columns: int) -> Self:
        """Raises ValueError, KeyError or TypeError for what is none of this many columns."""
        cut = columns, len(GRID)
        return cls(
            _whole(told["rows"]),
            _array(told["values"], cut).astype(np.float32),
            _share(_array(told["below"], cut)),
            _share(_array(told["up_to"], cut)),
            _array(told["highest"], (columns,)).astype(np.float32),
            _share(_array(told["missing"], (columns,))),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """How far nine in ten stretches of the same rows were from all of them, at most."""

    days: int  # of a stretch
    symbols: int  # in it
    psi: F64  # [F]
    ks: F64  # [F]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Columns over a span of closes."""

    span: tuple[datetime, datetime]  # from the first close up to, not including, the second
    spread: Spread
    usual: Sequence[Usual]

    def usual_of(self, days: float, symbols: int) -> Usual | None:
        """Return what is usual of the longest stretch, and then the most symbols, that are no more than these.

        More days and more symbols are nearer to the whole. Of fewer than any, the fewest are the best guess.
        """
        within = [one for one in self.usual if one.days <= days and one.symbols <= symbols]
        if within:
            return max(within, key=lambda one: (one.days, one.symbols))
        return min(self.usual, key=lambda one: (one.days, one.symbols), default=None)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        usual = [
            {"days": one.days, "symbols": one.symbols, "psi": _listed(one.psi), "ks": _listed(one.ks)}
            for one in self.usual
        ]
        begin, end = (time.isoformat().replace("+00:00", "Z") for time in self.span)
        return {"from": begin, "before": end, "spread": self.spread.as_json(), "usual": usual}

    @classmethod
    def of_json(cls, told: dict[str, Any], columns: int) -> Self:
        """Raises as Spread.of_json."""
        span = datetime.fromisoformat(told["from"]), datetime.fromisoformat(told["before"])
        if any(time.tzinfo is None for time in span) or span[0] >= span[1]:
            raise ValueError(f"{told['from']} to {told['before']} is no span")
        usual = [
            Usual(
                _whole(one["days"]), _whole(one["symbols"]),
                _array(one["psi"], (columns,)), _array(one["ks"], (columns,)),
            )
            for one in told["usual"]
        ]  # fmt: skip
        return cls(span, Spread.of_json(told["spread"], columns), usual)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Features of the part that was trained on; answers to the part behind it, that it was not fitted to."""

    features: Part
    predictions: Part | None  # columns: PREDICTIONS; None: unknown, as of an ensemble
    temperatures: tuple[float, ...] = ()  # [4] that the predictions were read with; none of none

    def read_with(self, temperatures: Sequence[float]) -> Reference:
        """Return what of it holds where outputs are read with other temperatures: the features."""
        if self.predictions is None or self.temperatures == tuple(temperatures):
            return self
        return Reference(self.features, None)

    def as_bytes(self) -> bytes:
        """Return reference.json."""
        told: dict[str, Any] = {"format": FORMAT, "features": self.features.as_json()}
        if self.predictions is not None:
            told |= {"predictions": self.predictions.as_json(), "temperatures": self.temperatures}
        return (json.dumps(told, allow_nan=False, separators=(",", ":")) + "\n").encode()


def parse(content: bytes, features: int) -> Reference:
    """Read reference.json of a model with so many features.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        told = json.loads(content)
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']}, this candlecast reads {FORMAT}")
        seen, said = Part.of_json(told["features"], features), told.get("predictions")
        if said is None:
            return Reference(seen, None)
        temperatures = _array(told["temperatures"], (len(outputs.HORIZONS),)).tolist()
        return Reference(seen, Part.of_json(said, len(PREDICTIONS)), tuple(temperatures))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _ordered(rows: F32) -> tuple[F32, np.ndarray]:
    """Return each column of rows [N, F] in order, what is not finite last, and how many are finite [F]."""
    finite = np.isfinite(rows)
    ordered: F32 = np.sort(np.where(finite, rows, np.nan), axis=0)
    return ordered, finite.sum(axis=0)


def _below(ordered: F32, finite: np.ndarray, values: F32, side: Literal["left", "right"]) -> F64:
    """Count [F, K] of the finite ones in each column of ordered [N, F] those smaller than its values [F, K].

    Of the right side those no larger.
    """
    found = [
        np.searchsorted(ordered[:count, f], values[f], side).astype(np.float64)
        for f, count in enumerate(finite.tolist())
    ]
    return np.array(found)


def _index(edges: F32, before: tuple[F64, float, float], after: tuple[F64, float, float]) -> float:
    """Return the stability index of one column, each side told as rows below the edges, finite rows and all rows."""
    apart = np.append(True, edges[1:] != edges[:-1]) & np.isfinite(edges)
    p, q = (
        np.append(np.diff(np.concatenate([[0.0], below[apart], [finite]])), rows - finite) + 0.5
        for below, finite, rows in (after, before)
    )
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def _listed(values: np.ndarray, digits: int = 6) -> Any:
    """Return numbers as JSON has them: null for NaN."""
    if values.ndim > 1:
        return [_listed(row, digits) for row in values]
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]


def _array(told: Any, shape: tuple[int, ...]) -> F64:
    found = np.array(told, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"{list(found.shape)} numbers, expected {list(shape)}")
    return found


def _share(values: F64) -> F64:
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a share is not between 0 and 1")
    return values


def _whole(told: Any) -> int:
    if type(told) is not int or told < 1:
        raise ValueError(f"{told!r} is no count")
    return told
