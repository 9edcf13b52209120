"""What the dashboard's pages ask, over many forecasts: seeds a PostgreSQL of its own, times statements, keeps plans.

    python bench/pages.py --rows 10000000 --out target/pages.json

Rows are made up by SQL (pages.sql): a thousand symbols, a forecast every 15 minutes, 4 features instead of 240 to save
disk, and every count that `record` and the outcomes would have kept. The slowest
statement must stay under 100 ms (medians of five, after one to warm up).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from candlecast.settings import CHECKOUT
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import Pool, open_pool
from candlecast.store.views import VIEWS

SYMBOLS = 1_000
STEP_MS = 900_000
END = datetime(2024, 6, 30, tzinfo=UTC)
LIMIT_MS = 100
TIMES = 5
SEED_TIMEOUT_MS = 3_600_000
SEEDS = dict(re.findall(r"-- name: (\w+)\n(.*?;)\n", Path(__file__).with_suffix(".sql").read_text(), re.DOTALL))


async def seeded(pool: Pool, rows: int) -> datetime:
    """Fill the tables; return the first close."""
    bars = max(rows // SYMBOLS, 96)
    start = END - bars * timedelta(milliseconds=STEP_MS)
    months = sorted({(start + timedelta(days=d)).date().replace(day=1) for d in range((END - start).days + 32)})
    for table in ("candles", "ml_prediction_rows", "ml_outcome_rows"):
        await pool.fetch("SELECT create_month_partitions($1, $2)", table, months)
    await pool.fetch(SEEDS["forecasts"], start, SYMBOLS, bars, STEP_MS)
    await pool.fetch(SEEDS["candles"], start, SYMBOLS // 10, bars, STEP_MS)
    for table in ("ml_prediction_hours", "ml_reason_hours", "ml_latency_hours"):
        text = (CHECKOUT / "migrations" / "0020_views.sql").read_text()
        (insert,) = [part for part in text.split(";\n") if f"\nINSERT INTO {table}\n" in f"\n{part}"]
        await pool.fetch(insert[insert.index("INSERT INTO") :])
    days = (END - start).days
    await pool.fetch(SEEDS["accuracy"], start, STEP_MS, days, SYMBOLS)
    await pool.fetch(SEEDS["strategies"], start, days, SYMBOLS)
    async with pool.connection() as connection:
        await connection.execute("VACUUM ANALYZE")
    return start


def asked(start: datetime) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Return each statement with its page and what the page gives it."""
    symbol, week = "S0042USDT", END - timedelta(days=7)
    key = ("patchtst", 1, STEP_MS, date(2000, 1, 1))
    return {
        "newest_forecasts": ("Now, once", (20_000,)),
        "intervals_of_symbol": ("Symbol", (symbol,)),
        "candles_of_symbol": ("Symbol", (symbol, STEP_MS, END, 1_000)),
        "forecasts_of_symbol": ("Symbol", (symbol, STEP_MS, END - timedelta(days=10), END, 4_000)),
        "trades_of_symbol": ("Symbol", (symbol, week, END, 500)),
        "accuracy_models": ("Accuracy", ()),
        "accuracy_horizons": ("Accuracy", key),
        "calibration": ("Accuracy", key),
        "accuracy_days": ("Accuracy", key),
        "exits": ("Accuracy", key),
        "strategies": ("Strategies", ()),
        "strategy_days": ("Strategies", ([f"strategy_{k}" for k in range(1, 6)],)),
        "strategy_symbols": ("Strategies", ("strategy_1", 20, 0)),
        "strategy_trades": ("Strategies", ("strategy_1", 50)),
        "strategy_positions": ("Strategies", ("strategy_1", 50)),
        "signal_quality": ("Strategies", ("strategy_1",)),
        "models": ("Models", (20, 0)),
        "model_skill": ("Models", ()),
        "model_states": ("Models", ()),
        "trainings": ("Models", (20, 0)),
        "models_with_importance": ("Features", ()),
        "top_features": ("Features", (None, None, 40)),
        "newest_rows": ("Features", (1_000, END)),
        "newest_hour": ("System", ()),
        "forecasts_per_hour": ("System", (END - timedelta(days=14), END)),
        "latency_hours": ("System", (END - timedelta(hours=720),)),
        "reasons": ("System", (week,)),
        "confidence_distribution": ("System", (week,)),
        "missed": ("System", (week,)),
    }


async def measured(pool: Pool, start: datetime) -> list[dict[str, Any]]:
    found = []
    for name, (page, values) in asked(start).items():
        took = []
        for _ in range(TIMES + 1):
            begin = time.perf_counter()
            rows = await pool.fetch(VIEWS[name], *values)
            took.append((time.perf_counter() - begin) * 1000)
        plan = await pool.fetch("EXPLAIN (ANALYZE, BUFFERS, SETTINGS) " + VIEWS[name], *values)
        median = statistics.median(took[1:])
        found.append(
            {"page": page, "statement": name, "ms": median, "rows": len(rows), "plan": [row[0] for row in plan]}
        )
        print(f"{page:12} {name:24} {median:8.2f} ms {len(rows):6} rows", file=sys.stderr)
    return found


async def main(rows: int, out: Path | None) -> int:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with EmbeddedPostgres(Path(directory) / "data", Path(directory) / "log") as server:
            await migrate(server.dsn)
            begin = time.monotonic()
            async with open_pool(server.dsn, connections_max=1, command_timeout_ms=SEED_TIMEOUT_MS) as pool:
                start = await seeded(pool, rows)
                (stored,) = await pool.fetch("SELECT count(*) FROM ml_predictions")
            print(f"{stored[0]:,} forecasts seeded in {time.monotonic() - begin:.0f} s", file=sys.stderr)
            async with open_pool(server.dsn, connections_max=1) as pool:
                found = await measured(pool, start)
    slowest = max((f for f in found if f["page"] != "Now, once"), key=lambda f: f["ms"])
    result = {"forecasts": stored[0], "slowest": slowest["statement"], "slowest_ms": slowest["ms"], "statements": found}
    if out:
        _write(out, result)
    print(json.dumps({name: result[name] for name in ("forecasts", "slowest", "slowest_ms")}))
    return int(slowest["ms"] > LIMIT_MS)


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, help="write times and plans here, as JSON")
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.rows, arguments.out)))
