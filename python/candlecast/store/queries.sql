-- The statements of the store. `-- name:` begins one; queries.py gives it to Python by that name.

-- name: record
-- One round trip and one commit for candles and forecasts; a key that is there already keeps its first values.
-- The inboxes have the columns of records.py, which says what stands there for words and for NULL; when rows are few,
-- writer.py puts parameters in their place. $1 missed forecasts; of the forecasts $2 to $6 model, version, bundle's
-- sha256, feature-set hash and number of features, $7 words of states, $8 of directions, $9 of strengths, $10 the
-- reasons that occur and $11 their words.
WITH candle AS (
    INSERT INTO candles (
        symbol, interval_ms, open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume,
        accepted_ns)
    SELECT
        symbol::text, interval_ms, to_timestamp(open_time_ms / 1000.0::double precision),
        nullif(open, 'NaN'), nullif(high, 'NaN'), nullif(low, 'NaN'), nullif(close, 'NaN'), nullif(volume, 'NaN'),
        nullif(quote_volume, 'NaN'), nullif(trades, 'NaN'), nullif(taker_buy_volume, 'NaN'), accepted_ns
    FROM candle_inbox
    ON CONFLICT (symbol, interval_ms, open_time) DO NOTHING
), prediction AS (
    INSERT INTO ml_predictions (
        symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash,
        close, volume, state, gap_filled, features, features_hash, feature_count, nan_count, zero_variance_count,
        features_mean, features_std, features_min, features_max,
        rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
        outputs, probabilities, direction, strength,
        confidence, quality, agreement, move, edge, stop_loss, take_profit,
        reasons, decode_us, features_us, queue_us, model_us, interpret_us)
    SELECT
        symbol::text, interval_ms, to_timestamp(close_time_ms / 1000.0::double precision),
        $2::text, $3::integer, $4::bytea, $5::bigint,
        close, nullif(volume, 'NaN'), ($7::text[])[state + 1], gap_filled,
        features, features_hash, $6::smallint, nan_count, zero_variance_count,
        nullif(features_mean, 'NaN'), nullif(features_std, 'NaN'),
        nullif(features_min, 'NaN'), nullif(features_max, 'NaN'),
        nullif(rsi, 'NaN'), nullif(macd, 'NaN'), nullif(bb_position, 'NaN'),
        nullif(atr_pct, 'NaN'), nullif(volume_ratio, 'NaN'), nullif(trend_strength, 'NaN'),
        outputs, probabilities, ($8::text[])[direction + 2], ($9::text[])[strength + 1],
        nullif(confidence, 'NaN'), nullif(quality, 'NaN'), nullif(agreement, 'NaN'), nullif(move, 'NaN'),
        nullif(edge, 'NaN'), nullif(stop_loss, 'NaN'), nullif(take_profit, 'NaN'),
        ($11::text[])[array_position($10::integer[], reasons)]::text[],
        decode_us, features_us, queue_us, model_us, interpret_us
    FROM prediction_inbox
    ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING
)
INSERT INTO ml_missed_predictions (symbol, interval_ms, close_time, model, version, reason)
SELECT symbol, interval_ms, to_timestamp(close_time_ms / 1000.0::double precision), model, version, reason
FROM unnest($1::ml_missed_input[])
ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING;

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

-- name: recent_symbols
-- Every symbol and interval with a candle since $1, $2 at most. Each step is one look-up in the primary key: there is no
-- reading through the candles of a month to find the few names in them.
WITH RECURSIVE found AS (
    (SELECT symbol, interval_ms FROM candles WHERE open_time >= $1 ORDER BY symbol, interval_ms LIMIT 1)
    UNION ALL
    SELECT next.symbol, next.interval_ms
    FROM found
    CROSS JOIN LATERAL (
        SELECT c.symbol, c.interval_ms
        FROM candles AS c
        WHERE (c.symbol, c.interval_ms) > (found.symbol, found.interval_ms) AND c.open_time >= $1
        ORDER BY c.symbol, c.interval_ms
        LIMIT 1
    ) AS next
)
SELECT symbol, interval_ms FROM found LIMIT $2;

-- name: before_the_newest
-- For each of N symbols the open time before its newest $3 candles; -1 when it has no more than that.
SELECT coalesce((
    SELECT (date_part('epoch', c.open_time) * 1000)::bigint
    FROM candles AS c
    WHERE c.symbol = given.symbol AND c.interval_ms = given.interval_ms
    ORDER BY c.open_time DESC
    OFFSET $3 LIMIT 1
), -1) AS open_time_ms
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS given (symbol, interval_ms, ordinality)
ORDER BY given.ordinality;

-- name: accepted_after
-- The candles of N symbols after each one's open time, in the order in which they moved the state. Within a symbol that is the
-- order of time, whatever accepted_ns says: a state that began anew may have taken again what was stored before. Where it
-- says nothing, a candle is taken to have come at its close. The reference symbol $4 goes before the others of its bar.
SELECT
    taken.symbol, taken.interval_ms, (date_part('epoch', taken.open_time) * 1000)::bigint AS open_time_ms,
    taken.open, taken.high, taken.low, taken.close, taken.volume,
    taken.quote_volume, taken.trades, taken.taker_buy_volume, taken.moved_ns
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (symbol, interval_ms, after_ms)
CROSS JOIN LATERAL (
    SELECT
        c.symbol, c.interval_ms, c.open_time, c.open, c.high, c.low, c.close, c.volume,
        c.quote_volume, c.trades, c.taker_buy_volume,
        max(CASE
            WHEN c.accepted_ns > 0 THEN c.accepted_ns
            ELSE ((date_part('epoch', c.open_time) * 1000)::bigint + c.interval_ms) * 1000000
        END) OVER (ORDER BY c.open_time) AS moved_ns
    FROM candles AS c
    WHERE c.symbol = given.symbol AND c.interval_ms = given.interval_ms
        AND c.open_time > to_timestamp(given.after_ms / 1000.0::double precision)
) AS taken
ORDER BY taken.moved_ns, taken.open_time, taken.symbol IS DISTINCT FROM $4, taken.symbol, taken.interval_ms;

-- name: be_patient
-- For the rest of the transaction: a statement that reads and sorts much may take $1 ms, and memory enough to do it well.
SELECT set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true);

-- name: unforecast
-- Of the given closes of candles those without a forecast of model $4, version $5, made or missed.
-- LATERAL: one index look-up each, whatever the planner thinks of their number.
SELECT given.symbol, given.interval_ms
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
    AS given (symbol, interval_ms, close_time_ms, ordinality)
LEFT JOIN LATERAL (
    SELECT true AS is_there
    FROM ml_predictions AS p
    WHERE p.symbol = given.symbol AND p.interval_ms = given.interval_ms
        AND p.close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
        AND p.model = $4 AND p.version = $5
    LIMIT 1
) AS made ON true
LEFT JOIN LATERAL (
    SELECT true AS is_there
    FROM ml_missed_predictions AS m
    WHERE m.symbol = given.symbol AND m.interval_ms = given.interval_ms
        AND m.close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
        AND m.model = $4 AND m.version = $5
    LIMIT 1
) AS missed ON true
WHERE made.is_there IS NULL AND missed.is_there IS NULL
ORDER BY given.ordinality;
