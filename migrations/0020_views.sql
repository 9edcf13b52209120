-- Why: dashboards read views, never tables; and what they ask about months of forecasts is counted while these are written,
-- so that a page costs the same over ten million of them as over a thousand.
-- Why safe: creates only; the counts of what is stored already are taken once, which reads every forecast.

-- Counts by the hour of the close. `record` adds to them in the transaction that writes the forecasts, and a forecast that
-- was there already is not counted again, nor is a shadow's. They outlive the forecasts: retention does not touch them.
CREATE TABLE ml_prediction_hours (
    hour            timestamptz NOT NULL,
    interval_ms     bigint NOT NULL,
    model           text COLLATE "C" NOT NULL,
    version         integer NOT NULL,
    direction       text NOT NULL,
    strength        text NOT NULL,
    confidence_bin  smallint NOT NULL,           -- of 0.05: 13 is 0.65 up to 0.7; -1: no number
    forecasts       bigint NOT NULL,
    confidence_sum  double precision NOT NULL,
    quality_sum     double precision NOT NULL,
    move_sum        double precision NOT NULL,
    gap_filled      bigint NOT NULL,
    degraded        bigint NOT NULL,
    gate_approved   bigint NOT NULL,
    gate_refused    bigint NOT NULL,
    nan_features    bigint NOT NULL,
    still_features  bigint NOT NULL,             -- that did not move within their window
    PRIMARY KEY (hour, model, version, interval_ms, direction, strength, confidence_bin)
) WITH (fillfactor = 70);
COMMENT ON TABLE ml_prediction_hours IS 'how many forecasts of which kind closed in an hour';

CREATE TABLE ml_reason_hours (
    hour        timestamptz NOT NULL,
    interval_ms bigint NOT NULL,
    model       text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    reason      text NOT NULL,
    forecasts   bigint NOT NULL,
    PRIMARY KEY (hour, model, version, interval_ms, reason)
) WITH (fillfactor = 70);
COMMENT ON TABLE ml_reason_hours IS 'how often a reason stood against a signal; a forecast may have several';

CREATE TABLE ml_latency_hours (
    hour      timestamptz NOT NULL,      -- in which the forecast was written, not the one it closed in
    stage     text NOT NULL,             -- decode, features, queue, model, interpret; total: their sum
    bucket    smallint NOT NULL,         -- four to the octave: from 2 ^ (bucket / 4) - 1 µs up to that of the next
    forecasts bigint NOT NULL,
    PRIMARY KEY (hour, stage, bucket)
) WITH (fillfactor = 70);
COMMENT ON TABLE ml_latency_hours IS 'where the time of a forecast''s batch went, as a histogram';

CREATE FUNCTION latency_bucket(us integer) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT floor(4 * ln(greatest(us, 0) + 1.0::double precision) / ln(2.0::double precision) + 1e-9)::smallint $$;

INSERT INTO ml_prediction_hours
SELECT
    date_trunc('hour', close_time, 'UTC'), interval_ms, model, version, direction, strength,
    coalesce(least(floor(confidence * 20), 19), -1)::smallint, count(*),
    coalesce(sum(confidence), 0), coalesce(sum(quality), 0), coalesce(sum(move), 0),
    count(*) FILTER (WHERE gap_filled), count(*) FILTER (WHERE degraded), count(*) FILTER (WHERE gate_approved),
    count(*) FILTER (WHERE NOT gate_approved), sum(nan_count), sum(zero_variance_count)
FROM ml_predictions
WHERE NOT shadow
GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO ml_reason_hours
SELECT date_trunc('hour', close_time, 'UTC'), interval_ms, model, version, reason, count(*)
FROM ml_predictions, unnest(reasons) AS reason
WHERE NOT shadow
GROUP BY 1, 2, 3, 4, 5;
INSERT INTO ml_latency_hours
SELECT date_trunc('hour', created_at, 'UTC'), stage, latency_bucket(us), count(*)
FROM ml_predictions, LATERAL (VALUES
    ('decode', decode_us), ('features', features_us), ('queue', queue_us), ('model', model_us),
    ('interpret', interpret_us), ('total', decode_us + features_us + queue_us + model_us + interpret_us)
) AS spent (stage, us)
WHERE NOT shadow
GROUP BY 1, 2, 3;

CREATE VIEW ml_candles AS
SELECT
    symbol, interval_ms, open_time, open_time + interval_ms * interval '1 millisecond' AS close_time,
    open, high, low, close, volume, quote_volume, trades, taker_buy_volume
FROM candles;
COMMENT ON VIEW ml_candles IS 'candles for people';

CREATE VIEW ml_forecasts AS
SELECT
    symbol, interval_ms, close_time, model, version, encode(bundle_sha256, 'hex') AS bundle_sha256,
    close, volume, state, gap_filled, degraded, model_agreement,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    gate_probability, gate_approved, outputs, probabilities, features,
    features_hash, feature_count, nan_count, zero_variance_count, features_mean, features_std, features_min, features_max,
    rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
    decode_us, features_us, queue_us, model_us, interpret_us, created_at,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_direction_1, actual_direction_4, actual_direction_16, actual_direction_48,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48, exit_reason, exit_return, exit_bars,
    rule_score, hybrid_score, size_multiplier
FROM ml_predictions
WHERE NOT shadow;
COMMENT ON VIEW ml_forecasts IS 'answers, for programs: arrays stay bytes, little-endian float32; people read ml_predictions_decoded';

CREATE VIEW ml_missed AS
SELECT symbol, interval_ms, close_time, model, version, reason, created_at FROM ml_missed_predictions;
COMMENT ON VIEW ml_missed IS 'forecasts that were not made while they were worth something, and why';

CREATE VIEW ml_signal_counts AS
SELECT
    hour, interval_ms, model, version, direction, strength,
    nullif(confidence_bin, -1) / 20.0::double precision AS confidence_from, forecasts, confidence_sum, quality_sum, move_sum
FROM ml_prediction_hours;
COMMENT ON VIEW ml_signal_counts IS
    'ml_signal_distribution by the hour, as sums: for who asks about a few days of many and wants the index used';

CREATE VIEW ml_reason_counts AS
SELECT hour, interval_ms, model, version, reason, forecasts FROM ml_reason_hours;
COMMENT ON VIEW ml_reason_counts IS 'ml_reasons_per_day by the hour';

CREATE VIEW ml_predictions_per_day AS
SELECT
    date_trunc('day', hour, 'UTC') AS day, model, version, interval_ms, sum(forecasts)::bigint AS forecasts,
    coalesce(sum(forecasts) FILTER (WHERE direction <> 'NEUTRAL'), 0)::bigint AS signals,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'LONG'), 0)::bigint AS longs,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'SHORT'), 0)::bigint AS shorts,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'NEUTRAL'), 0)::bigint AS neutrals,
    sum(confidence_sum) / nullif(sum(forecasts) FILTER (WHERE confidence_bin >= 0), 0) AS mean_confidence,
    sum(quality_sum) / sum(forecasts) AS mean_quality,
    sum(gap_filled)::bigint AS gap_filled, sum(degraded)::bigint AS degraded,
    sum(gate_approved)::bigint AS gate_approved, sum(gate_refused)::bigint AS gate_refused,
    sum(nan_features)::bigint AS nan_features, sum(still_features)::bigint AS still_features
FROM ml_prediction_hours
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_predictions_per_day IS 'forecasts by the day of their close, UTC';

CREATE VIEW ml_predictions_per_hour AS
SELECT
    hour, model, version, interval_ms, sum(forecasts)::bigint AS forecasts,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'LONG'), 0)::bigint AS longs,
    coalesce(sum(forecasts) FILTER (WHERE direction = 'SHORT'), 0)::bigint AS shorts,
    sum(confidence_sum) / nullif(sum(forecasts) FILTER (WHERE confidence_bin >= 0), 0) AS mean_confidence,
    sum(quality_sum) / sum(forecasts) AS mean_quality,
    sum(nan_features)::double precision / sum(forecasts) AS nan_features,
    sum(still_features)::double precision / sum(forecasts) AS still_features
FROM ml_prediction_hours
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_predictions_per_hour IS 'forecasts by the hour of their close; features that are NaN, and that do not move, for each forecast';

CREATE VIEW ml_signal_distribution AS
SELECT
    date_trunc('day', hour, 'UTC') AS day, model, version, interval_ms, direction, strength,
    nullif(confidence_bin, -1) / 20.0::double precision AS confidence_from,
    sum(forecasts)::bigint AS forecasts,
    sum(confidence_sum) / sum(forecasts) AS mean_confidence, sum(quality_sum) / sum(forecasts) AS mean_quality,
    sum(move_sum) / sum(forecasts) AS mean_move
FROM ml_prediction_hours
GROUP BY 1, 2, 3, 4, 5, 6, confidence_bin;
COMMENT ON VIEW ml_signal_distribution IS 'forecasts by direction, strength and confidence, in steps of 0.05';

CREATE VIEW ml_reasons_per_day AS
SELECT date_trunc('day', hour, 'UTC') AS day, model, version, interval_ms, reason, sum(forecasts)::bigint AS forecasts
FROM ml_reason_hours
GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW ml_reasons_per_day IS 'why there was no signal; a forecast may have several reasons';

CREATE VIEW ml_missed_per_day AS
SELECT date_trunc('day', close_time, 'UTC') AS day, model, version, reason, count(*) AS missed
FROM ml_missed_predictions
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_missed_per_day IS 'forecasts that were not made';

CREATE VIEW ml_latency_per_hour AS
WITH counted AS (
    SELECT
        hour, stage, 2 ^ ((bucket + 1) / 4.0::double precision) - 1 AS below_us,
        sum(forecasts) OVER (PARTITION BY hour, stage ORDER BY bucket) AS so_far,
        sum(forecasts) OVER (PARTITION BY hour, stage) AS forecasts
    FROM ml_latency_hours
)
SELECT
    hour, stage, max(forecasts)::bigint AS forecasts,
    min(below_us) FILTER (WHERE so_far >= 0.50 * forecasts) AS p50_us,
    min(below_us) FILTER (WHERE so_far >= 0.95 * forecasts) AS p95_us,
    min(below_us) FILTER (WHERE so_far >= 0.99 * forecasts) AS p99_us
FROM counted
GROUP BY hour, stage;
COMMENT ON VIEW ml_latency_per_hour IS
    'percentiles of a stage''s time by the hour in which forecasts were written; the upper edge of a bucket: at most a fifth above';

CREATE VIEW ml_model_registry AS
SELECT
    name AS model, version, encode(bundle_sha256, 'hex') AS bundle_sha256, family, target, horizon_bars, interval_ms,
    feature_set, cardinality(features) AS feature_count, optional_inputs, reference_symbol, symbols,
    data_from, data_to, code_commit, metrics, session_id, state, deployed_at, created_at, updated_at
FROM ml_models;
COMMENT ON VIEW ml_model_registry IS 'every bundle that was trained, and its state';

CREATE VIEW ml_feature_definitions AS
SELECT feature_set, index, name, version, group_name, formula, convention, warmup_bars, low, high FROM ml_features;
COMMENT ON VIEW ml_feature_definitions IS 'what a feature is';

CREATE VIEW ml_order_flow AS
SELECT
    symbol, ts, gate_asked, tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol,
    gate_probability, gate_approved, degraded, created_at
FROM order_flow_features;
COMMENT ON VIEW ml_order_flow IS 'what the gate saw and said';

CREATE VIEW ml_model_history AS
SELECT at, model, version, encode(bundle_sha256, 'hex') AS bundle_sha256, from_state, to_state, who, why, metrics
FROM ml_model_events;
COMMENT ON VIEW ml_model_history IS 'who moved which version to which state, when and why';
