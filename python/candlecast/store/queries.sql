-- The statements of the store. `-- name:` begins one; queries.py gives it to Python by that name.

-- name: record
-- One round trip and one commit for candles, forecasts and order flow; a key that is there already keeps its first values.
-- Only new answers are counted into the tables of hours (migrations/0020_views.sql), which the views read.
-- The inboxes have the columns of records.py, which says what stands there for words and for NULL; when rows are few,
-- writer.py puts parameters in their place. A gate's verdict is its code in gate.py. $1 missed forecasts; of the forecasts $2 to $6 model, version, bundle's
-- sha256, feature-set hash and number of features, $7 words of states, $8 of directions, $9 of strengths, $10 the
-- reasons that occur and $11 their words, $12 whether they are a shadow's.
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
    INSERT INTO ml_prediction_rows (
        symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash,
        close, volume, state, gap_filled, degraded, model_agreement,
        features, features_hash, feature_count, nan_count, zero_variance_count,
        features_mean, features_std, features_min, features_max,
        rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
        outputs, probabilities, direction, strength,
        confidence, quality, agreement, move, edge, stop_loss, take_profit,
        reasons, rule_score, hybrid_score, size_multiplier,
        gate_probability, gate_approved, decode_us, features_us, queue_us, model_us, interpret_us, shadow)
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
        decode_us, features_us, queue_us, model_us, interpret_us, $12::boolean
    FROM prediction_inbox
    ON CONFLICT (symbol, close_time, interval_ms, model, version) DO NOTHING
    RETURNING
        close_time, interval_ms, model, version, direction, strength, confidence, quality, move, gap_filled, degraded,
        gate_approved, nan_count, zero_variance_count, reasons, decode_us, features_us, queue_us, model_us, interpret_us,
        shadow
), counted AS (
    INSERT INTO ml_prediction_hours AS hours (
        hour, interval_ms, model, version, direction, strength, confidence_bin, forecasts, confidence_sum, quality_sum,
        move_sum, gap_filled, degraded, gate_approved, gate_refused, nan_features, still_features)
    SELECT
        date_trunc('hour', close_time, 'UTC'), interval_ms, model, version, direction, strength,
        coalesce(least(floor(confidence * 20), 19), -1)::smallint, count(*),
        coalesce(sum(confidence), 0), coalesce(sum(quality), 0), coalesce(sum(move), 0),
        count(*) FILTER (WHERE gap_filled), count(*) FILTER (WHERE degraded), count(*) FILTER (WHERE gate_approved),
        count(*) FILTER (WHERE NOT gate_approved), sum(nan_count), sum(zero_variance_count)
    FROM prediction
    WHERE NOT shadow
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ORDER BY 1, 3, 4, 2, 5, 6, 7  -- whoever writes beside us takes the same locks in the same order
    ON CONFLICT (hour, model, version, interval_ms, direction, strength, confidence_bin) DO UPDATE SET
        forecasts = hours.forecasts + excluded.forecasts,
        confidence_sum = hours.confidence_sum + excluded.confidence_sum,
        quality_sum = hours.quality_sum + excluded.quality_sum, move_sum = hours.move_sum + excluded.move_sum,
        gap_filled = hours.gap_filled + excluded.gap_filled, degraded = hours.degraded + excluded.degraded,
        gate_approved = hours.gate_approved + excluded.gate_approved,
        gate_refused = hours.gate_refused + excluded.gate_refused,
        nan_features = hours.nan_features + excluded.nan_features,
        still_features = hours.still_features + excluded.still_features
), reasoned AS (
    INSERT INTO ml_reason_hours AS hours (hour, interval_ms, model, version, reason, forecasts)
    SELECT date_trunc('hour', close_time, 'UTC'), interval_ms, model, version, reason, count(*)
    FROM prediction, unnest(reasons) AS reason
    WHERE NOT shadow
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 3, 4, 2, 5
    ON CONFLICT (hour, model, version, interval_ms, reason) DO UPDATE SET
        forecasts = hours.forecasts + excluded.forecasts
), timed AS (
    INSERT INTO ml_latency_hours AS hours (hour, stage, bucket, forecasts)
    SELECT date_trunc('hour', now(), 'UTC'), stage, latency_bucket(us), sum(alike.forecasts)
    FROM (
        SELECT decode_us, features_us, queue_us, model_us, interpret_us, count(*) AS forecasts
        FROM prediction
        WHERE NOT shadow
        GROUP BY 1, 2, 3, 4, 5
    ) AS alike, LATERAL (VALUES
        ('decode', decode_us), ('features', features_us), ('queue', queue_us), ('model', model_us),
        ('interpret', interpret_us), ('total', decode_us + features_us + queue_us + model_us + interpret_us)
    ) AS spent (stage, us)
    GROUP BY 2, 3
    ORDER BY 2, 3
    ON CONFLICT (hour, stage, bucket) DO UPDATE SET forecasts = hours.forecasts + excluded.forecasts
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
FROM ml_prediction_rows
WHERE close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6) AND NOT shadow
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: recent_predictions_of_symbol
SELECT
    symbol, interval_ms, close_time, model, version, close, volume, state, gap_filled, degraded, model_agreement,
    features_hash, direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    rule_score, hybrid_score, size_multiplier, gate_probability, gate_approved, outputs, decode_us, features_us, queue_us, model_us, interpret_us, created_at
FROM ml_prediction_rows
WHERE symbol = $7 AND close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
    AND NOT shadow
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: spoken_by
-- What model $1, version $2, said, as an answer or as a shadow, of candles of interval $3 that closed in [$4, $5).
SELECT symbol, (date_part('epoch', close_time) * 1000)::bigint, outputs, probabilities, direction, model_us
FROM ml_prediction_rows
WHERE model = $1 AND version = $2 AND interval_ms = $3 AND close_time >= $4 AND close_time < $5;

-- name: predictions_since
-- In the order of their keys, $9 of those after the key $1 to $5, whose close_time the first page begins with. $6 symbols and
-- $8 directions, NULL for all; $7 the least confidence, which a forecast that is not finite has none of.
SELECT
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, close, state, gap_filled, degraded,
    model_agreement, features_hash, direction, strength, confidence, quality, agreement, move, edge, stop_loss,
    take_profit, reasons, rule_score, hybrid_score, size_multiplier, gate_probability, gate_approved, outputs,
    probabilities, decode_us, features_us, queue_us, model_us, interpret_us,
    created_at > now() - interval '1 minute' AS is_recent
FROM ml_prediction_rows
WHERE close_time >= $1 AND (close_time, symbol, interval_ms, model, version) > ($1, $2, $3, $4, $5) AND NOT shadow
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
    FROM ml_prediction_rows AS p
    CROSS JOIN (
        SELECT greatest(
            (SELECT max(close_time) FROM ml_prediction_rows WHERE direction = 'LONG' AND NOT shadow),
            (SELECT max(close_time) FROM ml_prediction_rows WHERE direction = 'SHORT' AND NOT shadow)) AS close_time
    ) AS newest
    WHERE p.direction IN ('LONG', 'SHORT') AND p.close_time > newest.close_time - $1::integer * interval '1 day'
        AND p.close_time > newest.close_time - $1::integer * p.interval_ms * interval '1 millisecond'
        AND p.stop_loss IS NOT NULL AND p.take_profit IS NOT NULL AND NOT p.shadow
    ORDER BY p.close_time DESC, p.symbol, p.interval_ms, p.created_at, p.version  -- what was said first has entered
    LIMIT $2
) AS found
ORDER BY close_time_ms, quality DESC;

-- name: reasons_of
-- Of the given closes those that were answered, by whichever version, and the reasons of the newest answer. LATERAL: one index
-- look-up each.
SELECT given.symbol, given.interval_ms, given.close_time_ms, p.reasons
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given (symbol, interval_ms, close_time_ms)
CROSS JOIN LATERAL (
    SELECT reasons FROM ml_prediction_rows
    WHERE symbol = given.symbol AND interval_ms = given.interval_ms AND NOT shadow
        AND close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
    ORDER BY created_at DESC
    LIMIT 1
) AS p;

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

-- name: symbols_with_order_flow
-- Every symbol with a record in [$1, $2). Each step is one look-up in the primary key.
WITH RECURSIVE found AS (
    (SELECT min(symbol) AS symbol FROM order_flow_features WHERE ts >= $1 AND ts < $2)
    UNION ALL
    SELECT (SELECT min(f.symbol) FROM order_flow_features AS f WHERE f.symbol > found.symbol AND f.ts >= $1 AND f.ts < $2)
    FROM found
    WHERE found.symbol IS NOT NULL
)
SELECT symbol FROM found WHERE symbol IS NOT NULL;

-- name: order_flow_beyond
-- The time of the newest record in [$1, $2) that is not among the newest $3, of symbols $4; none when there are no more.
SELECT ts
FROM order_flow_features
WHERE ts >= $1 AND ts < $2 AND NOT gate_asked AND symbol = ANY($4::text[])
ORDER BY ts DESC
OFFSET $3 LIMIT 1;

-- name: order_flow_of_symbol
-- The records of symbol $1 in [$2, $3) as of the last trade of each interval, in the order of the key; NaN: undefined.
SELECT
    (date_part('epoch', ts) * 1000)::bigint, coalesce(tick_ratio, 'NaN'), coalesce(depth_ratio, 'NaN'),
    coalesce(price_dist, 'NaN'), coalesce(price, 'NaN'), coalesce(vwap, 'NaN'), coalesce(std_dev, 'NaN'),
    coalesce(bid_vol, 'NaN'), coalesce(ask_vol, 'NaN')
FROM order_flow_features
WHERE symbol = $1 AND ts >= $2 AND ts < $3 AND NOT gate_asked
ORDER BY ts;

-- name: be_patient
-- For the rest of the transaction: a statement that reads and sorts much may take $1 ms, and memory enough to do it well.
SELECT set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true);

-- name: unforecast
-- Of the given closes of candles those without an answer of model $4, version $5 (NULL: whichever), made or missed.
-- LATERAL: one index look-up each, whatever the planner thinks of their number.
SELECT given.symbol, given.interval_ms
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
    AS given (symbol, interval_ms, close_time_ms, ordinality)
LEFT JOIN LATERAL (
    SELECT true AS is_there
    FROM ml_prediction_rows AS p
    WHERE p.symbol = given.symbol AND p.interval_ms = given.interval_ms
        AND p.close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
        AND p.model = $4 AND ($5::integer IS NULL OR p.version = $5) AND NOT p.shadow
    LIMIT 1
) AS made ON true
LEFT JOIN LATERAL (
    SELECT true AS is_there
    FROM ml_missed_predictions AS m
    WHERE m.symbol = given.symbol AND m.interval_ms = given.interval_ms
        AND m.close_time = to_timestamp(given.close_time_ms / 1000.0::double precision)
        AND m.model = $4 AND ($5::integer IS NULL OR m.version = $5)
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
ON CONFLICT (key) DO NOTHING
RETURNING id;

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

-- name: record_measurements
-- $1 is an array of rows of ml_measurement_runs as JSON; one that is there already keeps its first values.
INSERT INTO ml_measurement_runs (
    id, source, bundle_path, model, version, bundle_sha256, status, error, measured_at, duration_s, data_from, data_to,
    data_points, verdict, warnings, config, host)
SELECT
    id, source, bundle_path, model, version, bundle_sha256, status, error, measured_at, duration_s, data_from, data_to,
    data_points, verdict, warnings, config, host
FROM jsonb_populate_recordset(NULL::ml_measurement_runs, $1::jsonb)
ON CONFLICT (id) DO NOTHING;

-- name: record_importance
INSERT INTO ml_feature_importance (
    model, version, calculated_at, feature, index, score, rank, correlation, correlation_bars, gain, method,
    bundle_sha256)
SELECT
    model, version, calculated_at, feature, index, score, rank, correlation, correlation_bars, gain, method,
    bundle_sha256
FROM jsonb_populate_recordset(NULL::ml_feature_importance, $1::jsonb)
ON CONFLICT (model, version, calculated_at, feature) DO NOTHING;

-- name: record_model_events
-- $1 is a JSON array of rows of ml_model_events; one that is there already is there once. Where the bundle is on record, its
-- state is that of its newest event.
WITH given AS (
    SELECT * FROM jsonb_populate_recordset(NULL::ml_model_events, $1::jsonb)
), added AS (
    INSERT INTO ml_model_events (id, at, model, version, bundle_sha256, from_state, to_state, who, why, metrics)
    SELECT id, at, model, version, bundle_sha256, from_state, to_state, who, why, metrics FROM given
    ON CONFLICT (id) DO NOTHING
), newest AS (
    SELECT DISTINCT ON (model, version, bundle_sha256) * FROM given ORDER BY model, version, bundle_sha256, at DESC
)
UPDATE ml_models AS m SET
    state = newest.to_state, updated_at = now(),
    deployed_at = CASE WHEN newest.to_state = 'CHAMPION' THEN newest.at ELSE m.deployed_at END
FROM newest
WHERE m.name = newest.model AND m.version = newest.version AND m.bundle_sha256 = newest.bundle_sha256;

-- name: model_events
-- The newest first: $1 how many, of model $2 and version $3 (NULL: of all).
SELECT id, (date_part('epoch', at) * 1000)::bigint AS at_ms, model, version, encode(bundle_sha256, 'hex') AS bundle_sha256,
    from_state, to_state, who, why, metrics
FROM ml_model_events
WHERE model = $2 AND ($3::integer IS NULL OR version = $3)
ORDER BY at DESC, sequence DESC
LIMIT $1;
