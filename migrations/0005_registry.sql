-- Why: every training, also one that failed, and every model is on record with its metrics beside their base rates.
-- Why safe: creates only; touches nothing that exists.

CREATE TABLE ml_features (
    feature_set   text COLLATE "C" NOT NULL,
    index         smallint NOT NULL,          -- column of the feature set
    name          text COLLATE "C" NOT NULL,
    version       smallint NOT NULL,          -- of the formula
    group_name    text NOT NULL,
    formula       text NOT NULL,              -- in the notation of docs/features_notation.md
    convention    text NOT NULL,
    warmup_bars   integer NOT NULL,           -- bars after which it has a value
    low           double precision NOT NULL,  -- the range it cannot leave
    high          double precision NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feature_set, name, version)
);
COMMENT ON TABLE ml_features IS 'the definition of every feature, and of each version of its formula that was trained with';

CREATE TABLE ml_training_sessions (
    id                   uuid PRIMARY KEY,           -- given by the trainer, so that it may write the same row again
    model                text COLLATE "C" NOT NULL,
    version              integer NOT NULL,           -- that the bundle gets
    family               text NOT NULL,              -- patchtst, lstm, xgboost, lightgbm, …
    target               text NOT NULL DEFAULT 'forecast',  -- 'forecast': the 20 outputs; else direction, volatility, …
    horizon_bars         integer[] NOT NULL,
    status               text NOT NULL,
    config               jsonb NOT NULL DEFAULT '{}',
    symbols              text[],                     -- NULL: not known yet, here and below
    interval_ms          bigint,
    data_from            timestamptz,
    data_to              timestamptz,
    data_points          bigint,                     -- samples
    phase                text,                       -- what runs now: features, fold 1, …, last fit
    step                 integer,                    -- of this phase, of so many
    steps                integer,
    loss                 double precision,           -- NULL as well when it was not finite
    validation_loss      double precision,           -- best so far in this phase
    started_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,       -- when the trainer last gave a sign of life
    finished_at          timestamptz,
    metrics              jsonb,                      -- each number beside its base rate
    bundle_sha256        bytea,
    code_commit          text,
    host                 text,
    error                text,                       -- why it failed
    metadata             jsonb NOT NULL DEFAULT '{}',
    CHECK (status IN ('running', 'finished', 'failed', 'interrupted'))
);
COMMENT ON TABLE ml_training_sessions IS 'trainings and how far they are; people read ml_trainings, which tells a lost one';
CREATE INDEX ml_training_sessions_recent ON ml_training_sessions (started_at);

CREATE TABLE ml_training_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         text COLLATE "C" NOT NULL UNIQUE,  -- of the one who logs: the same key again changes nothing
    strategy    text COLLATE "C" NOT NULL,         -- or model
    version     integer,
    logged_at   timestamptz NOT NULL DEFAULT now(),
    accuracy    double precision,                  -- balanced; of our models the mean of horizons in walk-forward tests
    duration_s  double precision,
    data_points bigint,
    status      text NOT NULL,
    error       text,
    session_id  uuid REFERENCES ml_training_sessions,
    metadata    jsonb NOT NULL DEFAULT '{}'        -- of our models log_loss and its base among others
);
COMMENT ON TABLE ml_training_log IS 'one row for each training that ended, whoever ran it';
CREATE INDEX ml_training_log_strategy ON ml_training_log (strategy, logged_at);

CREATE TABLE ml_models (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text COLLATE "C" NOT NULL,
    version          integer NOT NULL,
    bundle_sha256    bytea NOT NULL,             -- of its manifest, hence of everything; ml_predictions has the same
    bundle_path      text NOT NULL,
    family           text NOT NULL,
    target           text NOT NULL,
    horizon_bars     integer[] NOT NULL,
    interval_ms      bigint NOT NULL,
    feature_set      text NOT NULL,
    feature_set_hash bigint NOT NULL,            -- the unsigned 64 bits, as a signed number
    features         text[] NOT NULL,            -- the columns it reads, in order
    optional_inputs  text[] NOT NULL,
    reference_symbol text,
    symbols          text[] NOT NULL,
    data_from        timestamptz NOT NULL,
    data_to          timestamptz NOT NULL,
    code_commit      text NOT NULL,
    metrics          jsonb NOT NULL,
    session_id       uuid REFERENCES ml_training_sessions,
    state            text NOT NULL DEFAULT 'TRAINED',
    deployed_at      timestamptz,                -- NULL: never
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, version, bundle_sha256)
);
COMMENT ON TABLE ml_models IS 'every bundle that was trained; one of the same name and version that was trained again is another row';

CREATE TABLE ml_model_performance (
    model         text COLLATE "C" NOT NULL,
    version       integer NOT NULL,
    bundle_sha256 bytea NOT NULL,
    source        text COLLATE "C" NOT NULL,  -- walk_forward, evaluate, …
    measured_at   timestamptz NOT NULL,
    fold          smallint NOT NULL,          -- from 1; 0: the mean of the folds, or the whole
    horizon       text COLLATE "C" NOT NULL,  -- 15m, 1h, …; a risk's name
    metric        text COLLATE "C" NOT NULL,
    value         double precision NOT NULL,
    base          double precision,           -- what the base rate reaches; NULL: the metric has none
    persistence   double precision,           -- what "as it was just now" reaches; NULL: not asked
    low           double precision,           -- interval of the value; NULL: not computed
    high          double precision,
    data_points   bigint,
    data_from     timestamptz,                -- of the measured part
    data_to       timestamptz,
    PRIMARY KEY (model, version, source, measured_at, fold, horizon, metric)
);
COMMENT ON TABLE ml_model_performance IS 'how good a model was, each number beside its base rate';

CREATE TABLE ml_feature_importance (
    model              text COLLATE "C" NOT NULL,
    version            integer NOT NULL,
    calculated_at      timestamptz NOT NULL,
    feature            text COLLATE "C" NOT NULL,
    index              smallint NOT NULL,
    score              double precision NOT NULL,  -- share of the model's answers, >= 0; those of a calculation sum to 1
    rank               smallint NOT NULL,          -- 1: the largest score
    correlation        double precision,           -- with the returns at correlation_bars; NULL: the column is constant
    correlation_bars   integer,
    gain               double precision,           -- share of the splits' gain; NULL: no trees
    method             text NOT NULL,              -- integrated_gradients, shap, …
    bundle_sha256      bytea,
    PRIMARY KEY (model, version, calculated_at, feature)
);
COMMENT ON TABLE ml_feature_importance IS 'what a model looked at, and whether the feature goes with the returns at all';
CREATE INDEX ml_feature_importance_feature ON ml_feature_importance (feature, calculated_at);

CREATE VIEW ml_trainings AS
SELECT
    id, model, version, family, target, horizon_bars,
    CASE WHEN status = 'running' AND updated_at < now() - interval '2 minutes' THEN 'lost' ELSE status END AS status,
    phase, step, steps, loss, validation_loss, symbols, interval_ms, data_from, data_to, data_points,
    started_at, updated_at, finished_at,
    extract(epoch FROM coalesce(finished_at, updated_at) - started_at)::double precision AS duration_s,
    metrics, encode(bundle_sha256, 'hex') AS bundle_sha256, config, code_commit, host, error, metadata
FROM ml_training_sessions;
COMMENT ON VIEW ml_trainings IS 'ml_training_sessions for people; lost: gave no sign of life for two minutes';

CREATE VIEW ml_training_status AS
SELECT DISTINCT ON (strategy)
    strategy, version, status, logged_at AS last_training, accuracy AS model_accuracy, duration_s, data_points, error
FROM ml_training_log
ORDER BY strategy, logged_at DESC, id DESC;
COMMENT ON VIEW ml_training_status IS 'the newest training of each strategy or model';

CREATE VIEW ml_model_skill AS
SELECT
    model, version, encode(bundle_sha256, 'hex') AS bundle_sha256, source, measured_at, fold, horizon,
    value AS log_loss, base AS base_log_loss, 1 - value / nullif(base, 0) AS skill, low, high, data_points,
    data_from, data_to
FROM ml_model_performance
WHERE metric = 'log_loss';
COMMENT ON VIEW ml_model_skill IS 'log-loss beside the base rate''s; skill above 0: better than knowing the frequencies alone';

CREATE VIEW ml_feature_importance_now AS
SELECT
    importance.model, importance.version, importance.calculated_at, importance.feature, importance.index,
    importance.score, importance.rank, importance.correlation, importance.correlation_bars, importance.gain,
    importance.method
FROM (SELECT model, version, max(calculated_at) AS calculated_at FROM ml_feature_importance GROUP BY model, version) AS newest
JOIN ml_feature_importance AS importance USING (model, version, calculated_at);
COMMENT ON VIEW ml_feature_importance_now IS 'the newest importance of each model and version';

CREATE VIEW ml_feature_importance_evolution AS
SELECT
    model, feature, calculated_at, version, score, rank, correlation, correlation_bars,
    score - lag(score) OVER before AS score_change, lag(rank) OVER before - rank AS ranks_gained
FROM ml_feature_importance
WINDOW before AS (PARTITION BY model, feature ORDER BY calculated_at, version);
COMMENT ON VIEW ml_feature_importance_evolution IS 'importance over time, across the versions of a model';
