-- Signals of strategies and what they amount to; accuracy as it was counted; forecasts with what came after them.

-- name: log_signal
-- A key that is known keeps its first values, and nothing is returned.
WITH logged AS (
    INSERT INTO ml_strategy_signals (
        key, strategy, symbol, side, entry_price, entry_time, size, fees, confidence, prediction_interval_ms,
        prediction_close_time, prediction_model, prediction_version, metadata)
    VALUES (
        $1, $2, $3, $4, $5, to_timestamp($6::bigint / 1000.0::double precision), $7, $8, $9, $10,
        to_timestamp($11::bigint / 1000.0::double precision), $12, $13, $14::jsonb)
    ON CONFLICT (key) DO NOTHING
    RETURNING strategy, entry_time
)
INSERT INTO ml_strategy_stale (strategy, day)
SELECT strategy, (entry_time AT TIME ZONE 'UTC')::date FROM logged
ON CONFLICT (strategy, day) DO UPDATE SET marked_at = now()
RETURNING strategy;

-- name: signal
SELECT
    id, key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, closed_size, closed_value, fees,
    exit_price, exit_time, exit_reason, pnl, is_winner, prediction_interval_ms, prediction_close_time, prediction_model,
    prediction_version, metadata
FROM ml_strategy_signals
WHERE key = $1;

-- name: signal_to_close
SELECT
    id, key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, closed_size, closed_value, fees,
    exit_price, exit_time, exit_reason, pnl, is_winner, prediction_interval_ms, prediction_close_time, prediction_model,
    prediction_version, metadata
FROM ml_strategy_signals
WHERE key = $1
FOR UPDATE;

-- name: record_close
INSERT INTO ml_signal_closes (signal_key, close_key, size, price, fees, closed_at)
VALUES ($1, $2, $3, $4, $5, to_timestamp($6::bigint / 1000.0::double precision))
ON CONFLICT (signal_key, close_key) DO NOTHING
RETURNING closed_at;

-- name: close_part
UPDATE ml_strategy_signals
SET closed_size = $2, closed_value = $3, fees = $4
WHERE key = $1;

-- name: close_whole
-- $2 value of all closes, $3 all fees.
WITH closed AS (
    UPDATE ml_strategy_signals AS s SET
        status = 'CLOSED', closed_size = s.size, closed_value = $2, fees = $3, exit_price = $2 / s.size,
        exit_time = (SELECT max(c.closed_at) FROM ml_signal_closes AS c WHERE c.signal_key = s.key),
        pnl = (CASE s.side WHEN 'LONG' THEN 1 ELSE -1 END) * ($2 - s.entry_price * s.size) - $3,
        is_winner = (CASE s.side WHEN 'LONG' THEN 1 ELSE -1 END) * ($2 - s.entry_price * s.size) - $3 > 0
    WHERE s.key = $1
    RETURNING s.strategy, s.exit_time
)
INSERT INTO ml_strategy_stale (strategy, day)
SELECT strategy, (exit_time AT TIME ZONE 'UTC')::date FROM closed
ON CONFLICT (strategy, day) DO UPDATE SET marked_at = now();

-- name: take_stale_days
-- Days that are out of date, of strategy $1 (NULL: of all), $2 at most. Those whose signals are being written stay for later.
WITH taken AS MATERIALIZED (
    SELECT strategy, day FROM ml_strategy_stale
    WHERE $1::text IS NULL OR strategy = $1
    ORDER BY strategy, day
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM ml_strategy_stale AS s USING taken WHERE s.strategy = taken.strategy AND s.day = taken.day
RETURNING s.strategy, s.day;

-- name: forget_days
DELETE FROM ml_strategy_days AS d
USING unnest($1::text[], $2::date[]) AS stale (strategy, day)
WHERE d.strategy = stale.strategy AND d.day = stale.day;

-- name: count_days
INSERT INTO ml_strategy_days (
    strategy, symbol, day, opened, closed, wins, losses, pnl, gross_profit, gross_loss, fees, return_sum, return_square_sum,
    holding_s, peak, trough, drawdown)
WITH stale AS (
    SELECT
        strategy, day, day::timestamp AT TIME ZONE 'UTC' AS since, (day + 1)::timestamp AT TIME ZONE 'UTC' AS until
    FROM unnest($1::text[], $2::date[]) AS given (strategy, day)
), opened AS (
    SELECT stale.strategy, stale.day, coalesce(s.symbol, '') AS symbol, count(*) AS opened
    FROM stale
    CROSS JOIN LATERAL (  -- OFFSET 0: day by day through the index, whatever the planner thinks of a day
        SELECT g.symbol
        FROM ml_strategy_signals AS g
        WHERE g.strategy = stale.strategy AND g.entry_time >= stale.since AND g.entry_time < stale.until
            AND g.status <> 'VOID'
        OFFSET 0
    ) AS s
    GROUP BY GROUPING SETS ((stale.strategy, stale.day, s.symbol), (stale.strategy, stale.day))
), walked AS (
    SELECT
        stale.strategy, stale.day, s.symbol, s.id, s.exit_time, s.pnl, s.fees, s.pnl / (s.entry_price * s.size) AS return,
        extract(epoch FROM s.exit_time - s.entry_time)::double precision AS holding_s,
        sum(s.pnl) OVER (PARTITION BY stale.strategy, stale.day, s.symbol ORDER BY s.exit_time, s.id) AS run,
        sum(s.pnl) OVER (PARTITION BY stale.strategy, stale.day ORDER BY s.exit_time, s.id) AS run_of_all
    FROM stale
    CROSS JOIN LATERAL (
        SELECT g.symbol, g.id, g.entry_time, g.exit_time, g.entry_price, g.size, g.pnl, g.fees
        FROM ml_strategy_signals AS g
        WHERE g.strategy = stale.strategy AND g.exit_time >= stale.since AND g.exit_time < stale.until
            AND g.status = 'CLOSED'
        OFFSET 0
    ) AS s
), fallen AS (
    SELECT
        w.*,
        greatest(max(w.run) OVER (PARTITION BY w.strategy, w.day, w.symbol ORDER BY w.exit_time, w.id), 0) - w.run AS fall,
        greatest(max(w.run_of_all) OVER (PARTITION BY w.strategy, w.day ORDER BY w.exit_time, w.id), 0) - w.run_of_all
            AS fall_of_all
    FROM walked AS w
), closed AS (
    SELECT
        strategy, day, coalesce(symbol, '') AS symbol, count(*) AS closed, count(*) FILTER (WHERE pnl > 0) AS wins,
        count(*) FILTER (WHERE pnl < 0) AS losses, sum(pnl) AS pnl, coalesce(sum(pnl) FILTER (WHERE pnl > 0), 0) AS gross_profit,
        coalesce(-sum(pnl) FILTER (WHERE pnl < 0), 0) AS gross_loss, sum(fees) AS fees, sum(return) AS return_sum,
        sum(return * return) AS return_square_sum, sum(holding_s) AS holding_s,
        greatest(CASE WHEN grouping(symbol) = 0 THEN max(run) ELSE max(run_of_all) END, 0) AS peak,
        least(CASE WHEN grouping(symbol) = 0 THEN min(run) ELSE min(run_of_all) END, 0) AS trough,
        CASE WHEN grouping(symbol) = 0 THEN max(fall) ELSE max(fall_of_all) END AS drawdown
    FROM fallen
    GROUP BY GROUPING SETS ((strategy, day, symbol), (strategy, day))
)
SELECT
    strategy, symbol, day, coalesce(opened, 0), coalesce(closed, 0), coalesce(wins, 0), coalesce(losses, 0),
    coalesce(pnl, 0), coalesce(gross_profit, 0), coalesce(gross_loss, 0), coalesce(fees, 0), coalesce(return_sum, 0),
    coalesce(return_square_sum, 0), coalesce(holding_s, 0), coalesce(peak, 0), coalesce(trough, 0), coalesce(drawdown, 0)
FROM opened
FULL JOIN closed USING (strategy, symbol, day);

-- name: strategy
-- $1 strategy, $2 symbol ('': all together), $3 and $4 first and last day, $5 periods a year.
SELECT
    p.strategy, p.symbol, p.signals, p.closed, p.wins, p.losses, p.total_pnl, p.gross_profit, p.gross_loss, p.fees,
    p.win_rate, p.profit_factor, p.expectancy, p.mean_return, p.sharpe, p.trade_sharpe, p.max_drawdown, p.mean_holding_s,
    p.first_day, p.last_day
FROM strategy_performance($3, $4, $5) AS p
WHERE p.strategy = $1 AND p.symbol = $2;

-- name: open_positions
-- Signals of strategy $1 and symbol $2 ('': all together) ever, and those of them that are open; no row: there never was one.
SELECT sum(opened)::bigint AS signals, (sum(opened) - sum(closed))::bigint AS open_positions
FROM ml_strategy_days
WHERE strategy = $1 AND symbol = $2
HAVING count(*) > 0;

-- name: strategies
SELECT
    p.strategy, p.symbol, p.signals, p.closed, p.signals - p.closed AS open_positions, p.wins, p.losses, p.total_pnl,
    p.gross_profit, p.gross_loss, p.fees, p.win_rate, p.profit_factor, p.expectancy, p.mean_return, p.sharpe,
    p.trade_sharpe, p.max_drawdown, p.mean_holding_s, p.first_day, p.last_day
FROM strategy_performance(NULL, NULL, $1) AS p
WHERE p.symbol = ''
ORDER BY p.strategy;

-- name: newest_trainings
SELECT strategy, version, status, last_training, model_accuracy, duration_s, data_points, error
FROM ml_training_status
ORDER BY strategy;

-- name: signals
-- Newest entry first. $1 how many, $2 and $3 entry time and id of the last one seen, $4 symbol ('': all).
SELECT
    id, key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, closed_size, closed_value, fees,
    exit_price, exit_time, exit_reason, pnl, is_winner, prediction_interval_ms, prediction_close_time, prediction_model,
    prediction_version, metadata
FROM ml_strategy_signals
WHERE entry_time <= $2 AND (entry_time, id) < ($2, $3::bigint) AND ($4::text = '' OR symbol = $4)
ORDER BY entry_time DESC, id DESC
LIMIT $1;

-- name: signals_of_strategy
SELECT
    id, key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, closed_size, closed_value, fees,
    exit_price, exit_time, exit_reason, pnl, is_winner, prediction_interval_ms, prediction_close_time, prediction_model,
    prediction_version, metadata
FROM ml_strategy_signals
WHERE strategy = $5 AND entry_time <= $2 AND (entry_time, id) < ($2, $3::bigint) AND ($4::text = '' OR symbol = $4)
ORDER BY entry_time DESC, id DESC
LIMIT $1;

-- name: positions
SELECT
    id, key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, closed_size, closed_value, fees,
    exit_price, exit_time, exit_reason, pnl, is_winner, prediction_interval_ms, prediction_close_time, prediction_model,
    prediction_version, metadata
FROM ml_strategy_signals
WHERE status = 'OPEN' AND ($5::text = '' OR strategy = $5) AND (entry_time, id) < ($2, $3::bigint)
    AND ($4::text = '' OR symbol = $4)
ORDER BY entry_time DESC, id DESC
LIMIT $1;

-- name: accuracy
-- $1 model ('': every), $2 version (0: every), $3 symbol ('': every), $4 horizon (0: each), $5 and $6 first and last day, a row for
-- each symbol when $7, for each day when $8; $9 rows at most.
SELECT
    model, version, interval_ms, horizon_bars, symbol, day, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals)) / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0)::double precision AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs)::double precision, sum(shorts)::double precision, sum(neutrals)::double precision) AS base_log_loss,
    sum(brier) / sum(forecasts)::double precision AS brier,
    base_brier(sum(longs)::double precision, sum(shorts)::double precision, sum(neutrals)::double precision) AS base_brier,
    sum(error_size) / sum(forecasts)::double precision AS mae, sum(return_size) / sum(forecasts)::double precision AS base_mae,
    array_agg(bin ORDER BY bin) AS bins, array_agg(forecasts ORDER BY bin) AS bin_forecasts,
    array_agg(confidence ORDER BY bin) AS bin_confidence, array_agg(hits ORDER BY bin) AS bin_hits
FROM (
    SELECT
        model, version, interval_ms, horizon_bars, CASE WHEN $7::boolean THEN symbol ELSE $3 END AS symbol,
        CASE WHEN $8::boolean THEN day END AS day, bin, sum(forecasts)::bigint AS forecasts, sum(hits)::bigint AS hits,
        sum(longs) AS longs, sum(shorts) AS shorts, sum(neutrals) AS neutrals, sum(side_hits) AS side_hits,
        sum(confidence) AS confidence, sum(log_loss) AS log_loss, sum(brier) AS brier, sum(error_size) AS error_size,
        sum(return_size) AS return_size
    FROM ml_accuracy_counts
    WHERE ($1::text = '' OR model = $1) AND ($2::integer = 0 OR version = $2) AND ($3::text = '' OR symbol = $3)
        AND ($4::integer = 0 OR horizon_bars = $4) AND ($5::date IS NULL OR day >= $5) AND ($6::date IS NULL OR day <= $6)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
) AS binned
GROUP BY model, version, interval_ms, horizon_bars, symbol, day
ORDER BY model, version, interval_ms, horizon_bars, symbol, day
LIMIT $9;

-- name: stored_predictions
-- The newest first. $1 how many, $2 to $6 the key of the last one seen: close_time `infinity` for the first page.
SELECT
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, close, volume, state, gap_filled,
    degraded, model_agreement, features_hash, feature_count, nan_count, zero_variance_count, features_mean, features_std,
    features_min, features_max, rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength, outputs, probabilities,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons, rule_score,
    hybrid_score, size_multiplier, gate_probability,
    gate_approved, decode_us, features_us, queue_us, model_us, interpret_us, created_at,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_direction_1, actual_direction_4, actual_direction_16, actual_direction_48,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48, exit_reason, exit_return, exit_bars
FROM ml_predictions
WHERE close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6) AND NOT shadow
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;

-- name: stored_predictions_of_symbol
SELECT
    symbol, interval_ms, close_time, model, version, bundle_sha256, feature_set_hash, close, volume, state, gap_filled,
    degraded, model_agreement, features_hash, feature_count, nan_count, zero_variance_count, features_mean, features_std,
    features_min, features_max, rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength, outputs, probabilities,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons, rule_score,
    hybrid_score, size_multiplier, gate_probability,
    gate_approved, decode_us, features_us, queue_us, model_us, interpret_us, created_at,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_direction_1, actual_direction_4, actual_direction_16, actual_direction_48,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48, exit_reason, exit_return, exit_bars
FROM ml_predictions
WHERE symbol = $7 AND close_time <= $2 AND (close_time, symbol, interval_ms, model, version) < ($2, $3, $4, $5, $6)
    AND NOT shadow
ORDER BY close_time DESC, symbol DESC, interval_ms DESC, model DESC, version DESC
LIMIT $1;
