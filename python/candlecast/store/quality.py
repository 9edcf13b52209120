"""How right a version and how profitable a strategy was of late, by sums over days. Knows no rule."""

from __future__ import annotations

from typing import Final

from candlecast.store.pool import Pool
from candlecast.store.queries import statements

STATEMENTS: Final = statements("quality.sql")


async def accuracy(pool: Pool, model: str, version: int, horizon_bars: int, days: int) -> tuple[int, dict[str, float]]:
    """Return how many forecasts of the newest days have an outcome, and what is known of them, if there are any.

    Raises:
        StorageUnavailable.
    """
    (row,) = await pool.fetch(STATEMENTS["accuracy_of_late"], model, version, horizon_bars, days)
    if not (count := int(row["count"])):
        return 0, {}
    hit_rate = row["hits"] / count
    return count, {
        "hit_rate": hit_rate,
        "hit_rate_over_base": hit_rate - row["commonest"] / count,
        "calibration_error": row["off"] / count,
    }


async def trades(pool: Pool, strategy: str, days: int) -> tuple[int, dict[str, float]]:
    """Return how many trades of a strategy were closed in its newest days, and what they brought, if there are any.

    Raises:
        StorageUnavailable.
    """
    (row,) = await pool.fetch(STATEMENTS["trades_of_late"], strategy, days)
    if not (count := int(row["count"])):
        return 0, {}
    return count, {"win_rate": row["wins"] / count, "mean_return": row["returns"] / count, "pnl": row["pnl"]}
