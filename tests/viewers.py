"""A schema for those who look: rows of the last days in every view, the address of the reader, Grafana's macros."""

import re
import time
from urllib.parse import quote

from candlecast.store.cluster import READER
from candlecast.store.migrate import migrate
from candlecast.store.performance import refresh
from candlecast.store.pool import open_pool
from candlecast.store.reader import let_reader_in

INTERVAL_MS = 900_000
PASSWORD = "looks-but-never-touches"
NOW_MS = int(time.time() * 1000) // INTERVAL_MS * INTERVAL_MS
BARS = 200
MORE = """
INSERT INTO ml_missed_predictions VALUES ('BTCUSDT', 900000, now() - interval '1 hour', 'patchtst', 3, 'X TOO_OLD');
INSERT INTO ml_features (feature_set, index, name, version, group_name, formula, convention, warmup_bars, low, high)
    VALUES ('v1', 0, 'rsi_14', 1, 'momentum', 'rsi(close, 14)', '', 14, 0, 100),
           ('v1', 1, 'natr_14', 1, 'volatility', 'x', '', 14, 0, 1);
INSERT INTO ml_feature_importance
    SELECT 'patchtst', version, now() - interval '1 day' * (4 - version), feature, index, score, index + 1, 0.01, 16,
        NULL, 'integrated_gradients', NULL
    FROM generate_series(1, 3) AS version,
        (VALUES ('rsi_14', 0, 0.7), ('natr_14', 1, 0.3)) AS f (feature, index, score);
INSERT INTO ml_training_sessions (id, model, version, family, target, horizon_bars, status, started_at, updated_at)
    VALUES (gen_random_uuid(), 'patchtst', 3, 'patchtst', 'forecast', '{1,4,16,48}', 'finished', now(), now());
INSERT INTO ml_model_performance (
    model, version, bundle_sha256, source, measured_at, fold, horizon, metric, value, base, data_points)
    VALUES ('patchtst', 3, '\\x00', 'walk_forward', now(), 0, '1h', 'log_loss', 1.05, 1.08, 1000);
INSERT INTO ml_drift_measures (
    model, version, measured_at, reference_from, reference_to, newest_from, newest_to, reference_rows, newest_rows,
    subject, psi, ks, usual_psi, usual_ks, worst, before, after, drifting, alerted, against)
    SELECT 'patchtst', 3, now() - interval '1 hour' * (2 - hour), now() - interval '90 days',
        now() - interval '30 days', now() - interval '1 day', now(), 50000, 900, d.*
    FROM generate_series(1, 2) AS hour, (VALUES
        ('momentum', 0.9, 0.4, 0.3, 0.15, 'rsi_14', NULL::float8, NULL::float8, true, false, 'BUNDLE'),
        ('confidence', 0.1, 0.05, 0.1, 0.05, NULL, NULL, NULL, false, false, 'BUNDLE'),
        ('error', NULL, NULL, NULL, NULL, NULL, 0.4, 0.5, true, false, 'ITSELF')) AS d;
UPDATE ml_strategy_signals SET status = 'OPEN', exit_price = NULL, exit_time = NULL, exit_reason = NULL, pnl = NULL,
    is_winner = NULL, closed_size = 0, closed_value = 0
WHERE id IN (SELECT id FROM ml_strategy_signals WHERE status = 'CLOSED' ORDER BY entry_time LIMIT 3);
"""


async def filled(dsn: str) -> str:
    """Fill a schema of its own, `looked_at`, in a database; return the address of the schema for the reader."""
    from tests.integration.test_outcomes import settle, told, walk, write

    async with open_pool(dsn) as pool:
        await pool.fetch("CREATE SCHEMA looked_at")
    dsn = f"{dsn}&search_path=looked_at"
    await migrate(dsn)
    async with open_pool(dsn) as pool:
        for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
            bars = walk(BARS, symbol=symbol, seed=seed, start_ms=NOW_MS - BARS * INTERVAL_MS)
            await write(pool, bars, told(bars, seed=seed))
            await settle(pool, (symbol, INTERVAL_MS), sure_s=0)
        async with pool.connection() as connection:
            await connection.execute(MORE)
        await refresh(pool)
    assert await let_reader_in(dsn, PASSWORD) > 30
    return as_reader(dsn)


def as_reader(dsn):
    """The same address with another user and password."""
    where = re.sub(r"&?passfile=[^&]*", "", dsn.partition("//")[2].partition("@")[2])
    return f"postgresql://{READER}:{quote(PASSWORD)}@{where}"


def expanded(sql, since, until):
    """Put in what Grafana puts in for its macros."""
    return re.sub(
        r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN '{since:%Y-%m-%dT%H:%M:%SZ}' AND '{until:%Y-%m-%dT%H:%M:%SZ}'", sql
    )
