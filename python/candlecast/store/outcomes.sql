-- What happened after forecasts, series by series: a pass over some series is one transaction of these statements.
-- The columns of ml_predictions are named by the bars of outputs.HORIZON_BARS, which a test pins to this file.

-- name: outcome_rooms
-- Where a pass keeps what it has found; each connection has its own.
CREATE TEMPORARY TABLE IF NOT EXISTS outcome_candle (
    number integer NOT NULL, open_time timestamptz NOT NULL, close double precision NOT NULL, stored_at timestamptz NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS outcome_series (
    number integer NOT NULL, symbol text COLLATE "C" NOT NULL, interval_ms bigint NOT NULL, bar interval NOT NULL,
    settled_to timestamptz NOT NULL, candles integer NOT NULL, newest timestamptz NOT NULL, sure timestamptz NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS outcome_row (
    number integer NOT NULL, part regclass NOT NULL, place tid NOT NULL,
    symbol text COLLATE "C" NOT NULL, interval_ms bigint NOT NULL, close_time timestamptz NOT NULL,
    model text COLLATE "C" NOT NULL, version integer NOT NULL, day date NOT NULL,
    close double precision NOT NULL, direction text NOT NULL, size_multiplier double precision NOT NULL, confidence double precision,
    quality double precision, stop_loss double precision, take_profit double precision,
    return_1 double precision, return_4 double precision, return_16 double precision, return_48 double precision,
    came_1 smallint, came_4 smallint, came_16 smallint, came_48 smallint,
    expected_1 double precision, expected_4 double precision, expected_16 double precision, expected_48 double precision,
    long_1 double precision, long_4 double precision, long_16 double precision, long_48 double precision,
    short_1 double precision, short_4 double precision, short_16 double precision, short_48 double precision,
    neutral_1 double precision, neutral_4 double precision, neutral_16 double precision, neutral_48 double precision,
    entry_price double precision, exit_reason text, exit_price double precision, exit_open_time timestamptz,
    is_new boolean NOT NULL, is_complete boolean NOT NULL, shadow boolean NOT NULL
) ON COMMIT DELETE ROWS;

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

-- name: outcome_candles
-- The next $3 candles of each series ($1 symbols, $2 intervals) that an outcome may need.
INSERT INTO outcome_candle (number, open_time, close, stored_at)
SELECT s.number, c.open_time, c.close, c.created_at
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS s (symbol, interval_ms, number)
LEFT JOIN ml_outcome_marks AS m ON m.symbol = s.symbol AND m.interval_ms = s.interval_ms
CROSS JOIN LATERAL (
    SELECT candles.open_time, candles.close, candles.created_at
    FROM candles
    WHERE candles.symbol = s.symbol AND candles.interval_ms = s.interval_ms
        AND candles.open_time >= coalesce(m.settled_to, '-infinity')
    ORDER BY candles.open_time
    LIMIT $3
) AS c;

-- name: outcome_series
-- $3 seconds after which what is older than a candle does not come any more, neither candle nor forecast.
INSERT INTO outcome_series (number, symbol, interval_ms, bar, settled_to, candles, newest, sure)
SELECT
    s.number, s.symbol, s.interval_ms, s.interval_ms * interval '1 millisecond', coalesce(m.settled_to, '-infinity'),
    c.candles, c.newest, coalesce(c.sure, '-infinity')
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS s (symbol, interval_ms, number)
JOIN (
    SELECT
        number, count(*) AS candles, max(open_time) AS newest,
        max(open_time) FILTER (WHERE stored_at < now() - $3::double precision * interval '1 second') AS sure
    FROM outcome_candle
    GROUP BY number
) AS c ON c.number = s.number
LEFT JOIN ml_outcome_marks AS m ON m.symbol = s.symbol AND m.interval_ms = s.interval_ms;

-- name: outcome_rows
-- The forecasts of these series that lack an outcome, and what is new. $1 to $4 above which |return| a horizon has a side;
-- $5 bars that a position is held, $6 candles that a pass looks at. An exit is that of training/simulator.py without costs: entered at the open of the next
-- candle; at an open that has passed the take there, or past the last bar, at the open; then the stop before the take.
INSERT INTO outcome_row (
    number, part, place, symbol, interval_ms, close_time, model, version, day, close, direction, size_multiplier, confidence, quality,
    stop_loss, take_profit, return_1, return_4, return_16, return_48, came_1, came_4, came_16, came_48,
    expected_1, expected_4, expected_16, expected_48, long_1, long_4, long_16, long_48,
    short_1, short_4, short_16, short_48, neutral_1, neutral_4, neutral_16, neutral_48,
    entry_price, exit_reason, exit_price, exit_open_time, is_new, is_complete, shadow)
SELECT
    r.number, r.part, r.place, r.symbol, r.interval_ms, r.close_time, r.model, r.version, (r.close_time AT TIME ZONE 'UTC')::date,
    r.close, r.direction, r.size_multiplier, r.confidence, r.quality, r.stop_loss, r.take_profit,
    r.return_1, r.return_4, r.return_16, r.return_48,
    CASE WHEN r.return_1 > $1::double precision THEN 0 WHEN r.return_1 < -($1::double precision) THEN 1 WHEN r.return_1 IS NOT NULL THEN 2 END,
    CASE WHEN r.return_4 > $2::double precision THEN 0 WHEN r.return_4 < -($2::double precision) THEN 1 WHEN r.return_4 IS NOT NULL THEN 2 END,
    CASE WHEN r.return_16 > $3::double precision THEN 0 WHEN r.return_16 < -($3::double precision) THEN 1 WHEN r.return_16 IS NOT NULL THEN 2 END,
    CASE WHEN r.return_48 > $4::double precision THEN 0 WHEN r.return_48 < -($4::double precision) THEN 1 WHEN r.return_48 IS NOT NULL THEN 2 END,
    -- Outputs that are not all finite say nothing: such a forecast has no confidence.
    CASE WHEN r.said_1 THEN float4_le(r.outputs, 0) END, CASE WHEN r.said_4 THEN float4_le(r.outputs, 1) END,
    CASE WHEN r.said_16 THEN float4_le(r.outputs, 2) END, CASE WHEN r.said_48 THEN float4_le(r.outputs, 3) END,
    CASE WHEN r.said_1 THEN float4_le(r.probabilities, 0) END, CASE WHEN r.said_4 THEN float4_le(r.probabilities, 3) END,
    CASE WHEN r.said_16 THEN float4_le(r.probabilities, 6) END, CASE WHEN r.said_48 THEN float4_le(r.probabilities, 9) END,
    CASE WHEN r.said_1 THEN float4_le(r.probabilities, 1) END, CASE WHEN r.said_4 THEN float4_le(r.probabilities, 4) END,
    CASE WHEN r.said_16 THEN float4_le(r.probabilities, 7) END, CASE WHEN r.said_48 THEN float4_le(r.probabilities, 10) END,
    CASE WHEN r.said_1 THEN float4_le(r.probabilities, 2) END, CASE WHEN r.said_4 THEN float4_le(r.probabilities, 5) END,
    CASE WHEN r.said_16 THEN float4_le(r.probabilities, 8) END, CASE WHEN r.said_48 THEN float4_le(r.probabilities, 11) END,
    r.entry_price, r.exit_reason, r.exit_price, r.exit_open_time,
    coalesce(r.return_1, r.return_4, r.return_16, r.return_48) IS NOT NULL OR r.exit_reason IS NOT NULL,
    r.has_all_returns AND (r.has_exit OR r.exit_reason IS NOT NULL), r.shadow
FROM (
    SELECT
        s.number, p.part, p.place, s.symbol, s.interval_ms, p.close_time, p.model, p.version, p.close, p.direction, p.size_multiplier,
        p.confidence, p.quality, p.stop_loss, p.take_profit, p.outputs, p.probabilities, p.shadow,
        c1.close / p.close - 1 AS return_1, c4.close / p.close - 1 AS return_4,
        c16.close / p.close - 1 AS return_16, c48.close / p.close - 1 AS return_48,
        c1.close IS NOT NULL AND p.confidence IS NOT NULL AS said_1,
        c4.close IS NOT NULL AND p.confidence IS NOT NULL AS said_4,
        c16.close IS NOT NULL AND p.confidence IS NOT NULL AS said_16,
        c48.close IS NOT NULL AND p.confidence IS NOT NULL AS said_48,
        (p.has_1 OR c1.close IS NOT NULL) AND (p.has_4 OR c4.close IS NOT NULL)
            AND (p.has_16 OR c16.close IS NOT NULL) AND (p.has_48 OR c48.close IS NOT NULL) AS has_all_returns,
        p.has_exit,
        came.entry_price,
        CASE WHEN NOT p.has_exit AND came.entry_price IS NULL AND s.sure > p.close_time THEN 'NO_ENTRY' ELSE came.reason END
            AS exit_reason,
        came.price AS exit_price, came.open_time AS exit_open_time
    FROM outcome_series AS s
    CROSS JOIN LATERAL (
        SELECT
            f.tableoid::regclass AS part, f.ctid AS place,
            f.close_time, f.model, f.version, f.close, f.direction, coalesce(f.size_multiplier, 1) AS size_multiplier, f.confidence, f.quality,
            f.stop_loss, f.take_profit, f.outputs, f.probabilities, f.shadow,
            f.actual_return_1 IS NOT NULL AS has_1, f.actual_return_4 IS NOT NULL AS has_4,
            f.actual_return_16 IS NOT NULL AS has_16, f.actual_return_48 IS NOT NULL AS has_48,
            f.direction = 'NEUTRAL' OR f.exit_reason IS NOT NULL AS has_exit,
            CASE f.direction WHEN 'LONG' THEN 1 ELSE -1 END AS side
        FROM ml_predictions AS f
        WHERE f.symbol = s.symbol AND f.interval_ms = s.interval_ms
            AND f.close_time > s.settled_to
            -- Where more candles wait, what the next pass can do whole is left to it.
            AND f.close_time <= s.newest + CASE WHEN s.candles >= $6::integer THEN -47 ELSE 1 END * s.bar
            AND (f.actual_return_1 IS NULL OR f.actual_return_4 IS NULL OR f.actual_return_16 IS NULL
                OR f.actual_return_48 IS NULL OR (f.direction <> 'NEUTRAL' AND f.exit_reason IS NULL))
        OFFSET 0  -- stays apart, so that it is asked by the primary key for each series
    ) AS p
    LEFT JOIN outcome_candle AS c1 ON c1.number = s.number AND c1.open_time = p.close_time AND NOT p.has_1
    LEFT JOIN outcome_candle AS c4 ON c4.number = s.number AND c4.open_time = p.close_time + 3 * s.bar AND NOT p.has_4
    LEFT JOIN outcome_candle AS c16 ON c16.number = s.number AND c16.open_time = p.close_time + 15 * s.bar AND NOT p.has_16
    LEFT JOIN outcome_candle AS c48 ON c48.number = s.number AND c48.open_time = p.close_time + 47 * s.bar AND NOT p.has_48
    LEFT JOIN LATERAL (
        SELECT entered.open AS entry_price, left_at.reason, left_at.price, left_at.open_time
        FROM candles AS entered
        LEFT JOIN LATERAL (
            SELECT
                walked.open_time, walked.reason,
                CASE walked.reason
                    WHEN 'TAKE' THEN walked.take
                    WHEN 'STOP' THEN CASE WHEN p.side * (walked.open - walked.stop) <= 0 THEN walked.open ELSE walked.stop END
                    WHEN 'TIME' THEN CASE WHEN walked.is_late THEN walked.open ELSE walked.close END
                END AS price
            FROM (
                SELECT
                    bar.open_time, bar.open, bar.close, bar.is_late, bar.stop, bar.take,
                    CASE
                        WHEN p.side * (bar.open - bar.take) >= 0 THEN 'TAKE'
                        WHEN bar.is_late AND p.side * (bar.open - bar.stop) > 0 THEN 'TIME'
                        WHEN p.side * (bar.worst - bar.stop) <= 0 THEN 'STOP'
                        WHEN p.side * (bar.best - bar.take) >= 0 THEN 'TAKE'
                        WHEN bar.open_time = p.close_time + ($5::integer - 1) * s.bar THEN 'TIME'
                    END AS reason
                FROM (
                    SELECT
                        c.open_time, c.open, c.close,
                        CASE WHEN p.side > 0 THEN c.low ELSE c.high END AS worst,
                        CASE WHEN p.side > 0 THEN c.high ELSE c.low END AS best,
                        c.open_time > p.close_time + ($5::integer - 1) * s.bar AS is_late,
                        entered.open * (1 - p.side * p.stop_loss) AS stop,
                        entered.open * (1 + p.side * p.take_profit) AS take
                    FROM candles AS c
                    WHERE c.symbol = s.symbol AND c.interval_ms = s.interval_ms
                        AND c.open_time >= p.close_time AND c.open_time <= s.newest
                ) AS bar
            ) AS walked
            WHERE walked.reason IS NOT NULL
            ORDER BY walked.open_time
            LIMIT 1
        ) AS left_at ON true
        WHERE entered.symbol = s.symbol AND entered.interval_ms = s.interval_ms AND entered.open_time = p.close_time
            AND NOT p.has_exit
        LIMIT 1
    ) AS came ON true
) AS r;

-- name: outcome_parts
SELECT part::text AS part FROM outcome_row WHERE is_new GROUP BY part;

-- name: outcome_write
-- Partition by partition (in the place of `ml_predictions`) and by the place of each row, which saves looking for it. A row that
-- somebody else has moved meanwhile is not found: the caller counts.
UPDATE ONLY ml_predictions AS p SET
    actual_return_1 = coalesce(p.actual_return_1, r.return_1::real),
    actual_return_4 = coalesce(p.actual_return_4, r.return_4::real),
    actual_return_16 = coalesce(p.actual_return_16, r.return_16::real),
    actual_return_48 = coalesce(p.actual_return_48, r.return_48::real),
    actual_direction_1 = coalesce(p.actual_direction_1, ($1::text[])[r.came_1 + 1]),
    actual_direction_4 = coalesce(p.actual_direction_4, ($1::text[])[r.came_4 + 1]),
    actual_direction_16 = coalesce(p.actual_direction_16, ($1::text[])[r.came_16 + 1]),
    actual_direction_48 = coalesce(p.actual_direction_48, ($1::text[])[r.came_48 + 1]),
    hit_1 = coalesce(p.hit_1, likeliest_class(r.long_1, r.short_1, r.neutral_1) = r.came_1),
    hit_4 = coalesce(p.hit_4, likeliest_class(r.long_4, r.short_4, r.neutral_4) = r.came_4),
    hit_16 = coalesce(p.hit_16, likeliest_class(r.long_16, r.short_16, r.neutral_16) = r.came_16),
    hit_48 = coalesce(p.hit_48, likeliest_class(r.long_48, r.short_48, r.neutral_48) = r.came_48),
    error_1 = coalesce(p.error_1, (r.return_1 - r.expected_1)::real),
    error_4 = coalesce(p.error_4, (r.return_4 - r.expected_4)::real),
    error_16 = coalesce(p.error_16, (r.return_16 - r.expected_16)::real),
    error_48 = coalesce(p.error_48, (r.return_48 - r.expected_48)::real),
    exit_reason = coalesce(p.exit_reason, r.exit_reason),
    exit_return = coalesce(
        p.exit_return, ((CASE r.direction WHEN 'LONG' THEN 1 ELSE -1 END) * (r.exit_price / r.entry_price - 1))::real),
    exit_bars = coalesce(
        p.exit_bars, CASE WHEN r.exit_open_time IS NOT NULL THEN
            least(1 + extract(epoch FROM r.exit_open_time - r.close_time) * 1000 / r.interval_ms, 32767)::smallint END)
FROM outcome_row AS r
WHERE r.is_new AND r.part = 'ml_predictions'::regclass AND p.ctid = r.place;

-- name: outcome_turn
-- What follows adds to rows that several passes share: one after the other, or two could wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('candlecast.outcomes', 0));

-- name: outcome_accuracy
INSERT INTO ml_accuracy_counts AS kept (
    model, version, interval_ms, symbol, day, horizon_bars, bin, forecasts, hits, longs, shorts, neutrals, side_hits,
    confidence, log_loss, brier, error, error_size, error_square, return_size)
SELECT
    r.model, r.version, r.interval_ms, r.symbol, r.day, h.bars,
    least(floor(greatest(h.long, h.short, h.neutral) * 20), 19)::smallint AS bin,
    count(*), count(*) FILTER (WHERE h.came = likeliest_class(h.long, h.short, h.neutral)),
    count(*) FILTER (WHERE h.came = 0), count(*) FILTER (WHERE h.came = 1), count(*) FILTER (WHERE h.came = 2),
    count(*) FILTER (WHERE h.came <> 2 AND (h.short > h.long) = (h.came = 1)),
    sum(greatest(h.long, h.short, h.neutral)),
    sum(-ln(greatest(CASE h.came WHEN 0 THEN h.long WHEN 1 THEN h.short ELSE h.neutral END, 1e-12::double precision))),
    sum(h.long * h.long + h.short * h.short + h.neutral * h.neutral + 1
        - 2 * CASE h.came WHEN 0 THEN h.long WHEN 1 THEN h.short ELSE h.neutral END),
    sum(h.actual - h.expected), sum(abs(h.actual - h.expected)), sum((h.actual - h.expected) * (h.actual - h.expected)),
    sum(abs(h.actual))
FROM outcome_row AS r
CROSS JOIN LATERAL (VALUES
    (1, r.came_1, r.long_1, r.short_1, r.neutral_1, r.return_1, r.expected_1),
    (4, r.came_4, r.long_4, r.short_4, r.neutral_4, r.return_4, r.expected_4),
    (16, r.came_16, r.long_16, r.short_16, r.neutral_16, r.return_16, r.expected_16),
    (48, r.came_48, r.long_48, r.short_48, r.neutral_48, r.return_48, r.expected_48)
) AS h (bars, came, long, short, neutral, actual, expected)
WHERE r.is_new AND h.long IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (model, version, interval_ms, symbol, day, horizon_bars, bin) DO UPDATE SET
    forecasts = kept.forecasts + excluded.forecasts, hits = kept.hits + excluded.hits,
    longs = kept.longs + excluded.longs, shorts = kept.shorts + excluded.shorts,
    neutrals = kept.neutrals + excluded.neutrals, side_hits = kept.side_hits + excluded.side_hits,
    confidence = kept.confidence + excluded.confidence, log_loss = kept.log_loss + excluded.log_loss,
    brier = kept.brier + excluded.brier, error = kept.error + excluded.error,
    error_size = kept.error_size + excluded.error_size, error_square = kept.error_square + excluded.error_square,
    return_size = kept.return_size + excluded.return_size;

-- name: outcome_exits
INSERT INTO ml_exit_counts AS kept (
    model, version, interval_ms, symbol, day, direction, exit_reason, signals, wins, exit_return, exit_bars, stop_loss,
    take_profit)
SELECT
    r.model, r.version, r.interval_ms, r.symbol, r.day, r.direction, r.exit_reason, count(*), count(*) FILTER (WHERE x.gain > 0),
    coalesce(sum(x.gain), 0), coalesce(sum(1 + extract(epoch FROM r.exit_open_time - r.close_time) * 1000 / r.interval_ms), 0),
    sum(r.stop_loss), sum(r.take_profit)
FROM outcome_row AS r
CROSS JOIN LATERAL (
    SELECT (CASE r.direction WHEN 'LONG' THEN 1 ELSE -1 END) * (r.exit_price / r.entry_price - 1) AS gain
) AS x
WHERE r.exit_reason IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (model, version, interval_ms, symbol, day, direction, exit_reason) DO UPDATE SET
    signals = kept.signals + excluded.signals, wins = kept.wins + excluded.wins,
    exit_return = kept.exit_return + excluded.exit_return, exit_bars = kept.exit_bars + excluded.exit_bars,
    stop_loss = kept.stop_loss + excluded.stop_loss, take_profit = kept.take_profit + excluded.take_profit;

-- name: outcome_signals
-- The server's own signals, as a strategy named $1: a LONG or SHORT forecast enters at the open of the next candle (until that
-- is known, its own close stands for it) with a stake of its suggested size, and pays $2 of the value of each fill.
WITH logged AS (
    INSERT INTO ml_strategy_signals AS kept (
        key, strategy, symbol, side, status, entry_price, entry_time, size, confidence, quality, closed_size, closed_value,
        fees, exit_price, exit_time, exit_reason, pnl, is_winner,
        prediction_interval_ms, prediction_close_time, prediction_model, prediction_version)
    SELECT
        concat_ws(':', $1::text, t.symbol, t.interval_ms, (extract(epoch FROM t.close_time) * 1000)::bigint, t.model, t.version),
        $1::text, t.symbol, t.direction, t.status, t.entry, t.close_time, t.size, t.confidence, t.quality,
        CASE t.status WHEN 'CLOSED' THEN t.size ELSE 0 END, CASE t.status WHEN 'CLOSED' THEN t.exit_price * t.size ELSE 0 END,
        t.fees, t.exit_price, CASE t.status WHEN 'CLOSED' THEN t.exit_open_time + t.bar END, t.exit_reason,
        t.gain - t.fees, t.gain > t.fees,
        t.interval_ms, t.close_time, t.model, t.version
    FROM (
        SELECT
            r.*, stake.size, stake.entry, s.bar,
            CASE WHEN r.exit_reason = 'NO_ENTRY' THEN 'VOID' WHEN r.exit_reason IS NULL THEN 'OPEN' ELSE 'CLOSED' END AS status,
            CASE WHEN r.exit_reason = 'NO_ENTRY' THEN 0 ELSE $2::double precision * stake.size * (stake.entry + coalesce(r.exit_price, 0)) END AS fees,
            (CASE r.direction WHEN 'LONG' THEN 1 ELSE -1 END) * (r.exit_price - stake.entry) * stake.size AS gain
        FROM outcome_row AS r
        JOIN outcome_series AS s USING (number)
        CROSS JOIN LATERAL (
            SELECT
                r.size_multiplier / r.close AS size, coalesce(r.entry_price, r.close) AS entry
        ) AS stake
        WHERE r.direction <> 'NEUTRAL' AND NOT r.shadow AND (r.exit_reason IS NOT NULL OR NOT r.is_complete)
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
-- What a candle that has been here long enough decides is done with: it has everything, or what it lacks will not come. Returns for
-- each series whether more candles wait than were looked at, and whether its mark has moved.
WITH moved AS (
    SELECT symbol, interval_ms, settled_to, candles, greatest(settled_to, sure - 47 * bar) AS settled_now
    FROM outcome_series
), kept AS (
    INSERT INTO ml_outcome_marks (symbol, interval_ms, settled_to)
    SELECT symbol, interval_ms, settled_now FROM moved WHERE settled_now > settled_to
    ON CONFLICT (symbol, interval_ms) DO UPDATE SET settled_to = excluded.settled_to
)
SELECT symbol, interval_ms, candles >= $1::integer AS has_more, settled_now > settled_to AS has_moved FROM moved;

-- name: outcome_count
SELECT count(*) FILTER (WHERE is_new) FROM outcome_row;

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
