-- The statements of the store. `-- name:` begins one; queries.py gives it to Python by that name.

-- name: record
-- One round trip and one commit for candles and forecasts; a key that is there already keeps its first values.
WITH candle AS (
    INSERT INTO candles (
        symbol, interval_ms, open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume,
        accepted_ns)
    SELECT
        symbol, interval_ms, to_timestamp(open_time_ms / 1000.0::double precision),
        open, high, low, close, volume, quote_volume, trades, taker_buy_volume, accepted_ns
    FROM unnest($1::candle_input[])
    ON CONFLICT (symbol, interval_ms, open_time) DO NOTHING
), prediction AS (
    INSERT INTO ml_predictions (
        symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash,
        close, volume, state, gap_filled, features, features_hash, feature_count, nan_count, zero_variance_count,
        features_mean, features_std, features_min, features_max,
        rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
        outputs, probabilities, direction, strength, confidence, quality, agreement, move, edge,
        stop_loss, take_profit, reasons, decode_us, features_us, queue_us, model_us, interpret_us)
    SELECT
        symbol, interval_ms, to_timestamp(close_time_ms / 1000.0::double precision), model, version,
        bundle_sha256, feature_set_hash,
        close, volume, state, gap_filled, features, features_hash, feature_count, nan_count, zero_variance_count,
        features_mean, features_std, features_min, features_max,
        rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
        outputs, probabilities, direction, strength, confidence, quality, agreement, move, edge,
        stop_loss, take_profit, reasons, decode_us, features_us, queue_us, model_us, interpret_us
    FROM unnest($2::ml_prediction_input[])
    ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING
)
INSERT INTO ml_missed_predictions (symbol, interval_ms, close_time, model, version, reason)
SELECT symbol, interval_ms, to_timestamp(close_time_ms / 1000.0::double precision), model, version, reason
FROM unnest($3::ml_missed_input[])
ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING;

-- name: create_inboxes
-- Where COPY puts a batch before `record` takes it from there; each connection that writes has its own.
-- Not tables OF the types: a migration could not alter those while a server is connected.
CREATE TEMPORARY TABLE candle_inbox ON COMMIT DELETE ROWS
    AS SELECT * FROM unnest(NULL::candle_input[]) WITH NO DATA;
CREATE TEMPORARY TABLE ml_prediction_inbox ON COMMIT DELETE ROWS
    AS SELECT * FROM unnest(NULL::ml_prediction_input[]) WITH NO DATA;

-- name: create_months
SELECT create_month_partitions($1, $2);

-- name: known_candles
-- For each of the given candles: NULL not stored, true stored with these values, false with others.
-- LATERAL: one index look-up each, whatever the planner thinks of the number of candles.
SELECT
    stored.same
FROM unnest($1::candle_input[]) WITH ORDINALITY AS given
LEFT JOIN LATERAL (
    SELECT (c.open, c.high, c.low, c.close, c.volume, c.quote_volume, c.trades, c.taker_buy_volume)
        IS NOT DISTINCT FROM (
            given.open, given.high, given.low, given.close, given.volume,
            given.quote_volume, given.trades, given.taker_buy_volume) AS same
    FROM candles AS c
    WHERE c.symbol = given.symbol AND c.interval_ms = given.interval_ms
        AND c.open_time = to_timestamp(given.open_time_ms / 1000.0::double precision)
    LIMIT 1
) AS stored ON true
ORDER BY given.ordinality;

-- name: recent_predictions
-- The newest first. $1 how many, $2 to $6 the key of the last one seen: close_time `infinity` for the first page.
SELECT
    symbol, interval_ms, close_time, model, version, close, volume, state, gap_filled, features_hash,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons, outputs,
    decode_us, features_us, queue_us, model_us, interpret_us, created_at
FROM ml_predictions
WHERE close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: recent_predictions_of_symbol
SELECT
    symbol, interval_ms, close_time, model, version, close, volume, state, gap_filled, features_hash,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons, outputs,
    decode_us, features_us, queue_us, model_us, interpret_us, created_at
FROM ml_predictions
WHERE symbol = $7 AND close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;
