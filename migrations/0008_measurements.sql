-- Why: an evaluation or a backtest is on record as a training is, one that failed too, with what was asked and said.
-- Why safe: creates only, and says of a column what else it may hold.

CREATE TABLE ml_measurement_runs (
    id            uuid PRIMARY KEY,           -- given by the one who measures, so that it may write the same row again
    source        text COLLATE "C" NOT NULL,  -- evaluate, backtest: as in ml_model_performance
    bundle_path   text NOT NULL,              -- as it was named
    model         text COLLATE "C",           -- NULL: its bundle could not be read; so are the two below
    version       integer,
    bundle_sha256 bytea,
    status        text NOT NULL,
    error         text,                       -- why it failed
    measured_at   timestamptz NOT NULL,       -- when it began; of its rows in ml_model_performance, too
    duration_s    double precision NOT NULL,
    data_from     timestamptz,                -- of what was measured
    data_to       timestamptz,
    data_points   bigint,                     -- forecasts that were measured
    verdict       text,
    warnings      text[] NOT NULL DEFAULT '{}',
    config        jsonb NOT NULL DEFAULT '{}',
    host          text,
    CHECK (status IN ('finished', 'failed', 'interrupted'))
);
COMMENT ON TABLE ml_measurement_runs IS 'evaluations and backtests that ended, and how; people read ml_measurements';
CREATE INDEX ml_measurement_runs_recent ON ml_measurement_runs (measured_at);

CREATE VIEW ml_measurements AS
SELECT
    id, source, model, version, encode(bundle_sha256, 'hex') AS bundle_sha256, bundle_path, status, error, measured_at,
    duration_s, data_from, data_to, data_points, verdict, warnings, config, host
FROM ml_measurement_runs;
COMMENT ON VIEW ml_measurements IS 'evaluations and backtests; their numbers are in ml_model_performance, by model, version, source and measured_at';

COMMENT ON COLUMN ml_model_performance.horizon IS
    '15m, 1h, …; a risk''s name; of a backtest "all" bars of its fold, or "unseen": those that the model''s data does not reach';
