-- Seeds for pages.py: $1 first close, $2 symbols, $3 bars of each, $4 interval in ms, $5 days.

-- name: forecasts
INSERT INTO ml_prediction_rows (
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, close, state, gap_filled,
    features, features_hash, feature_count, nan_count, zero_variance_count, outputs, probabilities, direction,
    strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    decode_us, features_us, queue_us, model_us, interpret_us, created_at)
SELECT
    'S' || lpad(s::text, 4, '0') || 'USDT', $4, $1::timestamptz + b * interval '15 minutes', 'patchtst', 1, '\x00', 1,
    100 + s, 'READY', false, decode(repeat('00', 16), 'hex'), 1, 4, 0, 0, decode(repeat('00', 80), 'hex'),
    decode(repeat('00', 48), 'hex'), (ARRAY['LONG', 'SHORT', 'NEUTRAL', 'NEUTRAL', 'NEUTRAL'])[1 + (s * 7 + b) % 5],
    (ARRAY['WEAK', 'NORMAL'])[1 + b % 2], 0.5 + (s * 31 + b * 17) % 50 / 100.0, 0.5, 0.6, 0.7, 0.1, 0.01, 0.02,
    '{LOW_CONFIDENCE}', 10, 100 + b % 50, 20, 2000 + (s * b) % 3000, 30, $1::timestamptz + b * interval '15 minutes'
FROM generate_series(1, $3::bigint) AS b, generate_series(1, $2::bigint) AS s;

-- name: candles
INSERT INTO candles (symbol, interval_ms, open_time, open, high, low, close, volume)
SELECT
    'S' || lpad(s::text, 4, '0') || 'USDT', $4, $1::timestamptz + (b - 1) * interval '15 minutes', 100, 101, 99, 100, 5
FROM generate_series(1, $3::bigint) AS b, generate_series(1, $2::bigint) AS s;

-- name: accuracy
INSERT INTO ml_accuracy_counts
SELECT
    'patchtst', 1, $2, 'S' || lpad(s::text, 4, '0') || 'USDT', ($1::timestamptz + d * interval '1 day')::date,
    h, bin, 16, 6, 5, 5, 6, 5, 16 * bin / 20.0, 17, 10, 0.001, 0.02, 0.001, 0.02
FROM generate_series(0, $3::bigint) AS d, generate_series(1, $4::bigint) AS s, unnest('{1,4,16,48}'::smallint[]) AS h,
    generate_series(7, 12) AS bin;

-- name: strategies
INSERT INTO ml_strategy_days
SELECT
    'strategy_' || k, CASE s WHEN 0 THEN '' ELSE 'S' || lpad(s::text, 4, '0') || 'USDT' END,
    ($1::timestamptz + d * interval '1 day')::date, 5, 5, 2, 3, k * (d % 7 - 3), 10, 12, 1, 0.01, 0.001, 3600, 2, -2, 3
FROM generate_series(0, $2::bigint) AS d, generate_series(0, $3::bigint) AS s, generate_series(1, 5) AS k;
