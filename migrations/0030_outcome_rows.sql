-- Why: a forecast is 1.4 KB, and PostgreSQL writes a row anew to change it: outcomes get rows of their own, a tenth as wide. Who
-- reads ml_predictions sees both as one, as before.
-- Why safe: what is known is copied, and forecasts keep their rows: renaming and dropping columns rewrites nothing. The copy reads every
-- forecast, and nobody writes any meanwhile.

ALTER TABLE ml_predictions RENAME TO ml_prediction_rows;
DO $$
DECLARE
    part text;
BEGIN
    FOR part IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'ml_prediction_rows'::regclass AND relname ~ '^ml_predictions_\d{4}_\d{2}$'
    LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part, replace(part, 'ml_predictions', 'ml_prediction_rows'));
    END LOOP;
END $$;
COMMENT ON TABLE ml_prediction_rows IS 'every forecast of a closed candle, once; read ml_predictions, which has the outcomes as well';

CREATE TABLE ml_outcome_rows (
    interval_ms      bigint NOT NULL,
    close_time       timestamptz NOT NULL,
    version          integer NOT NULL,
    actual_return_1  real,
    actual_return_4  real,
    actual_return_16 real,
    actual_return_48 real,
    error_1          real,
    error_4          real,
    error_16         real,
    error_48         real,
    exit_return      real,
    actual_class_1   smallint,                   -- 0 LONG, 1 SHORT, 2 NEUTRAL, here and below
    actual_class_4   smallint,
    actual_class_16  smallint,
    actual_class_48  smallint,
    exit_code        smallint,                   -- 0 STOP, 1 TAKE, 2 TIME, 3 NO_ENTRY
    exit_bars        smallint,
    hit_1            boolean,
    hit_4            boolean,
    hit_16           boolean,
    hit_48           boolean,
    symbol           text COLLATE "C" NOT NULL,
    model            text COLLATE "C" NOT NULL,
    PRIMARY KEY (symbol, close_time, interval_ms, model, version)
) PARTITION BY RANGE (close_time);
COMMENT ON TABLE ml_outcome_rows IS 'what happened after a forecast, from the first horizon that is known; read ml_predictions';

SELECT create_month_partitions('ml_outcome_rows', array_agg(to_date(right(relname, 7), 'YYYY_MM')))
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'ml_prediction_rows'::regclass
HAVING count(*) > 0;

INSERT INTO ml_outcome_rows (
    symbol, interval_ms, close_time, model, version, actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_class_1, actual_class_4, actual_class_16, actual_class_48, hit_1, hit_4, hit_16, hit_48,
    error_1, error_4, error_16, error_48, exit_code, exit_return, exit_bars)
SELECT
    symbol, interval_ms, close_time, model, version, actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    array_position(classes, actual_direction_1) - 1, array_position(classes, actual_direction_4) - 1,
    array_position(classes, actual_direction_16) - 1, array_position(classes, actual_direction_48) - 1,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48,
    array_position(ARRAY['STOP', 'TAKE', 'TIME', 'NO_ENTRY'], exit_reason) - 1, exit_return, exit_bars
FROM ml_prediction_rows, (VALUES (ARRAY['LONG', 'SHORT', 'NEUTRAL'])) AS v (classes)
WHERE coalesce(actual_return_1, actual_return_4, actual_return_16, actual_return_48) IS NOT NULL
    OR coalesce(hit_1, hit_4, hit_16, hit_48) IS NOT NULL OR exit_reason IS NOT NULL;

-- The columns that ml_predictions had, in their order; then the views that read it read what has its name now.
DO $$
DECLARE
    wanted text;
    view text;
BEGIN
    SELECT string_agg(CASE
        WHEN attname ~ '^actual_direction_\d+$' THEN format(
            '(ARRAY[''LONG'', ''SHORT'', ''NEUTRAL''])[o.%I + 1] AS %I', replace(attname, 'direction', 'class'), attname)
        WHEN attname = 'exit_reason' THEN
            '(ARRAY[''STOP'', ''TAKE'', ''TIME'', ''NO_ENTRY''])[o.exit_code + 1] AS exit_reason'
        WHEN attname ~ '^(actual_return|hit|error)_\d+$' OR attname IN ('exit_return', 'exit_bars') THEN format('o.%I', attname)
        ELSE format('p.%I', attname)
    END, ', ' ORDER BY attnum) INTO wanted
    FROM pg_attribute
    WHERE attrelid = 'ml_prediction_rows'::regclass AND attnum > 0 AND NOT attisdropped;
    EXECUTE 'CREATE VIEW ml_predictions AS SELECT ' || wanted || '
        FROM ml_prediction_rows AS p
        LEFT JOIN ml_outcome_rows AS o ON o.symbol = p.symbol AND o.close_time = p.close_time
            AND o.interval_ms = p.interval_ms AND o.model = p.model AND o.version = p.version';
    FOREACH view IN ARRAY ARRAY['ml_predictions_decoded', 'ml_forecasts', 'ml_outcomes'] LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %I AS ', view)
            || regexp_replace(pg_get_viewdef(view::regclass), '\mml_prediction_rows\M', 'ml_predictions', 'g');
    END LOOP;
END $$;
COMMENT ON VIEW ml_predictions IS
    'every forecast of a closed candle, once, and what happened after it as soon as it is known; people read ml_predictions_decoded';
COMMENT ON COLUMN ml_predictions.exit_reason IS
    'of a LONG or SHORT, entered at the open of the next candle: STOP, TAKE, TIME (after 16 bars), or NO_ENTRY, without that candle';
COMMENT ON COLUMN ml_predictions.exit_return IS 'side * (exit / entry - 1), before costs';
COMMENT ON COLUMN ml_predictions.exit_bars IS 'bars it was held, the one of its exit included';
COMMENT ON COLUMN ml_predictions.actual_return_1 IS 'close of the candle so many bars later / close - 1; NULL: that candle is not here';
COMMENT ON COLUMN ml_predictions.hit_1 IS 'the likeliest class was the one that came; NULL also where an output was not finite';
COMMENT ON COLUMN ml_predictions.error_1 IS 'actual return - expected return';

ALTER TABLE ml_prediction_rows
    DROP COLUMN actual_return_1, DROP COLUMN actual_return_4, DROP COLUMN actual_return_16, DROP COLUMN actual_return_48,
    DROP COLUMN actual_direction_1, DROP COLUMN actual_direction_4, DROP COLUMN actual_direction_16,
    DROP COLUMN actual_direction_48,
    DROP COLUMN hit_1, DROP COLUMN hit_4, DROP COLUMN hit_16, DROP COLUMN hit_48,
    DROP COLUMN error_1, DROP COLUMN error_4, DROP COLUMN error_16, DROP COLUMN error_48,
    DROP COLUMN exit_reason, DROP COLUMN exit_return, DROP COLUMN exit_bars;

-- They are decoded where forecasts are judged.
DROP FUNCTION float4_le(bytea, integer);
DROP FUNCTION likeliest_class(double precision, double precision, double precision);
