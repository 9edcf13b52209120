-- The statements of the store. `-- name:` begins one; queries.py gives it to Python by that name.

-- name: record
-- One round trip and one commit for candles, forecasts and order flow; a key that is there already keeps its first values.
-- The inboxes have the columns of records.py, which says what stands there for words and for NULL; when rows are few,
-- writer.py puts parameters in their place. A gate's verdict is its code in gate.py. $1 missed forecasts; of the forecasts $2 to $6 model, version, bundle's
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
        close, volume, state, gap_filled, degraded, model_agreement,
        features, features_hash, feature_count, nan_count, zero_variance_count,
        features_mean, features_std, features_min, features_max,
        rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
        outputs, probabilities, direction, strength,
        confidence, quality, agreement, move, edge, stop_loss, take_profit,
        reasons, rule_score, hybrid_score, size_multiplier,
        gate_probability, gate_approved, decode_us, features_us, queue_us, model_us, interpret_us)
    SELECT
        symbol::text, interval_ms, to_timestamp(close_time_ms / 1000.0::double precision),
        $2::text, $3::integer, $4::bytea, $5::bigint,
        close, nullif(volume, 'NaN'), ($7::text[])[state + 1], gap_filled,
        degraded, nullif(model_agreement, 'NaN'),
        features, features_hash, $6::smallint, nan_count, zero_variance_count,
        nullif(features_mean, 'NaN'), nullif(features_std, 'NaN'),
        nullif(features_min, 'NaN'), nullif(features_max, 'NaN'),
        nullif(rsi, 'NaN'), nullif(macd, 'NaN'), nullif(bb_position, 'NaN'),
        nullif(atr_pct, 'NaN'), nullif(volume_ratio, 'NaN'), nullif(trend_strength, 'NaN'),
        outputs, probabilities, ($8::text[])[direction + 2], ($9::text[])[strength + 1],
        nullif(confidence, 'NaN'), nullif(quality, 'NaN'), nullif(agreement, 'NaN'), nullif(move, 'NaN'),
        nullif(edge, 'NaN'), nullif(stop_loss, 'NaN'), nullif(take_profit, 'NaN'),
        ($11::text[])[array_position($10::integer[], reasons)]::text[],
        nullif(rule_score, 'NaN'), nullif(hybrid_score, 'NaN'), nullif(size_multiplier, 'NaN'),
        nullif(gate_probability, 'NaN'), (ARRAY[NULL, NULL, false, true])[gate_verdict + 1],
        decode_us, features_us, queue_us, model_us, interpret_us
    FROM prediction_inbox
    ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING
), flow AS (
    INSERT INTO order_flow_features (
        symbol, ts, gate_asked, tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol,
        gate_probability, gate_approved, degraded)
    SELECT
        symbol::text, to_timestamp(ts_ms / 1000.0::double precision), gate_asked,
        nullif(tick_ratio, 'NaN'), nullif(depth_ratio, 'NaN'), nullif(price_dist, 'NaN'), nullif(price, 'NaN'),
        nullif(vwap, 'NaN'), nullif(std_dev, 'NaN'), nullif(bid_vol, 'NaN'), nullif(ask_vol, 'NaN'),
        nullif(gate_probability, 'NaN'), (ARRAY[NULL, NULL, false, true])[gate_verdict + 1], degraded
    FROM flow_inbox
    ON CONFLICT (symbol, ts, gate_asked) DO NOTHING
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
    symbol, interval_ms, close_time, model, version, close, volume, state, gap_filled, degraded, model_agreement,
    features_hash, direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    rule_score, hybrid_score, size_multiplier, gate_probability, gate_approved, outputs, decode_us, features_us, queue_us, model_us, interpret_us, created_at
FROM ml_predictions
WHERE close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: recent_predictions_of_symbol
SELECT
    symbol, interval_ms, close_time, model, version, close, volume, state, gap_filled, degraded, model_agreement,
    features_hash, direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    rule_score, hybrid_score, size_multiplier, gate_probability, gate_approved, outputs, decode_us, features_us, queue_us, model_us, interpret_us, created_at
FROM ml_predictions
WHERE symbol = $7 AND close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: predictions_since
-- In the order of their keys, $9 of those after the key $1 to $5, whose close_time the first page begins with. $6 symbols and
-- $8 directions, NULL for all; $7 the least confidence, which a forecast that is not finite has none of.
SELECT
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, state, gap_filled, degraded,
    model_agreement, features_hash, direction, strength, confidence, quality, agreement, move, edge, stop_loss,
    take_profit, reasons, rule_score, hybrid_score, size_multiplier, gate_probability, gate_approved, outputs,
    probabilities, decode_us, features_us, queue_us, model_us, interpret_us,
    created_at > now() - interval '1 minute' AS is_recent
FROM ml_predictions
WHERE close_time >= $1 AND (close_time, symbol, interval_ms, model, version) > ($1, $2, $3, $4, $5)
    AND ($6::text[] IS NULL OR symbol = ANY ($6)) AND coalesce(confidence, 0) >= $7
    AND ($8::text[] IS NULL OR direction = ANY ($8))
ORDER BY close_time, symbol, interval_ms, model, version
LIMIT $9;

-- name: recent_signals
-- The LONG and SHORT whose positions may be open: closed less than $1 bars before the newest of all; $2 at most, the newest.
SELECT symbol, interval_ms, close_time_ms, side, quality, close, stop_loss, take_profit
FROM (
    SELECT DISTINCT ON (p.close_time, p.symbol, p.interval_ms)
        p.symbol, p.interval_ms, (date_part('epoch', p.close_time) * 1000)::bigint AS close_time_ms,
        CASE p.direction WHEN 'LONG' THEN 1 ELSE -1 END AS side, p.quality, p.close, p.stop_loss, p.take_profit
    FROM ml_predictions AS p
    CROSS JOIN (
        SELECT greatest(
            (SELECT max(close_time) FROM ml_predictions WHERE direction = 'LONG'),
            (SELECT max(close_time) FROM ml_predictions WHERE direction = 'SHORT')) AS close_time
    ) AS newest
    WHERE p.direction IN ('LONG', 'SHORT') AND p.close_time > newest.close_time - $1::integer * interval '1 day'
        AND p.close_time > newest.close_time - $1::integer * p.interval_ms * interval '1 millisecond'
        AND p.stop_loss IS NOT NULL AND p.take_profit IS NOT NULL
    ORDER BY p.close_time DESC, p.symbol, p.interval_ms, p.version
    LIMIT $2
) AS found
ORDER BY close_time_ms, quality DESC;

-- name: reasons_of
-- Of the given closes those with a forecast of model $4, version $5, and its reasons. LATERAL: one index look-up each.
SELECT given.symbol, given.interval_ms, given.close_time_ms, p.reasons
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (symbol, interval_ms, close_time_ms)
CROSS JOIN LATERAL (
    SELECT reasons FROM ml_predictions
    WHERE symbol = given.symbol AND interval_ms = given.interval_ms AND model = $4 AND version = $5
        AND close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
    LIMIT 1
) AS p;

-- name: has_strategy_signals
SELECT to_regclass('ml_strategy_signals') IS NOT NULL AS is_there;

-- name: closed_trades
-- What the closed trades of strategy $1 brought, by series: how many, and of their returns sum and sum of squares.
SELECT
    symbol, prediction_interval_ms AS interval_ms, count(*) AS trades, sum(pnl / (entry_price * size)) AS total,
    sum((pnl / (entry_price * size)) ^ 2) AS squares,
    (date_part('epoch', min(entry_time)) * 1000)::bigint AS first_ms,
    (date_part('epoch', max(exit_time)) * 1000)::bigint AS last_ms
FROM ml_strategy_signals
WHERE strategy = $1 AND status = 'CLOSED' AND prediction_interval_ms IS NOT NULL
GROUP BY symbol, prediction_interval_ms;

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

-- name: symbols_in
-- Every symbol with a candle of interval $1 that opens in [$2, $3). Each step is one look-up in the primary key.
WITH RECURSIVE found AS (
    (SELECT min(symbol) AS symbol FROM candles WHERE interval_ms = $1 AND open_time >= $2 AND open_time < $3)
    UNION ALL
    SELECT (
        SELECT min(c.symbol) FROM candles AS c
        WHERE c.symbol > found.symbol AND c.interval_ms = $1 AND c.open_time >= $2 AND c.open_time < $3)
    FROM found
    WHERE found.symbol IS NOT NULL
)
SELECT symbol FROM found WHERE symbol IS NOT NULL;

-- name: history_of_symbol
-- The candles of symbol $1 and interval $2 that open in [$3, $4), in the order of the primary key; NaN: not given.
SELECT
    (date_part('epoch', open_time) * 1000)::bigint, open, high, low, close, volume,
    coalesce(quote_volume, 'NaN'), coalesce(trades, 'NaN'), coalesce(taker_buy_volume, 'NaN')
FROM candles
WHERE symbol = $1 AND interval_ms = $2 AND open_time >= $3 AND open_time < $4
ORDER BY open_time;

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

-- name: register_features
-- The same version of a formula again takes its place and its words from $1, a JSON array of columns of ml_features.
INSERT INTO ml_features (feature_set, index, name, version, group_name, formula, convention, warmup_bars, low, high)
SELECT feature_set, index, name, version, group_name, formula, convention, warmup_bars, low, high
FROM jsonb_populate_recordset(NULL::ml_features, $1::jsonb)
ON CONFLICT (feature_set, name, version) DO UPDATE SET
    index = excluded.index, group_name = excluded.group_name, formula = excluded.formula,
    convention = excluded.convention, warmup_bars = excluded.warmup_bars, low = excluded.low, high = excluded.high;

-- name: save_session
-- $1 is a row of ml_training_sessions as JSON. One that ended is never running again, whatever comes late.
INSERT INTO ml_training_sessions (
    id, model, version, family, target, horizon_bars, status, config, symbols, interval_ms, data_from, data_to,
    data_points, phase, step, steps, loss, validation_loss, started_at, updated_at, finished_at, metrics,
    bundle_sha256, code_commit, host, error, metadata)
SELECT
    id, model, version, family, target, horizon_bars, status, config, symbols, interval_ms, data_from, data_to,
    data_points, phase, step, steps, loss, validation_loss, started_at, now(), finished_at, metrics,
    bundle_sha256, code_commit, host, error, metadata
FROM jsonb_populate_record(NULL::ml_training_sessions, $1::jsonb)
ON CONFLICT (id) DO UPDATE SET
    horizon_bars = excluded.horizon_bars, status = excluded.status, config = excluded.config, symbols = excluded.symbols,
    interval_ms = excluded.interval_ms, data_from = excluded.data_from, data_to = excluded.data_to,
    data_points = excluded.data_points, phase = excluded.phase, step = excluded.step, steps = excluded.steps,
    loss = excluded.loss, validation_loss = excluded.validation_loss, updated_at = excluded.updated_at,
    finished_at = excluded.finished_at, metrics = excluded.metrics, bundle_sha256 = excluded.bundle_sha256,
    code_commit = excluded.code_commit, error = excluded.error, metadata = excluded.metadata
WHERE ml_training_sessions.status = 'running' OR excluded.status <> 'running';

-- name: log_training
-- $1 is a row of ml_training_log as JSON; a key that is there already keeps its first values.
INSERT INTO ml_training_log (
    key, strategy, version, logged_at, accuracy, duration_s, data_points, status, error, session_id, metadata)
SELECT
    key, strategy, version, coalesce(logged_at, now()), accuracy, duration_s, data_points, status, error, session_id,
    coalesce(metadata, '{}')
FROM jsonb_populate_record(NULL::ml_training_log, $1::jsonb)
ON CONFLICT (key) DO NOTHING;

-- name: register_model
-- $1 is a row of ml_models as JSON. The same bundle again may have moved; its state is not touched.
INSERT INTO ml_models (
    name, version, bundle_sha256, bundle_path, family, target, horizon_bars, interval_ms, feature_set,
    feature_set_hash, features, optional_inputs, reference_symbol, symbols, data_from, data_to, code_commit, metrics,
    session_id, created_at)
SELECT
    name, version, bundle_sha256, bundle_path, family, target, horizon_bars, interval_ms, feature_set,
    feature_set_hash, features, optional_inputs, reference_symbol, symbols, data_from, data_to, code_commit, metrics,
    session_id, created_at
FROM jsonb_populate_record(NULL::ml_models, $1::jsonb)
ON CONFLICT (name, version, bundle_sha256) DO UPDATE SET
    bundle_path = excluded.bundle_path, session_id = coalesce(ml_models.session_id, excluded.session_id),
    updated_at = now()
RETURNING id;

-- name: record_performance
INSERT INTO ml_model_performance (
    model, version, bundle_sha256, source, measured_at, fold, horizon, metric, value, base, persistence, low, high,
    data_points, data_from, data_to)
SELECT
    model, version, bundle_sha256, source, measured_at, fold, horizon, metric, value, base, persistence, low, high,
    data_points, data_from, data_to
FROM jsonb_populate_recordset(NULL::ml_model_performance, $1::jsonb)
ON CONFLICT (model, version, source, measured_at, fold, horizon, metric) DO NOTHING;

-- name: record_importance
INSERT INTO ml_feature_importance (
    model, version, calculated_at, feature, index, score, rank, correlation, correlation_bars, gain, method,
    bundle_sha256)
SELECT
    model, version, calculated_at, feature, index, score, rank, correlation, correlation_bars, gain, method,
    bundle_sha256
FROM jsonb_populate_recordset(NULL::ml_feature_importance, $1::jsonb)
ON CONFLICT (model, version, calculated_at, feature) DO NOTHING;
