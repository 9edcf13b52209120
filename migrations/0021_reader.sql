-- Why: Grafana, Metabase and people with psql look at forecasts as a role that sees views and nothing else, and that cannot
-- keep the database busy for long.
-- Why safe: creates a role that cannot log in, and a function; touches nothing that exists. Where the migrating role may not
-- create roles, it says so and goes on: an administrator runs CREATE ROLE candlecast_read and this function then.

-- A role belongs to all databases of a server, so it may be there already. It gets its password from an administrator:
-- ALTER ROLE candlecast_read LOGIN PASSWORD '…'
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'candlecast_read') THEN
        RETURN;
    END IF;
    CREATE ROLE candlecast_read NOLOGIN CONNECTION LIMIT 20;
    ALTER ROLE candlecast_read SET default_transaction_read_only = on;
    ALTER ROLE candlecast_read SET statement_timeout = '10s';
    ALTER ROLE candlecast_read SET idle_in_transaction_session_timeout = '30s';
    ALTER ROLE candlecast_read SET lock_timeout = '1s';
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'candlecast_read was not created: %', SQLERRM;
    WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this server was migrated at the same time
END $$;

-- Called after each migration, so that views of later ones are seen as well. A default privilege would give tables, too.
CREATE FUNCTION grant_views_to_reader() RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    view text;
    granted integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'candlecast_read') THEN
        RETURN 0;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO candlecast_read', current_schema());
    FOR view IN SELECT viewname FROM pg_views WHERE schemaname = current_schema() ORDER BY viewname LOOP
        EXECUTE format('GRANT SELECT ON %I.%I TO candlecast_read', current_schema(), view);
        granted := granted + 1;
    END LOOP;
    RETURN granted;
END $$;
COMMENT ON FUNCTION grant_views_to_reader IS 'let candlecast_read select from every view of this schema, and from nothing else';
REVOKE EXECUTE ON FUNCTION grant_views_to_reader FROM PUBLIC;

-- A function is run with the rights of whoever asks, also within a view: this one reads what the reader may not. It is
-- made anew with a view in place of the table, which the planner sees through as before.
CREATE VIEW ml_strategy_day_counts AS
SELECT
    strategy, symbol, day, opened, closed, wins, losses, pnl, gross_profit, gross_loss, fees, return_sum,
    return_square_sum, holding_s, peak, trough, drawdown
FROM ml_strategy_days;
COMMENT ON VIEW ml_strategy_day_counts IS 'signals added up by day; people read ml_strategy_daily and ml_strategy_performance';
DO $$
DECLARE
    before text := pg_get_functiondef('strategy_performance(date, date, double precision)'::regprocedure);
    after text := replace(before, 'FROM ml_strategy_days AS f', 'FROM ml_strategy_day_counts AS f');
BEGIN
    ASSERT after <> before, 'strategy_performance does not read ml_strategy_days';
    EXECUTE after;
END $$;

-- Counts of months are asked for by the hour, which the key of the table begins with: a condition on the day that is made of
-- it reads the whole table.
CREATE VIEW ml_prediction_counts AS
SELECT
    hour, interval_ms, model, version, direction, strength, nullif(confidence_bin, -1) / 20.0::double precision AS confidence_from,
    forecasts, confidence_sum, quality_sum, move_sum, gap_filled, degraded, gate_approved, gate_refused, nan_features,
    still_features
FROM ml_prediction_hours;
COMMENT ON VIEW ml_prediction_counts IS 'how many forecasts of which kind closed in an hour, to be added up; confidence in steps of 0.05';
