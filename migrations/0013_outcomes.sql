-- Why: what happened after each forecast is written back once it is known, also what a stop and a take would have done, and
-- how right the models were is counted in the same transaction, so that nobody reads all forecasts to ask.
-- Why safe: nullable columns rewrite nothing; the rest is new.

-- A shadow's forecasts get outcomes and are counted under its own version, but are no answers and hence no signals.
ALTER TABLE ml_predictions
    ADD COLUMN IF NOT EXISTS shadow boolean NOT NULL DEFAULT false,
    ADD COLUMN exit_reason text,
    ADD COLUMN exit_return real,
    ADD COLUMN exit_bars smallint;
COMMENT ON COLUMN ml_predictions.exit_reason IS
    'of a LONG or SHORT, entered at the open of the next candle: STOP, TAKE, TIME (after 16 bars), or NO_ENTRY, without that candle';
COMMENT ON COLUMN ml_predictions.exit_return IS 'side * (exit / entry - 1), before costs';
COMMENT ON COLUMN ml_predictions.exit_bars IS 'bars it was held, the one of its exit included';
COMMENT ON COLUMN ml_predictions.actual_return_1 IS 'close of the candle so many bars later / close - 1; NULL: that candle is not here';
COMMENT ON COLUMN ml_predictions.hit_1 IS 'the likeliest class was the one that came; NULL also where an output was not finite';
COMMENT ON COLUMN ml_predictions.error_1 IS 'actual return - expected return';

CREATE TABLE ml_outcome_marks (
    symbol      text COLLATE "C" NOT NULL,
    interval_ms bigint NOT NULL,
    settled_to  timestamptz NOT NULL,
    PRIMARY KEY (symbol, interval_ms)
) WITH (fillfactor = 70);
COMMENT ON TABLE ml_outcome_marks IS 'every forecast that closed then or before has all the outcomes it will ever get';

CREATE TABLE ml_accuracy_counts (
    model         text COLLATE "C" NOT NULL,
    version       integer NOT NULL,
    interval_ms   bigint NOT NULL,
    symbol        text COLLATE "C" NOT NULL,
    day           date NOT NULL,                 -- of the forecast's close, UTC
    horizon_bars  smallint NOT NULL,
    bin           smallint NOT NULL,             -- of the probability of the likeliest class, 0.05 wide: 13 is 0.65 up to 0.7
    forecasts     bigint NOT NULL,
    hits          bigint NOT NULL,
    longs         bigint NOT NULL,               -- that came, whatever was said
    shorts        bigint NOT NULL,
    neutrals      bigint NOT NULL,
    side_hits     bigint NOT NULL,               -- of those that came LONG or SHORT: its side had the larger probability
    confidence    double precision NOT NULL,     -- sum of the probabilities of the likeliest class
    log_loss      double precision NOT NULL,     -- sums, here and below
    brier         double precision NOT NULL,
    error         double precision NOT NULL,     -- actual return - expected return
    error_size    double precision NOT NULL,     -- its size
    error_square  double precision NOT NULL,
    return_size   double precision NOT NULL,     -- of the actual return: the error of who expects 0
    PRIMARY KEY (model, version, interval_ms, symbol, day, horizon_bars, bin)
) WITH (fillfactor = 80);
COMMENT ON TABLE ml_accuracy_counts IS 'forecasts with known outcomes, added up; they outlive the forecasts';
CREATE INDEX ml_accuracy_counts_day ON ml_accuracy_counts (day);

CREATE TABLE ml_exit_counts (
    model        text COLLATE "C" NOT NULL,
    version      integer NOT NULL,
    interval_ms  bigint NOT NULL,
    symbol       text COLLATE "C" NOT NULL,
    day          date NOT NULL,
    direction    text NOT NULL,
    exit_reason  text NOT NULL,
    signals      bigint NOT NULL,
    wins         bigint NOT NULL,
    exit_return  double precision NOT NULL,      -- sums
    exit_bars    double precision NOT NULL,
    stop_loss    double precision NOT NULL,
    take_profit  double precision NOT NULL,
    PRIMARY KEY (model, version, interval_ms, symbol, day, direction, exit_reason)
) WITH (fillfactor = 80);
COMMENT ON TABLE ml_exit_counts IS 'LONG and SHORT forecasts whose end is known, added up';

-- One number of many little-endian float32; finite ones only, and what is denormal counts as 0.
CREATE FUNCTION float4_le(data bytea, place integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (1 - get_byte(data, 4 * place + 3) / 128 * 2)
        * ((get_byte(data, 4 * place + 2) | 128) * 65536 + get_byte(data, 4 * place + 1) * 256
            + get_byte(data, 4 * place))::double precision
        * 2.0::double precision ^ (get_byte(data, 4 * place + 3) % 128 * 2 + get_byte(data, 4 * place + 2) / 128 - 150)
$$;

-- 0 LONG, 1 SHORT, 2 NEUTRAL; of equal ones the first.
CREATE FUNCTION likeliest_class(p_long double precision, p_short double precision, p_neutral double precision)
RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_long >= p_short AND p_long >= p_neutral THEN 0
        WHEN p_short >= p_neutral THEN 1 WHEN p_neutral IS NOT NULL THEN 2 END::smallint
$$;

-- What the class frequencies themselves reach on the rows that they are of: log-loss and Brier score.
CREATE FUNCTION base_log_loss(a double precision, b double precision, c double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT -(a * ln(greatest(a, 1)) + b * ln(greatest(b, 1)) + c * ln(greatest(c, 1))) / (a + b + c) + ln(a + b + c)
$$;
CREATE FUNCTION base_brier(a double precision, b double precision, c double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1 - (a * a + b * b + c * c) / ((a + b + c) * (a + b + c))
$$;

CREATE VIEW ml_accuracy_sums AS
SELECT
    model, version, interval_ms, symbol, day, horizon_bars,
    sum(forecasts) AS forecasts, sum(hits) AS hits, sum(longs)::double precision AS longs,
    sum(shorts)::double precision AS shorts, sum(neutrals)::double precision AS neutrals, sum(side_hits) AS side_hits,
    sum(confidence) AS confidence, sum(log_loss) AS log_loss, sum(brier) AS brier, sum(error) AS error,
    sum(error_size) AS error_size, sum(error_square) AS error_square, sum(return_size) AS return_size
FROM ml_accuracy_counts
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW ml_accuracy_sums IS 'the finest step of the views of accuracy, as sums';

CREATE VIEW ml_accuracy AS
SELECT
    model, version, interval_ms, horizon_bars, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals)) / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0) AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs), sum(shorts), sum(neutrals)) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::double precision / nullif(base_log_loss(sum(longs), sum(shorts), sum(neutrals)), 0)
        AS skill,
    sum(brier) / sum(forecasts)::double precision AS brier, base_brier(sum(longs), sum(shorts), sum(neutrals)) AS base_brier,
    sum(confidence) / sum(forecasts)::double precision AS mean_confidence,
    sum(longs) / sum(forecasts)::double precision AS long_rate, sum(shorts) / sum(forecasts)::double precision AS short_rate,
    sum(neutrals) / sum(forecasts)::double precision AS neutral_rate,
    sum(error) / sum(forecasts)::double precision AS bias, sum(error_size) / sum(forecasts)::double precision AS mae,
    sqrt(sum(error_square) / sum(forecasts)::double precision) AS rmse,
    sum(return_size) / sum(forecasts)::double precision AS base_mae, min(day) AS first_day, max(day) AS last_day
FROM ml_accuracy_sums
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW ml_accuracy IS
    'how right the forecasts of a model were, by horizon; base: what the class frequencies of the very rows reach, or who expects'
    ' a return of 0; skill above 0: better than that in log-loss';

CREATE VIEW ml_accuracy_by_day AS
SELECT
    model, version, interval_ms, horizon_bars, day, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals)) / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0) AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs), sum(shorts), sum(neutrals)) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::double precision / nullif(base_log_loss(sum(longs), sum(shorts), sum(neutrals)), 0)
        AS skill,
    sum(brier) / sum(forecasts)::double precision AS brier, base_brier(sum(longs), sum(shorts), sum(neutrals)) AS base_brier,
    sum(error_size) / sum(forecasts)::double precision AS mae, sum(return_size) / sum(forecasts)::double precision AS base_mae
FROM ml_accuracy_sums
GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW ml_accuracy_by_day IS 'the same by the day of the forecast, UTC';

CREATE VIEW ml_accuracy_by_symbol AS
SELECT
    model, version, interval_ms, horizon_bars, symbol, sum(forecasts)::bigint AS forecasts,
    sum(hits) / sum(forecasts)::double precision AS hit_rate,
    greatest(sum(longs), sum(shorts), sum(neutrals)) / sum(forecasts)::double precision AS base_rate,
    sum(side_hits) / nullif(sum(longs) + sum(shorts), 0) AS side_hit_rate,
    sum(log_loss) / sum(forecasts)::double precision AS log_loss,
    base_log_loss(sum(longs), sum(shorts), sum(neutrals)) AS base_log_loss,
    1 - sum(log_loss) / sum(forecasts)::double precision / nullif(base_log_loss(sum(longs), sum(shorts), sum(neutrals)), 0)
        AS skill,
    sum(brier) / sum(forecasts)::double precision AS brier, base_brier(sum(longs), sum(shorts), sum(neutrals)) AS base_brier,
    sum(error_size) / sum(forecasts)::double precision AS mae, sum(return_size) / sum(forecasts)::double precision AS base_mae
FROM ml_accuracy_sums
GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW ml_accuracy_by_symbol IS 'the same by symbol';

CREATE VIEW ml_accuracy_by_symbol_and_day AS
SELECT
    model, version, interval_ms, horizon_bars, symbol, day, forecasts::bigint AS forecasts,
    hits / forecasts::double precision AS hit_rate,
    greatest(longs, shorts, neutrals) / forecasts::double precision AS base_rate,
    side_hits / nullif(longs + shorts, 0) AS side_hit_rate,
    log_loss / forecasts::double precision AS log_loss, base_log_loss(longs, shorts, neutrals) AS base_log_loss,
    1 - log_loss / forecasts::double precision / nullif(base_log_loss(longs, shorts, neutrals), 0) AS skill,
    brier / forecasts::double precision AS brier, base_brier(longs, shorts, neutrals) AS base_brier,
    error_size / forecasts::double precision AS mae, return_size / forecasts::double precision AS base_mae
FROM ml_accuracy_sums;
COMMENT ON VIEW ml_accuracy_by_symbol_and_day IS 'the same by symbol and day';

CREATE VIEW ml_calibration AS
SELECT
    model, version, interval_ms, horizon_bars, bin / 20.0::double precision AS confidence_from, sum(forecasts)::bigint AS forecasts,
    sum(confidence) / sum(forecasts)::double precision AS mean_confidence,
    sum(hits) / sum(forecasts)::double precision AS hit_rate
FROM ml_accuracy_counts
GROUP BY 1, 2, 3, 4, bin;
COMMENT ON VIEW ml_calibration IS
    'how often the likeliest class came, by its probability in steps of 0.05; calibrated: the hit rate is the mean confidence';

CREATE VIEW ml_exits AS
SELECT
    model, version, interval_ms, day, direction, exit_reason, sum(signals)::bigint AS signals, sum(wins)::bigint AS wins,
    sum(exit_return) / sum(signals)::double precision AS mean_return, sum(exit_bars) / sum(signals)::double precision AS mean_bars,
    sum(stop_loss) / sum(signals)::double precision AS mean_stop_loss,
    sum(take_profit) / sum(signals)::double precision AS mean_take_profit
FROM ml_exit_counts
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW ml_exits IS 'what stops, takes and the end of 16 bars did to LONG and SHORT forecasts, before costs';

CREATE VIEW ml_outcomes AS
SELECT
    symbol, interval_ms, close_time, model, version, direction, strength, confidence, close, stop_loss, take_profit,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_direction_1, actual_direction_4, actual_direction_16, actual_direction_48,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48, exit_reason, exit_return, exit_bars
FROM ml_predictions
WHERE NOT shadow;
COMMENT ON VIEW ml_outcomes IS 'forecasts and what happened after them';
