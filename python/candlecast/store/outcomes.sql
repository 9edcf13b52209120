-- What happened after forecasts, series by series: a pass over some series is one transaction of these statements. What is read
-- comes by binary COPY, so no column is NULL; the arithmetic is candlecast/outcomes.py.

-- name: outcome_rooms
-- Where a pass puts what has changed in rows that were there, and what it has counted; each connection has its own. Months that
-- forecasts have, outcomes get.
CREATE TEMPORARY TABLE IF NOT EXISTS outcome_change (LIKE ml_outcome_rows) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS outcome_count (
    speaker integer, series integer, day integer, horizon_bars smallint, bin smallint, forecasts bigint, hits bigint,
    longs bigint, shorts bigint, neutrals bigint, side_hits bigint, confidence double precision, log_loss double precision,
    brier double precision, error double precision, error_size double precision, error_square double precision,
    return_size double precision
) ON COMMIT DELETE ROWS;
SELECT create_month_partitions('ml_outcome_rows', array_agg(to_date(right(relname, 7), 'YYYY_MM')))
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'ml_prediction_rows'::regclass AND relname ~ '_\d{4}_\d{2}$'
HAVING count(*) > 0;

-- name: outcome_begin
-- A lost commit is made again, so nobody waits for the disk.
SELECT
    set_config('synchronous_commit', 'off', true), set_config('work_mem', '32MB', true),
    set_config('statement_timeout', $1, true);

-- name: outcome_locks
-- One pass at a time over a series, whoever makes it.
SELECT count(pg_advisory_xact_lock(hashtextextended('candlecast.outcomes ' || s.symbol, s.interval_ms)))
FROM (
    SELECT symbol, interval_ms FROM unnest($1::text[], $2::bigint[]) AS given (symbol, interval_ms) ORDER BY 1, 2
) AS s;

-- name: outcome_settled
-- Up to which close each series ($1 symbols, $2 intervals) is settled, in ms; $3: not at all. And the time.
SELECT
    coalesce((extract(epoch FROM m.settled_to) * 1000)::bigint, $3::bigint) AS settled_ms,
    (extract(epoch FROM now()) * 1000)::bigint AS now_ms
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS s (symbol, interval_ms, number)
LEFT JOIN ml_outcome_marks AS m ON m.symbol = s.symbol AND m.interval_ms = s.interval_ms
ORDER BY s.number;

-- name: outcome_candles
-- The next $4 candles of each series from its mark ($3, in ms) on.
SELECT s.number::integer, c.open_time, c.created_at, c.open, c.high, c.low, c.close
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS s (symbol, interval_ms, settled_ms, number)
CROSS JOIN LATERAL (
    SELECT open_time, created_at, open, high, low, close
    FROM candles
    WHERE symbol = s.symbol AND interval_ms = s.interval_ms
        AND open_time >= to_timestamp(s.settled_ms / 1000.0::double precision)
    ORDER BY open_time
    LIMIT $4
) AS c;

-- name: outcome_forecasts
-- The forecasts of each series that closed after $3 and at $4 at the latest, in ms. $5 bytes are the expected returns, $6 all
-- probabilities: what is shorter says nothing.
SELECT
    s.number::integer, f.close_time, hashtextextended(f.model, 0), f.version, f.close,
    (CASE f.direction WHEN 'LONG' THEN 1 WHEN 'SHORT' THEN -1 ELSE 0 END)::smallint, coalesce(f.size_multiplier, 1),
    coalesce(f.confidence, 'NaN'), coalesce(f.quality, 'NaN'), coalesce(f.stop_loss, 'NaN'), coalesce(f.take_profit, 'NaN'),
    substr(f.outputs, 1, $5), f.probabilities, f.shadow
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
    AS s (symbol, interval_ms, after_ms, upto_ms, number)
CROSS JOIN LATERAL (
    SELECT
        close_time, model, version, close, direction, size_multiplier, confidence, quality, stop_loss, take_profit, outputs,
        probabilities, shadow
    FROM ml_prediction_rows
    WHERE symbol = s.symbol AND interval_ms = s.interval_ms
        AND close_time > to_timestamp(s.after_ms / 1000.0::double precision)
        AND close_time <= to_timestamp(s.upto_ms / 1000.0::double precision)
        AND octet_length(outputs) >= $5 AND octet_length(probabilities) = $6
    OFFSET 0  -- stays apart, so that it is asked by the primary key for each series
) AS f;

-- name: outcome_known
-- What is known of them already.
SELECT
    s.number::integer, o.close_time, hashtextextended(o.model, 0), o.version,
    coalesce(o.actual_return_1, 'NaN'), coalesce(o.actual_return_4, 'NaN'), coalesce(o.actual_return_16, 'NaN'),
    coalesce(o.actual_return_48, 'NaN'), coalesce(o.actual_class_1, -1::smallint), coalesce(o.actual_class_4, -1::smallint),
    coalesce(o.actual_class_16, -1::smallint), coalesce(o.actual_class_48, -1::smallint),
    coalesce(o.hit_1::integer, -1), coalesce(o.hit_4::integer, -1), coalesce(o.hit_16::integer, -1),
    coalesce(o.hit_48::integer, -1), coalesce(o.error_1, 'NaN'), coalesce(o.error_4, 'NaN'), coalesce(o.error_16, 'NaN'),
    coalesce(o.error_48, 'NaN'), coalesce(o.exit_code, -1::smallint), coalesce(o.exit_return, 'NaN'),
    coalesce(o.exit_bars, -1::smallint)
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
    AS s (symbol, interval_ms, after_ms, upto_ms, number)
CROSS JOIN LATERAL (
    SELECT *
    FROM ml_outcome_rows
    WHERE symbol = s.symbol AND interval_ms = s.interval_ms
        AND close_time > to_timestamp(s.after_ms / 1000.0::double precision)
        AND close_time <= to_timestamp(s.upto_ms / 1000.0::double precision)
    OFFSET 0
) AS o;

-- name: outcome_models
-- The names behind hashes that were not met before, each with the key ($1 to $3, time in ms) of a forecast.
SELECT DISTINCT hashtextextended(f.model, 0) AS hash, f.model
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS s (symbol, interval_ms, close_time_ms)
CROSS JOIN LATERAL (
    SELECT model
    FROM ml_prediction_rows
    WHERE symbol = s.symbol AND interval_ms = s.interval_ms
        AND close_time = to_timestamp(s.close_time_ms / 1000.0::double precision)
    OFFSET 0
) AS f;

-- name: outcome_write
-- What has changed in rows that were there, from outcome_change. As a join PostgreSQL would read whole months: of closes that are
-- newer than its statistics it expects a row or none.
INSERT INTO ml_outcome_rows SELECT * FROM outcome_change
ON CONFLICT (symbol, close_time, interval_ms, model, version) DO UPDATE SET
    actual_return_1 = excluded.actual_return_1, actual_return_4 = excluded.actual_return_4,
    actual_return_16 = excluded.actual_return_16, actual_return_48 = excluded.actual_return_48,
    actual_class_1 = excluded.actual_class_1, actual_class_4 = excluded.actual_class_4,
    actual_class_16 = excluded.actual_class_16, actual_class_48 = excluded.actual_class_48, hit_1 = excluded.hit_1,
    hit_4 = excluded.hit_4, hit_16 = excluded.hit_16, hit_48 = excluded.hit_48, error_1 = excluded.error_1,
    error_4 = excluded.error_4, error_16 = excluded.error_16, error_48 = excluded.error_48, exit_code = excluded.exit_code,
    exit_return = excluded.exit_return, exit_bars = excluded.exit_bars;

-- name: outcome_turn
-- What follows adds to rows that several passes share: one after the other, or two could wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('candlecast.outcomes', 0));

-- name: outcome_accuracy
-- From outcome_count, which has numbers for models and versions ($1, $2) and for series ($3, $4).
INSERT INTO ml_accuracy_counts AS kept (
    model, version, interval_ms, symbol, day, horizon_bars, bin, forecasts, hits, longs, shorts, neutrals, side_hits,
    confidence, log_loss, brier, error, error_size, error_square, return_size)
SELECT
    m.model, m.version, s.interval_ms, s.symbol, date '1970-01-01' + c.day, c.horizon_bars, c.bin, c.forecasts, c.hits, c.longs,
    c.shorts, c.neutrals, c.side_hits, c.confidence, c.log_loss, c.brier, c.error, c.error_size, c.error_square, c.return_size
FROM outcome_count AS c
JOIN unnest($1::text[], $2::integer[]) WITH ORDINALITY AS m (model, version, number) ON m.number = c.speaker
JOIN unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS s (symbol, interval_ms, number) ON s.number = c.series
ON CONFLICT (model, version, interval_ms, symbol, day, horizon_bars, bin) DO UPDATE SET
    forecasts = kept.forecasts + excluded.forecasts, hits = kept.hits + excluded.hits,
    longs = kept.longs + excluded.longs, shorts = kept.shorts + excluded.shorts,
    neutrals = kept.neutrals + excluded.neutrals, side_hits = kept.side_hits + excluded.side_hits,
    confidence = kept.confidence + excluded.confidence, log_loss = kept.log_loss + excluded.log_loss,
    brier = kept.brier + excluded.brier, error = kept.error + excluded.error,
    error_size = kept.error_size + excluded.error_size, error_square = kept.error_square + excluded.error_square,
    return_size = kept.return_size + excluded.return_size;

-- name: outcome_exits
-- Of LONG and SHORT forecasts that have ended now: $1 to $7 the keys, $8 what each brought (NULL: no entry), $9 the bars it was held,
-- $10 its stop, $11 its take.
INSERT INTO ml_exit_counts AS kept (
    model, version, interval_ms, symbol, day, direction, exit_reason, signals, wins, exit_return, exit_bars, stop_loss,
    take_profit)
SELECT
    r.model, r.version, r.interval_ms, r.symbol, r.day, r.direction, r.exit_reason, count(*),
    count(*) FILTER (WHERE r.gain > 0), coalesce(sum(r.gain), 0), coalesce(sum(r.bars), 0), sum(r.stop_loss), sum(r.take_profit)
FROM unnest(
    $1::text[], $2::integer[], $3::bigint[], $4::text[], $5::date[], $6::text[], $7::text[], $8::double precision[],
    $9::double precision[], $10::double precision[], $11::double precision[])
    AS r (model, version, interval_ms, symbol, day, direction, exit_reason, gain, bars, stop_loss, take_profit)
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (model, version, interval_ms, symbol, day, direction, exit_reason) DO UPDATE SET
    signals = kept.signals + excluded.signals, wins = kept.wins + excluded.wins,
    exit_return = kept.exit_return + excluded.exit_return, exit_bars = kept.exit_bars + excluded.exit_bars,
    stop_loss = kept.stop_loss + excluded.stop_loss, take_profit = kept.take_profit + excluded.take_profit;

-- name: outcome_signals
-- The server's own signals, as a strategy named $1: a LONG or SHORT forecast enters at the open of the next candle (until that
-- is known, its own close stands for it) with a stake of its suggested size, and pays $2 of the value of each fill. $3 to $16 are
-- columns of those that have ended now or are open.
WITH logged AS (
    INSERT INTO ml_strategy_signals AS kept (
        key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, quality, closed_size, closed_value,
        fees, exit_price, exit_time, exit_reason, pnl, is_winner,
        prediction_interval_ms, prediction_close_time, prediction_model, prediction_version)
    SELECT
        concat_ws(':', $1::text, t.symbol, t.interval_ms, t.close_time_ms, t.model, t.version),
        $1::text, t.symbol, t.direction, t.status, t.entry, t.close_time, t.size, t.confidence, t.quality,
        CASE t.status WHEN 'CLOSED' THEN t.size ELSE 0 END, CASE t.status WHEN 'CLOSED' THEN t.exit_price * t.size ELSE 0 END,
        t.fees, t.exit_price, CASE t.status WHEN 'CLOSED' THEN t.exit_time END, t.exit_reason,
        t.gain - t.fees, t.gain > t.fees,
        t.interval_ms, t.close_time, t.model, t.version
    FROM (
        SELECT
            r.*, stake.size, stake.entry, to_timestamp(r.close_time_ms / 1000.0::double precision) AS close_time,
            to_timestamp(r.exit_time_ms / 1000.0::double precision) AS exit_time,
            CASE WHEN r.exit_reason = 'NO_ENTRY' THEN 'VOID' WHEN r.exit_reason IS NULL THEN 'OPEN' ELSE 'CLOSED' END AS status,
            CASE WHEN r.exit_reason = 'NO_ENTRY' THEN 0 ELSE $2::double precision * stake.size * (stake.entry + coalesce(r.exit_price, 0)) END AS fees,
            (CASE r.direction WHEN 'LONG' THEN 1 ELSE -1 END) * (r.exit_price - stake.entry) * stake.size AS gain
        FROM unnest(
            $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::double precision[],
            $10::double precision[], $11::double precision[], $12::double precision[], $13::double precision[],
            $14::double precision[], $15::bigint[], $16::text[])
            AS r (model, version, interval_ms, symbol, close_time_ms, direction, close, size_multiplier, confidence, quality,
                entry_price, exit_price, exit_time_ms, exit_reason)
        CROSS JOIN LATERAL (
            SELECT r.size_multiplier / r.close AS size, coalesce(r.entry_price, r.close) AS entry
        ) AS stake
    ) AS t
    ON CONFLICT (key) DO UPDATE SET
        status = excluded.status, entry_price = excluded.entry_price, closed_size = excluded.closed_size,
        closed_value = excluded.closed_value, fees = excluded.fees, exit_price = excluded.exit_price,
        exit_time = excluded.exit_time, exit_reason = excluded.exit_reason, pnl = excluded.pnl, is_winner = excluded.is_winner
    WHERE kept.status = 'OPEN' AND (excluded.status <> 'OPEN' OR excluded.entry_price <> kept.entry_price)
    RETURNING entry_time, exit_time
)
INSERT INTO ml_strategy_stale (strategy, day)
SELECT DISTINCT $1::text, (at AT TIME ZONE 'UTC')::date
FROM logged CROSS JOIN LATERAL (VALUES (entry_time), (exit_time)) AS v (at)
WHERE at IS NOT NULL
ORDER BY 2
ON CONFLICT (strategy, day) DO UPDATE SET marked_at = now();

-- name: outcome_marks
-- $3: what a candle that has been here long enough decides is done with: it has everything, or what it lacks will not come.
INSERT INTO ml_outcome_marks (symbol, interval_ms, settled_to)
SELECT symbol, interval_ms, to_timestamp(settled_ms / 1000.0::double precision)
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS moved (symbol, interval_ms, settled_ms)
ORDER BY symbol, interval_ms
ON CONFLICT (symbol, interval_ms) DO UPDATE SET settled_to = excluded.settled_to;

-- name: candle_series_after
-- Every symbol and interval with candles, $3 at most, after ($1, $2). Each step is one look-up in the primary key.
WITH RECURSIVE found AS (
    (SELECT symbol, interval_ms FROM candles WHERE (symbol, interval_ms) > ($1::text, $2::bigint) ORDER BY symbol, interval_ms LIMIT 1)
    UNION ALL
    SELECT next.symbol, next.interval_ms
    FROM found
    CROSS JOIN LATERAL (
        SELECT c.symbol, c.interval_ms
        FROM candles AS c
        WHERE (c.symbol, c.interval_ms) > (found.symbol, found.interval_ms)
        ORDER BY c.symbol, c.interval_ms
        LIMIT 1
    ) AS next
)
SELECT symbol, interval_ms FROM found LIMIT $3;
