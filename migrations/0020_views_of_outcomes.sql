-- Why: how right the models are over all symbols is asked more often than of one; and what strategies made of signals,
-- what stops and takes did, and what is at risk have their views.
-- Why safe: creates only; the views it replaces keep their columns. The counts of what is settled already are added up once.

-- ml_accuracy_counts over all symbols: what a page about months reads instead.
CREATE TABLE ml_accuracy_days (
    LIKE ml_accuracy_counts,
    PRIMARY KEY (day, model, version, interval_ms, horizon_bars, bin)
) WITH (fillfactor = 70);
ALTER TABLE ml_accuracy_days DROP COLUMN symbol;
COMMENT ON TABLE ml_accuracy_days IS 'ml_accuracy_counts of all symbols together; a trigger there keeps it';

CREATE FUNCTION add_accuracy_days() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO ml_accuracy_days AS days (
        model, version, interval_ms, day, horizon_bars, bin, forecasts, hits, longs, shorts, neutrals, side_hits,
        confidence, log_loss, brier, error, error_size, error_square, return_size)
    SELECT
        model, version, interval_ms, day, horizon_bars, bin, sum(forecasts), sum(hits), sum(longs), sum(shorts),
        sum(neutrals), sum(side_hits), sum(confidence), sum(log_loss), sum(brier), sum(error), sum(error_size),
        sum(error_square), sum(return_size)
    FROM added
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY 4, 1, 2, 3, 5, 6
    ON CONFLICT (day, model, version, interval_ms, horizon_bars, bin) DO UPDATE SET
        forecasts = days.forecasts + excluded.forecasts, hits = days.hits + excluded.hits,
        longs = days.longs + excluded.longs, shorts = days.shorts + excluded.shorts,
        neutrals = days.neutrals + excluded.neutrals, side_hits = days.side_hits + excluded.side_hits,
        confidence = days.confidence + excluded.confidence, log_loss = days.log_loss + excluded.log_loss,
        brier = days.brier + excluded.brier, error = days.error + excluded.error,
        error_size = days.error_size + excluded.error_size, error_square = days.error_square + excluded.error_square,
        return_size = days.return_size + excluded.return_size;
    RETURN NULL;
END $$;

-- A count only grows, so what an update adds is the new row less the old one.
CREATE FUNCTION add_accuracy_changes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO ml_accuracy_days AS days (
        model, version, interval_ms, day, horizon_bars, bin, forecasts, hits, longs, shorts, neutrals, side_hits,
        confidence, log_loss, brier, error, error_size, error_square, return_size)
    SELECT
        model, version, interval_ms, day, horizon_bars, bin, sum(sign * forecasts), sum(sign * hits), sum(sign * longs),
        sum(sign * shorts), sum(sign * neutrals), sum(sign * side_hits), sum(sign * confidence), sum(sign * log_loss),
        sum(sign * brier), sum(sign * error), sum(sign * error_size), sum(sign * error_square), sum(sign * return_size)
    FROM (SELECT 1 AS sign, now.* FROM now UNION ALL SELECT -1, before.* FROM before) AS changed
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY 4, 1, 2, 3, 5, 6
    ON CONFLICT (day, model, version, interval_ms, horizon_bars, bin) DO UPDATE SET
        forecasts = days.forecasts + excluded.forecasts, hits = days.hits + excluded.hits,
        longs = days.longs + excluded.longs, shorts = days.shorts + excluded.shorts,
        neutrals = days.neutrals + excluded.neutrals, side_hits = days.side_hits + excluded.side_hits,
        confidence = days.confidence + excluded.confidence, log_loss = days.log_loss + excluded.log_loss,
        brier = days.brier + excluded.brier, error = days.error + excluded.error,
        error_size = days.error_size + excluded.error_size, error_square = days.error_square + excluded.error_square,
        return_size = days.return_size + excluded.return_size;
    RETURN NULL;
END $$;

INSERT INTO ml_accuracy_days (
    model, version, interval_ms, day, horizon_bars, bin, forecasts, hits, longs, shorts, neutrals, side_hits,
    confidence, log_loss, brier, error, error_size, error_square, return_size)
SELECT
    model, version, interval_ms, day, horizon_bars, bin, sum(forecasts), sum(hits), sum(longs), sum(shorts),
    sum(neutrals), sum(side_hits), sum(confidence), sum(log_loss), sum(brier), sum(error), sum(error_size),
    sum(error_square), sum(return_size)
FROM ml_accuracy_counts
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE TRIGGER ml_accuracy_counts_added AFTER INSERT ON ml_accuracy_counts
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_accuracy_days();
CREATE TRIGGER ml_accuracy_counts_changed AFTER UPDATE ON ml_accuracy_counts
    REFERENCING NEW TABLE AS now OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION add_accuracy_changes();

CREATE VIEW ml_accuracy_bins AS
SELECT
    model, version, interval_ms, day, horizon_bars, bin / 20.0::double precision AS confidence_from, forecasts, hits,
    longs, shorts, neutrals, side_hits, confidence, log_loss, brier, error, error_size, error_square, return_size
FROM ml_accuracy_days;
COMMENT ON VIEW ml_accuracy_bins IS 'sums over all symbols by day and by the probability of the likeliest class, to be added up further';

CREATE OR REPLACE VIEW ml_accuracy AS
SELECT
    model, version, interval_ms, horizon_bars, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals))::double precision / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0)::double precision AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::double precision
        / nullif(base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8), 0) AS skill,
    sum(brier) / sum(forecasts)::double precision AS brier,
    base_brier(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_brier,
    sum(confidence) / sum(forecasts)::double precision AS mean_confidence,
    sum(longs) / sum(forecasts)::double precision AS long_rate, sum(shorts) / sum(forecasts)::double precision AS short_rate,
    sum(neutrals) / sum(forecasts)::double precision AS neutral_rate,
    sum(error) / sum(forecasts)::double precision AS bias, sum(error_size) / sum(forecasts)::double precision AS mae,
    sqrt(sum(error_square) / sum(forecasts)::double precision) AS rmse,
    sum(return_size) / sum(forecasts)::double precision AS base_mae, min(day) AS first_day, max(day) AS last_day
FROM ml_accuracy_days
GROUP BY 1, 2, 3, 4;

CREATE OR REPLACE VIEW ml_accuracy_by_day AS
SELECT
    model, version, interval_ms, horizon_bars, day, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals))::double precision / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0)::double precision AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::double precision
        / nullif(base_log_loss(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8), 0) AS skill,
    sum(brier) / sum(forecasts)::double precision AS brier,
    base_brier(sum(longs)::float8, sum(shorts)::float8, sum(neutrals)::float8) AS base_brier,
    sum(error_size) / sum(forecasts)::double precision AS mae, sum(return_size) / sum(forecasts)::double precision AS base_mae
FROM ml_accuracy_days
GROUP BY 1, 2, 3, 4, 5;

CREATE OR REPLACE VIEW ml_calibration AS
SELECT
    model, version, interval_ms, horizon_bars, bin / 20.0::double precision AS confidence_from, sum(forecasts)::bigint AS forecasts,
    sum(confidence) / sum(forecasts)::double precision AS mean_confidence,
    sum(hits) / sum(forecasts)::double precision AS hit_rate
FROM ml_accuracy_days
GROUP BY 1, 2, 3, 4, bin;

-- Trades of a symbol, whatever the strategy.
CREATE INDEX ml_strategy_signals_symbol ON ml_strategy_signals (symbol, entry_time);

CREATE VIEW ml_signal_log AS
SELECT
    strategy, symbol, side, status, key, entry_price, entry_time, size, exit_price, exit_time, exit_reason, fees, pnl,
    is_winner, confidence, quality, prediction_interval_ms, prediction_close_time, prediction_model, prediction_version,
    metadata
FROM ml_strategy_signals
WHERE status <> 'VOID';
COMMENT ON VIEW ml_signal_log IS 'every signal that was acted on, open or closed';

CREATE VIEW ml_signal_conversion AS
SELECT
    coalesce(said.day, done.day) AS day, coalesce(done.strategy, '') AS strategy,
    coalesce(said.forecasts, 0) AS forecasts, coalesce(said.signals, 0) AS signals,
    coalesce(done.opened, 0) AS opened, coalesce(done.closed, 0) AS closed, coalesce(done.wins, 0) AS wins,
    said.signals / nullif(said.forecasts, 0)::double precision AS signal_rate,
    done.opened / nullif(said.signals, 0)::double precision AS conversion
FROM (
    SELECT (day AT TIME ZONE 'UTC')::date AS day, sum(forecasts)::bigint AS forecasts, sum(signals)::bigint AS signals
    FROM ml_predictions_per_day
    GROUP BY 1
) AS said
FULL JOIN (SELECT strategy, day, opened, closed, wins FROM ml_strategy_days WHERE symbol = '') AS done ON done.day = said.day;
COMMENT ON VIEW ml_signal_conversion IS
    'from forecasts to signals to trades, by day and strategy; signals are those of all models, '''' stands where nobody traded';

CREATE VIEW ml_signal_quality AS
SELECT
    strategy, (exit_time AT TIME ZONE 'UTC')::date AS day, least(floor(quality * 10), 9) / 10 AS quality_from,
    count(*) AS trades, count(*) FILTER (WHERE is_winner) AS wins,
    avg(pnl / (entry_price * size)) AS mean_return, sum(pnl) AS pnl, avg(confidence) AS mean_confidence
FROM ml_strategy_signals
WHERE status = 'CLOSED' AND quality IS NOT NULL
GROUP BY 1, 2, 3;
COMMENT ON VIEW ml_signal_quality IS 'what trades came to by the quality that their forecast claimed, in steps of 0.1';
CREATE INDEX ml_strategy_signals_exit_day ON ml_strategy_signals (((exit_time AT TIME ZONE 'UTC')::date)) WHERE status = 'CLOSED';

CREATE VIEW ml_stop_take_effectiveness AS
SELECT
    model, version, interval_ms, day, direction, exit_reason, signals,
    signals / sum(signals) OVER (PARTITION BY model, version, interval_ms, day, direction)::double precision AS share,
    wins, mean_return, mean_bars, mean_stop_loss, mean_take_profit
FROM ml_exits;
COMMENT ON VIEW ml_stop_take_effectiveness IS 'how LONG and SHORT forecasts ended, by stop, take or time, before costs';

CREATE VIEW ml_risk_per_day AS
SELECT
    strategy, day, opened, closed, pnl, fees, drawdown AS day_drawdown, total_pnl,
    greatest(max(total_pnl) OVER before, 0) - total_pnl AS fall_from_peak
FROM ml_strategy_daily
WHERE symbol = ''
WINDOW before AS (PARTITION BY strategy ORDER BY day);
COMMENT ON VIEW ml_risk_per_day IS 'how far a strategy is below its best, by day';

CREATE VIEW ml_exposure AS
SELECT
    strategy, symbol, side, count(*) AS positions, sum(entry_price * open_size) AS exposure, min(entry_time) AS oldest_entry,
    avg(confidence) AS mean_confidence, sum(quality) AS quality_sum
FROM ml_positions
GROUP BY 1, 2, 3;
COMMENT ON VIEW ml_exposure IS 'what is open, at the prices of entry';
