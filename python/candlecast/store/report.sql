-- What `candlecast report` asks: of views alone. $1 is the first day, UTC.

-- name: per_day
SELECT
    (hour AT TIME ZONE 'UTC')::date AS day,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'LONG'), 0)::bigint AS longs,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'SHORT'), 0)::bigint AS shorts,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'NEUTRAL'), 0)::bigint AS neutrals,
    sum(gap_filled)::bigint AS gap_filled, sum(degraded)::bigint AS degraded
FROM ml_prediction_counts
WHERE hour >= $1::date
GROUP BY 1
ORDER BY 1;

-- name: models
SELECT
    model, version, sum(forecasts)::bigint AS forecasts,
    coalesce(sum(forecasts) FILTER (WHERE direction <> 'NEUTRAL'), 0)::bigint AS signals,
    sum(confidence_sum) / nullif(sum(forecasts) FILTER (WHERE confidence_from IS NOT NULL), 0) AS mean_confidence
FROM ml_prediction_counts
WHERE hour >= $1::date
GROUP BY model, version
ORDER BY forecasts DESC;

-- name: confidence
SELECT confidence_from, sum(forecasts)::bigint AS forecasts
FROM ml_prediction_counts
WHERE hour >= $1::date AND confidence_from IS NOT NULL
GROUP BY confidence_from
ORDER BY confidence_from;

-- name: reasons
SELECT reason, sum(forecasts)::bigint AS forecasts
FROM ml_reasons_per_day
WHERE day >= $1::date
GROUP BY reason
ORDER BY forecasts DESC
LIMIT 15;

-- name: missed
SELECT reason, sum(missed)::bigint AS missed
FROM ml_missed_per_day
WHERE day >= $1::date
GROUP BY reason
ORDER BY missed DESC
LIMIT 15;

-- name: latency
SELECT hour, p50_us, p95_us, p99_us FROM ml_latency_per_hour WHERE stage = 'total' AND hour >= $1::date ORDER BY hour;

-- name: accuracy
SELECT
    horizon_bars, sum(forecasts)::bigint AS forecasts, sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals)) / sum(forecasts)::double precision AS base_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_log_loss,
    sum(error_size) / sum(forecasts)::double precision AS mae, sum(return_size) / sum(forecasts)::double precision AS base_mae
FROM ml_accuracy_bins
WHERE day >= $1::date
GROUP BY horizon_bars
ORDER BY horizon_bars;

-- name: calibration
SELECT
    horizon_bars, sum(confidence) / sum(forecasts)::double precision AS mean_confidence,
    sum(hits) / sum(forecasts)::double precision AS hit_rate, sum(forecasts)::bigint AS forecasts
FROM ml_accuracy_bins
WHERE day >= $1::date
GROUP BY horizon_bars, confidence_from
HAVING sum(forecasts) >= 30
ORDER BY horizon_bars, confidence_from;

-- name: skill
SELECT
    day, horizon_bars, 1 - sum(log_loss) / sum(forecasts)::double precision
        / nullif(base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8), 0) AS skill
FROM ml_accuracy_bins
WHERE day >= $1::date
GROUP BY day, horizon_bars
HAVING sum(forecasts) >= 30
ORDER BY day, horizon_bars;

-- name: exits
SELECT
    direction, exit_reason, sum(signals)::bigint AS signals, sum(wins) / sum(signals)::double precision AS win_rate,
    sum(mean_return * signals) / sum(signals)::double precision AS mean_return,
    sum(mean_bars * signals) / sum(signals)::double precision AS mean_bars
FROM ml_exits
WHERE day >= $1::date
GROUP BY direction, exit_reason
ORDER BY direction, exit_reason;

-- name: strategies
SELECT
    strategy, sum(opened)::bigint AS opened, sum(closed)::bigint AS closed,
    sum(wins) / nullif(sum(closed), 0)::double precision AS win_rate, sum(pnl) AS pnl,
    sum(gross_profit) / nullif(sum(gross_loss), 0) AS profit_factor, sum(fees) AS fees
FROM ml_strategy_daily
WHERE symbol = '' AND day >= $1::date
GROUP BY strategy
ORDER BY pnl DESC;

-- name: equity
SELECT strategy, day, sum(pnl) OVER (PARTITION BY strategy ORDER BY day) AS total_pnl
FROM ml_strategy_daily
WHERE symbol = '' AND day >= $1::date
ORDER BY strategy, day;

-- name: exposure
SELECT strategy, symbol, side, positions, exposure, oldest_entry FROM ml_exposure ORDER BY exposure DESC LIMIT 15;

-- name: importance
WITH newest AS (
    SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1
)
SELECT model, version, feature, score
FROM ml_feature_importance_now
JOIN newest USING (model, version)
ORDER BY rank
LIMIT 20;

-- name: features
SELECT
    hour, sum(nan_features * forecasts) / sum(forecasts) AS nan_features,
    sum(still_features * forecasts) / sum(forecasts) AS still_features
FROM ml_predictions_per_hour
WHERE hour >= $1::date
GROUP BY hour
ORDER BY hour;

-- name: trainings
SELECT model, version, family, status, data_points, duration_s, started_at, error
FROM ml_trainings
WHERE started_at >= $1::date
ORDER BY started_at DESC
LIMIT 15;
