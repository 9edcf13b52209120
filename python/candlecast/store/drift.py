"""What drift is measured from, in bounded batches, and what was measured. Knows no measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from candlecast.store.pool import Pool
from candlecast.store.queries import statements
from candlecast.values import F32, F64

STATEMENTS: Final = statements("drift.sql")
TIMEOUT_S: Final = 60.0
"""Longest statement."""
ROWS: Final = 500
"""Handed over at once."""
MISS_ROWS: Final = 20_000
"""Newest forecasts with an outcome that the rate of misses is taken from."""
MEASURED: Final = (
    "rows", "against", "subject", "psi", "ks", "usual_psi", "usual_ks", "worst", "before", "after", "drifting",
    "alerted",
)  # fmt: skip
"""Of a Measure, in the order of the statement."""
Span = tuple[datetime, datetime]
"""Closes from the first up to, not including, the second."""
BUNDLE, FIRST_DAYS, ITSELF = "BUNDLE", "FIRST_DAYS", "ITSELF"
"""What something is measured against: what the model was trained on, the version's first days, or what came before."""


@dataclass(frozen=True, slots=True)
class Sample:
    """N forecasts of a span."""

    span: Span
    rows: F32  # [N, F] features as the model saw them
    side: np.ndarray  # [N] 0 LONG, 1 SHORT, 2 NEUTRAL
    confidence: F32  # [N] NaN: an output was not finite
    probabilities: F32  # [N, 12] horizon-major; NaN as above
    close_s: F64  # [N] since 1970
    symbols: int  # in it


@dataclass(frozen=True, slots=True)
class Measure:
    """What was found of one subject."""

    subject: str
    psi: float | None = None
    ks: float | None = None
    usual_psi: float | None = None  # of stretches within the first days; None: there is but one
    usual_ks: float | None = None
    worst: str | None = None
    before: float | None = None
    after: float | None = None
    drifting: bool = False
    alerted: bool = False
    against: str = FIRST_DAYS
    span: Span | None = None  # of what it was measured against
    rows: int = 0  # of it


@dataclass(frozen=True, slots=True)
class Before:
    """How a subject was measured last."""

    drifting: bool
    told: bool  # that it drifts is what somebody heard last


async def spans(
    pool: Pool, model: str, version: int, reference: timedelta, newest: timedelta
) -> tuple[Span | None, Span] | None:
    """Return the first days of a version, None while the newest ones overlap them, and those; None: it never answered.

    Raises:
        StorageUnavailable.
    """
    (hours,) = await pool.fetch(STATEMENTS["spoken_hours"], model, version)
    if hours["first"] is None:
        return None
    kept = await pool.fetch(STATEMENTS["oldest_kept"], model, version, hours["first"])
    if not kept:
        return None
    first, last = kept[0][0], hours["last"]
    begun = (first, first + reference) if first + reference <= last - newest else None
    return begun, (max(last - newest, first), last)


async def sample(pool: Pool, model: str, version: int, span: Span, rows_max: int, features: int) -> Sample:
    """Return about so many forecasts of a span, spread over all of it; at most twice as many.

    Args:
        features: of a row; forecasts with another number are left out.

    Raises:
        StorageUnavailable.
    """
    (counted,) = await pool.fetch(STATEMENTS["forecasts_in"], model, version, *span)
    every = max(int(counted["forecasts"]) // rows_max, 1)
    found: list[Any] = []
    async with pool.connection() as connection, connection.transaction(readonly=True):
        cursor = await connection.cursor(
            STATEMENTS["drift_rows"].rstrip(";"), model, version, *span, every, 2 * rows_max
        )
        while some := await cursor.fetch(ROWS, timeout=TIMEOUT_S):
            found += [row for row in some if len(row["features"]) == 4 * features]
    names = ("LONG", "SHORT", "NEUTRAL")
    return Sample(
        span,
        np.frombuffer(b"".join(row["features"] for row in found), dtype="<f4").reshape(-1, features),
        np.array([names.index(row["direction"]) for row in found], dtype=np.int64),
        np.array([np.nan if row["confidence"] is None else row["confidence"] for row in found], dtype=np.float32),
        np.frombuffer(b"".join(row["probabilities"] for row in found), dtype="<f4").reshape(-1, 12),
        np.array([row["close_s"] for row in found], dtype=np.float64),
        len({row["symbol"] for row in found}),
    )


async def misses(pool: Pool, model: str, version: int, since: datetime) -> F64:
    """Return for each close the share of forecasts whose likeliest class at one bar did not come, oldest first: [N].

    Raises:
        StorageUnavailable.
    """
    found = await pool.fetch(STATEMENTS["misses"], model, version, since, MISS_ROWS)
    return np.array([row["missed"] for row in found], dtype=np.float64)


async def before(pool: Pool, model: str, version: int) -> dict[str, Before]:
    """Return how each subject was measured last.

    Raises:
        StorageUnavailable.
    """
    found = await pool.fetch(STATEMENTS["drifting_before"], model, version)
    return {row["subject"]: Before(row["drifting"], row["told"]) for row in found}


async def alerts_today(pool: Pool) -> int:
    """Return how often somebody was told that a drift began, since midnight, UTC.

    Raises:
        StorageUnavailable.
    """
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    (row,) = await pool.fetch(STATEMENTS["alerts_of_day"], midnight)
    return int(row["alerts"])


async def keep(pool: Pool, model: str, version: int, newest: Sample, found: Sequence[Measure]) -> None:
    """Write what was measured, in one transaction.

    Raises:
        StorageUnavailable.
    """
    columns = [[getattr(one, name) for one in found] for name in MEASURED]
    begins, ends = ([(one.span or newest.span)[i] for one in found] for i in (0, 1))
    rows = len(newest.side)
    await pool.fetch(STATEMENTS["measured"], model, version, *newest.span, rows, begins, ends, *columns)
