-- What the dashboard asks. It reads views alone (migrations/0020_views.sql and those of other tables).

-- name: newest_forecasts
-- The newest forecast of every symbol, $1 symbols at most. Each step is two look-ups in the primary key.
WITH RECURSIVE found AS (
    (SELECT symbol FROM ml_forecasts ORDER BY symbol LIMIT 1)  -- min() looks at a table's index, not through a view's join
    UNION ALL
    SELECT (SELECT f.symbol FROM ml_forecasts AS f WHERE f.symbol > found.symbol ORDER BY f.symbol LIMIT 1)
    FROM found
    WHERE found.symbol IS NOT NULL
)
SELECT
    newest.symbol, newest.interval_ms, newest.close_time, newest.model, newest.version, newest.state,
    newest.gap_filled, newest.degraded, newest.direction, newest.strength, newest.confidence, newest.quality,
    newest.agreement, newest.move, newest.edge, newest.stop_loss, newest.take_profit, newest.reasons,
    newest.gate_probability, newest.gate_approved, newest.outputs, newest.decode_us, newest.features_us,
    newest.queue_us, newest.model_us, newest.interpret_us
FROM (SELECT symbol FROM found WHERE symbol IS NOT NULL LIMIT $1) AS named
CROSS JOIN LATERAL (
    SELECT f.* FROM ml_forecasts AS f WHERE f.symbol = named.symbol ORDER BY f.close_time DESC LIMIT 1
) AS newest;

-- name: clock
SELECT now() AS now;

-- name: candles_of_symbol
-- The $4 newest candles of symbol $1 and interval $2 that open before $3.
SELECT open_time, open, high, low, close, volume
FROM ml_candles
WHERE symbol = $1 AND interval_ms = $2 AND open_time < $3
ORDER BY open_time DESC
LIMIT $4;

-- name: intervals_of_symbol
-- The intervals of a symbol's candles, each with its newest open. Each step is one look-up in the primary key.
WITH RECURSIVE found AS (
    SELECT min(interval_ms) AS interval_ms FROM ml_candles WHERE symbol = $1
    UNION ALL
    SELECT (SELECT min(c.interval_ms) FROM ml_candles AS c WHERE c.symbol = $1 AND c.interval_ms > found.interval_ms)
    FROM found
    WHERE found.interval_ms IS NOT NULL
)
SELECT interval_ms FROM found WHERE interval_ms IS NOT NULL LIMIT 20;

-- name: forecasts_of_symbol
-- Of symbol $1 and interval $2, closes in [$3, $4], oldest first, $5 at most.
SELECT
    close_time, model, version, close, state, gap_filled, degraded, direction, strength, confidence, quality, agreement,
    move, edge, stop_loss, take_profit, reasons, gate_probability, gate_approved, outputs, probabilities,
    nan_count, zero_variance_count, decode_us, features_us, queue_us, model_us, interpret_us, created_at,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48, hit_1, hit_4, hit_16, hit_48,
    exit_reason, exit_return, exit_bars, rule_score, hybrid_score, size_multiplier
FROM ml_forecasts
WHERE symbol = $1 AND interval_ms = $2 AND close_time >= $3 AND close_time <= $4
ORDER BY close_time
LIMIT $5;

-- name: forecasts_per_hour
SELECT
    hour, sum(forecasts)::bigint AS forecasts, sum(longs)::bigint AS longs, sum(shorts)::bigint AS shorts,
    sum(nan_features * forecasts) / sum(forecasts) AS nan_features,
    sum(still_features * forecasts) / sum(forecasts) AS still_features
FROM ml_predictions_per_hour
WHERE hour >= $1 AND hour < $2
GROUP BY hour
ORDER BY hour;

-- name: newest_hour
SELECT hour FROM ml_signal_counts ORDER BY hour DESC LIMIT 1;

-- name: confidence_distribution
SELECT confidence_from, direction, sum(forecasts)::bigint AS forecasts
FROM ml_signal_counts
WHERE hour >= $1 AND confidence_from IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: reasons
SELECT reason, sum(forecasts)::bigint AS forecasts
FROM ml_reason_counts
WHERE hour >= $1
GROUP BY 1
ORDER BY 2 DESC;

-- name: latency_hours
SELECT hour, stage, forecasts, p50_us, p95_us, p99_us
FROM ml_latency_per_hour
WHERE hour >= $1
ORDER BY hour, stage;

-- name: missed
-- By day, as ml_missed_per_day, of closes since $1: that is found by index.
SELECT date_trunc('day', close_time, 'UTC') AS day, model, version, reason, count(*) AS missed
FROM ml_missed
WHERE close_time >= date_trunc('day', $1::timestamptz, 'UTC')
GROUP BY 1, 2, 3, 4
ORDER BY day DESC
LIMIT 100;

-- name: models
-- Newest first. $1 how many, $2 how many to pass over.
SELECT
    model, version, bundle_sha256, family, target, horizon_bars, interval_ms, feature_set, feature_count,
    optional_inputs, reference_symbol, cardinality(symbols) AS symbol_count, data_from, data_to, code_commit, metrics,
    session_id, state, deployed_at, created_at, updated_at, count(*) OVER () AS total
FROM ml_model_registry
ORDER BY created_at DESC, model, version DESC
LIMIT $1 OFFSET $2;

-- name: newest_version
SELECT max(version) AS version FROM ml_model_registry WHERE model = $1;

-- name: trainings
-- Newest first. $1 how many, $2 how many to pass over.
SELECT
    id, model, version, family, target, status, phase, step, steps, loss, validation_loss, cardinality(symbols) AS symbol_count,
    data_from, data_to, data_points, started_at, updated_at, finished_at, duration_s, error, count(*) OVER () AS total
FROM ml_trainings
ORDER BY started_at DESC
LIMIT $1 OFFSET $2;

-- name: training
SELECT
    id, model, version, family, target, status, phase, step, steps, loss, validation_loss, cardinality(symbols) AS symbol_count,
    data_from, data_to, data_points, started_at, updated_at, finished_at, duration_s, error, 1 AS total
FROM ml_trainings
WHERE id = $1;

-- name: training_status
SELECT strategy, version, status, last_training, model_accuracy, duration_s, data_points, error FROM ml_training_status;

-- name: model_skill
SELECT model, version, source, measured_at, horizon, log_loss, base_log_loss, skill, low, high, data_points
FROM ml_model_skill
WHERE fold = 0
ORDER BY measured_at DESC, model, version, horizon
LIMIT 200;

-- name: models_with_importance
SELECT model, version, max(calculated_at) AS calculated_at, min(method) AS method
FROM ml_feature_importance_now
GROUP BY model, version
ORDER BY 3 DESC;

-- name: top_features
-- Of the newest importance of model $1 (NULL: the model measured last), version $2 (NULL: its newest). $3 how many.
WITH chosen AS (
    SELECT model, version
    FROM ml_feature_importance_now
    WHERE ($1::text IS NULL OR model = $1) AND ($2::integer IS NULL OR version = $2)
    ORDER BY calculated_at DESC, version DESC
    LIMIT 1
)
SELECT
    model, version, calculated_at, feature, index, score, rank, correlation, correlation_bars, gain, method
FROM ml_feature_importance_now
JOIN chosen USING (model, version)
ORDER BY rank
LIMIT $3;

-- name: importance_history
-- $1 feature, $2 model or NULL, $3 how many: the newest.
SELECT model, version, calculated_at, feature, score, rank, correlation, score_change, ranks_gained
FROM ml_feature_importance_evolution
WHERE feature = $1 AND ($2::text IS NULL OR model = $2)
ORDER BY calculated_at DESC, version DESC
LIMIT $3;

-- name: feature_definition
SELECT feature_set, index, name, version, group_name, formula, convention, warmup_bars, low, high
FROM ml_feature_definitions
WHERE name = $1
ORDER BY version DESC
LIMIT 1;

-- name: newest_rows
-- The feature rows of the $1 newest forecasts that closed at $2 or before.
SELECT close_time, features FROM ml_forecasts WHERE close_time <= $2 ORDER BY close_time DESC LIMIT $1;

-- name: accuracy_models
SELECT model, version, interval_ms, max(day) AS newest_day, sum(forecasts)::bigint AS forecasts
FROM ml_accuracy_bins
GROUP BY 1, 2, 3
ORDER BY 4 DESC, 2 DESC, 1;

-- name: accuracy_horizons
-- Of model $1, version $2, interval $3 since day $4.
SELECT
    horizon_bars, sum(forecasts)::bigint AS forecasts, sum(hits)::float8 / sum(forecasts)::float8 AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals))::float8 / sum(forecasts)::float8 AS base_rate,
    sum(side_hits)::float8 / nullif(sum(longs) + sum(shorts), 0)::float8 AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::float8 AS log_loss,
    base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::float8
        / nullif(base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8), 0) AS skill,
    sum(confidence) / sum(forecasts)::float8 AS mean_confidence, sum(error) / sum(forecasts)::float8 AS bias,
    sum(error_size) / sum(forecasts)::float8 AS mae, sum(return_size) / sum(forecasts)::float8 AS base_mae
FROM ml_accuracy_bins
WHERE model = $1 AND version = $2 AND interval_ms = $3 AND day >= $4
GROUP BY 1
ORDER BY 1;

-- name: calibration
SELECT
    horizon_bars, confidence_from, sum(forecasts)::bigint AS forecasts,
    sum(confidence) / sum(forecasts)::float8 AS mean_confidence, sum(hits)::float8 / sum(forecasts)::float8 AS hit_rate
FROM ml_accuracy_bins
WHERE model = $1 AND version = $2 AND interval_ms = $3 AND day >= $4
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: accuracy_days
SELECT
    day, horizon_bars, sum(forecasts)::bigint AS forecasts, sum(hits)::float8 / sum(forecasts)::float8 AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals))::float8 / sum(forecasts)::float8 AS base_rate,
    sum(confidence) / sum(forecasts)::float8 AS mean_confidence
FROM ml_accuracy_bins
WHERE model = $1 AND version = $2 AND interval_ms = $3 AND day >= $4
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: exits
SELECT
    direction, exit_reason, sum(signals)::bigint AS signals, sum(wins)::bigint AS wins,
    sum(mean_return * signals) / sum(signals)::float8 AS mean_return, sum(mean_bars * signals) / sum(signals)::float8 AS mean_bars
FROM ml_stop_take_effectiveness
WHERE model = $1 AND version = $2 AND interval_ms = $3 AND day >= $4
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: trades_of_symbol
-- Of symbol $1, entered in [$2, $3], oldest first, $4 at most.
SELECT strategy, side, status, entry_time, entry_price, size, exit_time, exit_price, exit_reason, pnl
FROM ml_signal_log
WHERE symbol = $1 AND entry_time >= $2 AND entry_time <= $3
ORDER BY entry_time
LIMIT $4;

-- name: strategies
SELECT
    strategy, signals, closed, open_positions, wins, losses, total_pnl, avg_pnl, gross_profit, gross_loss, fees, win_rate,
    profit_factor, expectancy, mean_return, sharpe, trade_sharpe, max_drawdown, mean_holding_s, first_day, last_day
FROM ml_strategy_performance
ORDER BY total_pnl DESC, strategy;

-- name: strategy_days
-- Of the strategies $1, day by day.
SELECT strategy, day, opened, closed, pnl, total_pnl, fall_from_peak
FROM ml_risk_per_day
WHERE strategy = ANY($1::text[])
ORDER BY strategy, day;

-- name: strategy_symbols
-- Of strategy $1; $2 how many, $3 how many to pass over. Without what needs the order of days: that costs tenfold.
SELECT
    symbol, sum(opened)::bigint AS signals, sum(closed)::bigint AS closed, sum(wins)::bigint AS wins,
    sum(pnl) AS total_pnl, sum(wins)::float8 / nullif(sum(closed), 0)::float8 AS win_rate,
    sum(gross_profit) / nullif(sum(gross_loss), 0) AS profit_factor, sum(fees) AS fees, count(*) OVER () AS total
FROM ml_strategy_day_counts
WHERE strategy = $1 AND symbol <> ''
GROUP BY symbol
ORDER BY total_pnl DESC, symbol
LIMIT $2 OFFSET $3;

-- name: strategy_trades
-- The newest exits of strategy $1, $2 at most.
SELECT symbol, side, entry_time, entry_price, size, exit_time, exit_price, exit_reason, fees, pnl, return, holding_s, confidence
FROM ml_trades
WHERE strategy = $1
ORDER BY exit_time DESC
LIMIT $2;

-- name: strategy_positions
SELECT symbol, side, entry_time, entry_price, open_size, size, confidence
FROM ml_positions
WHERE strategy = $1
ORDER BY entry_time DESC
LIMIT $2;

-- name: signal_quality
SELECT quality_from, sum(trades)::bigint AS trades, sum(wins)::bigint AS wins, sum(mean_return * trades) / sum(trades)::float8 AS mean_return
FROM ml_signal_quality
WHERE strategy = $1
GROUP BY 1
ORDER BY 1;

-- name: model_states
SELECT model, version, bundle_sha256, state, since, who, why FROM ml_model_states ORDER BY model, version DESC LIMIT 200;

-- name: model_history
SELECT at, model, version, from_state, to_state, who, why FROM ml_model_history ORDER BY at DESC LIMIT $1;

-- name: drift_now
-- Since: from when on it has drifted without a break.
WITH newest AS (SELECT model, version, measured_at FROM ml_drift ORDER BY measured_at DESC LIMIT 1)
SELECT
    d.model, d.version, d.measured_at, d.subject, d.psi, d.ks, d.usual_psi, d.usual_ks, d.worst, d.before, d.after, d.drifting,
    d.against, d.reference_from, d.reference_to, d.reference_rows, d.newest_rows, CASE WHEN d.drifting THEN (
        SELECT min(e.measured_at) FROM ml_drift AS e
        WHERE e.model = d.model AND e.version = d.version AND e.subject = d.subject AND e.drifting AND e.measured_at > coalesce((
            SELECT max(f.measured_at) FROM ml_drift AS f
            WHERE f.model = d.model AND f.version = d.version AND f.subject = d.subject AND NOT f.drifting), '-infinity')
    ) END AS since
FROM ml_drift AS d
JOIN newest USING (model, version, measured_at)
ORDER BY d.drifting DESC, d.psi - coalesce(d.usual_psi, 0) DESC NULLS LAST, d.subject;
