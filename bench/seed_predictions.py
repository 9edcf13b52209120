"""Fills a database of its own with synthetic forecasts, and times every question of Grafana, Metabase and report.

Usage: python bench/seed_predictions.py DIR [--rows 10000000] [--symbols 1000] [--json]. DIR gets a PostgreSQL of its
own (about 1.5 KB a row) and is kept: the next run with the same number of rows only asks. The model is SYNTHETIC, so
that nobody takes this for forecasts. Each question runs as the viewers' role, five times, and its median counts;
those over the limit are shown with their plan, and make the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from candlecast.report.read import QUESTIONS, WITHOUT_A_DAY  # noqa: E402
from candlecast.store.embedded import EmbeddedPostgres  # noqa: E402
from candlecast.store.migrate import MIGRATIONS, migrate  # noqa: E402
from candlecast.store.performance import refresh  # noqa: E402
from candlecast.store.pool import open_pool  # noqa: E402
from candlecast.store.reader import let_reader_in  # noqa: E402
from deploy.grafana.build import DASHBOARDS  # noqa: E402
from deploy.metabase.setup import dashboards  # noqa: E402
from tests.viewers import PASSWORD, as_reader, expanded  # noqa: E402

LIMIT_MS = 100.0
TIMES = 5
COUNTED_BY = "0020"
"""Migrations from this one on count what is stored, so they are applied when everything is."""
SIGNALS_EVERY = 50
"""Of the forecasts, one is acted on by a strategy."""

FORECASTS = """
INSERT INTO ml_predictions (
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, close, volume, state, gap_filled,
    features, features_hash, feature_count, nan_count, zero_variance_count, features_mean, features_std, features_min,
    features_max, rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength, outputs, probabilities, direction,
    strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons, decode_us, features_us,
    queue_us, model_us, interpret_us, created_at, actual_return_1, actual_return_16, hit_1, hit_4, hit_16, hit_48)
SELECT
    'S' || lpad(s::text, 5, '0'), 900000, close_time, 'SYNTHETIC', 1, '\\x00'::bytea, 0, 100 + random(), random(),
    'READY', false, $4::bytea, 0, 240, 0, (random() * 3)::smallint, 0, 1, -3, 3, 50, 0, 0.5, 0.01, 1, 20,
    decode(repeat('0000003d', 20), 'hex'), decode(repeat('abaaaa3e', 12), 'hex'),
    (ARRAY['NEUTRAL', 'NEUTRAL', 'LONG', 'SHORT'])[1 + floor(random() * 4)],
    (ARRAY['WEAK', 'NORMAL', 'STRONG'])[1 + floor(random() * 3)],
    0.4 + 0.5 * random(), random(), random(), random(), random() - 0.5, 0.01, 0.02, '{LOW_CONFIDENCE}',
    50, 100, (200 * random())::integer, (3000 * (1 + random()))::integer, 300, close_time + interval '1 second',
    0.001, 0.002, random() < 0.4, random() < 0.4, random() < 0.4, random() < 0.4
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 second', interval '15 minutes') AS close_time,
    generate_series(0, $3::integer - 1) AS s
"""
OTHERS = (
    """
INSERT INTO candles (symbol, interval_ms, open_time, open, high, low, close, volume)
SELECT symbol, 900000, close_time - interval '15 minutes', close, close + 1, close - 1, close, 1
FROM ml_predictions WHERE symbol < 'S00020'""",
    """
INSERT INTO ml_accuracy_counts
SELECT
    'SYNTHETIC', 1, 900000, symbol, day, horizon, bin, 8, 3, 2, 2, 4, 2, 8 * (bin + 0.5) / 20, 8.6, 5.2,
    0, 0.02, 0.0001, 0.02
FROM (SELECT DISTINCT symbol FROM ml_predictions WHERE close_time >= $1 AND close_time < $1 + interval '1 day') AS s,
    generate_series($1::date, $2::date, interval '1 day') AS day, unnest(ARRAY[1, 4, 16, 48]) AS horizon,
    generate_series(7, 18, 3) AS bin""",
    """
INSERT INTO ml_exit_counts
SELECT 'SYNTHETIC', 1, 900000, symbol, day, direction, reason, 5, 2, 0.001, 40, 0.05, 0.1
FROM (SELECT DISTINCT symbol FROM ml_predictions WHERE close_time >= $1 AND close_time < $1 + interval '1 day') AS s,
    generate_series($1::date, $2::date, interval '1 day') AS day, unnest(ARRAY['LONG', 'SHORT']) AS direction,
    unnest(ARRAY['STOP', 'TAKE', 'TIME']) AS reason""",
)
SIGNALS = """
INSERT INTO ml_strategy_signals (
    key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, quality, closed_size, closed_value,
    fees, exit_price, exit_time, exit_reason, pnl, is_winner)
SELECT
    'synthetic ' || i, 'strategy ' || i % 8, 'S' || lpad((i % $3::integer)::text, 5, '0'),
    (ARRAY['LONG', 'SHORT'])[1 + i % 2], CASE WHEN i % 1000 = 0 THEN 'OPEN' ELSE 'CLOSED' END, 100, at, 1, 0.7,
    random(),
    CASE WHEN i % 1000 > 0 THEN 1 ELSE 0 END, CASE WHEN i % 1000 > 0 THEN 100 ELSE 0 END, 0.1,
    CASE WHEN i % 1000 > 0 THEN 100.5 END, CASE WHEN i % 1000 > 0 THEN at + interval '2 hours' END,
    CASE WHEN i % 1000 > 0 THEN 'TIME' END, CASE WHEN i % 1000 > 0 THEN random() - 0.48 END,
    CASE WHEN i % 1000 > 0 THEN random() < 0.5 END
FROM (
    SELECT i, $1::timestamptz + ($2::timestamptz - $1::timestamptz) * (i / $4::double precision) AS at
    FROM generate_series(1, $4::integer) AS i
) AS made
"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def seed(dsn: str, rows: int, symbols: int) -> None:
    """Migrate, fill, and let the views' own migrations count."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    since = until - timedelta(minutes=15) * (rows // symbols)
    with tempfile.TemporaryDirectory() as part:
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.name < COUNTED_BY:
                shutil.copy(path, part)
        await migrate(dsn, Path(part))
    async with open_pool(dsn, connections_max=1, command_timeout_ms=3_600_000) as pool, pool.connection() as connection:
        await connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'")
        months = [since.date() + timedelta(days=28 * i) for i in range((until - since).days // 28 + 2)]
        for table in ("ml_predictions", "candles"):
            await connection.execute("SELECT create_month_partitions($1, $2::date[])", table, [*months, until.date()])
        at, started = since, time.monotonic()
        features = bytes(960)
        while at < until:
            following = min(at + timedelta(days=1), until)
            await connection.execute(FORECASTS, at, following, symbols, features)
            at = following
        for statement in OTHERS:
            await connection.execute(statement, *((since, until) if "$1" in statement else ()))
        await connection.execute(SIGNALS, since, until, symbols, rows // SIGNALS_EVERY)
        await connection.execute(
            "INSERT INTO ml_strategy_stale (strategy, day) SELECT DISTINCT strategy, day"
            " FROM ml_strategy_signals,"
            " LATERAL (SELECT (t AT TIME ZONE 'UTC')::date AS day FROM (VALUES (entry_time), (exit_time)) AS t (t)) d"
            " WHERE day IS NOT NULL ON CONFLICT DO NOTHING"
        )
        say(f"{rows:,} forecasts in {time.monotonic() - started:.0f} s")
    await migrate(dsn)
    async with open_pool(dsn, connections_max=2, command_timeout_ms=3_600_000) as pool:
        await refresh(pool)
        async with pool.connection() as connection:
            await connection.execute("VACUUM (ANALYZE, FREEZE)")
    say(f"counted after {time.monotonic() - started:.0f} s")


def questions() -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Yield the name of each question of Grafana, Metabase and the report, its SQL and its parameters."""
    now = datetime.now(UTC)
    month = now - timedelta(days=30)
    for board in DASHBOARDS:
        for panel in board.panels:
            if isinstance(panel.queries, str):
                yield f"grafana: {panel.title}", expanded(panel.queries, month, now), ()
    for board_ in dashboards():
        for question in board_.questions:
            yield f"metabase: {question.name}", question.sql, ()
    for name, statement in QUESTIONS.items():
        since: date = month.date()
        yield f"report: {name}", statement, () if name in WITHOUT_A_DAY else (since,)


async def ask(dsn: str) -> list[dict[str, Any]]:
    """Return for each question its median time in ms, its rows, and its plan where it is over the limit."""
    import asyncpg

    found = []
    connection = await asyncpg.connect(as_reader(dsn))
    await connection.execute("SET jit = off; SET statement_timeout = '60s'")
    for name, statement, values in questions():
        times = []
        for _ in range(TIMES):
            started = time.perf_counter()
            rows = await connection.fetch(statement, *values)
            times.append(1000 * (time.perf_counter() - started))
        taken: dict[str, Any] = {
            "name": name,
            "ms": round(statistics.median(times), 1),
            "first_ms": round(times[0], 1),
            "rows": len(rows),
        }
        if taken["ms"] > LIMIT_MS:
            plan = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *values)
            taken["plan"] = "\n".join(row[0] for row in plan)
        found.append(taken)
    await connection.close()
    return sorted(found, key=lambda one: -float(one["ms"]))


async def run(directory: Path, rows: int, symbols: int) -> list[dict[str, Any]]:
    done = directory / "seeded"
    async with EmbeddedPostgres(directory / "postgres", directory / "postgres.log") as postgres:
        if not (done.exists() and done.read_text() == f"{rows} {symbols}"):
            await seed(postgres.dsn, rows, symbols)
            done.write_text(f"{rows} {symbols}")
        await migrate(postgres.dsn)
        await let_reader_in(postgres.dsn, PASSWORD)
        return await ask(postgres.dsn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the database is, or is made")
    parser.add_argument("--rows", type=int, default=10_000_000, help="forecasts (default %(default)s)")
    parser.add_argument("--symbols", type=int, default=1_000, help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON alone on standard output")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(run(args.directory.absolute(), args.rows, args.symbols))
    slow = [one for one in found if one["ms"] > LIMIT_MS]
    if args.json:
        print(
            json.dumps({"rows": args.rows, "symbols": args.symbols, "limit_ms": LIMIT_MS, "questions": found}, indent=1)
        )
    else:
        for one in found[:40]:
            print(f"{one['ms']:9.1f} ms  first {one['first_ms']:9.1f} ms  {one['rows']:6d} rows  {one['name']}")
        for one in slow:
            print(f"\n{one['name']}\n{one['plan']}")
    say(f"{len(found)} questions, {len(slow)} over {LIMIT_MS:.0f} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
