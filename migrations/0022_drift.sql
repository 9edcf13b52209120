-- Why: how far features, forecasts and errors have moved from how they were is kept, so that an alert begins and ends once, also
-- over restarts, and people see when it began.
-- Why safe: creates only; touches nothing that exists.

CREATE TABLE ml_drift_measures (
    model       text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now(),
    subject     text COLLATE "C" NOT NULL,   -- a group of features, direction, confidence, error
    reference_from timestamptz NOT NULL,     -- of the closes that are compared, here and below
    reference_to   timestamptz NOT NULL,
    newest_from    timestamptz NOT NULL,
    newest_to      timestamptz NOT NULL,
    reference_rows integer NOT NULL,
    newest_rows    integer NOT NULL,
    psi         double precision,            -- of a group: mean over its features
    ks          double precision,            -- of a group: mean over its features; of error: NULL
    usual_psi   double precision,            -- the same of stretches of the first days, each as long as the newest, against the rest
    usual_ks    double precision,
    worst       text,                        -- of a group: the feature with the largest psi
    before      double precision,            -- of error: mean miss rate before the change and after it
    after       double precision,
    drifting    boolean NOT NULL,
    alerted     boolean NOT NULL,            -- somebody was told with this measure that it began or ended
    PRIMARY KEY (model, version, measured_at, subject),
    CHECK (before IS NULL OR (before >= 0 AND before <= 1))
);
COMMENT ON TABLE ml_drift_measures IS 'how far what a model sees and says has moved from its first days; people read ml_drift';
CREATE INDEX ml_drift_measures_recent ON ml_drift_measures (measured_at);

CREATE VIEW ml_drift AS
SELECT
    model, version, measured_at, subject, reference_from, reference_to, newest_from, newest_to, reference_rows, newest_rows,
    psi, ks, usual_psi, usual_ks, worst, before, after, drifting, alerted
FROM ml_drift_measures;
COMMENT ON VIEW ml_drift IS
    'population stability index and Kolmogorov-Smirnov distance by group of features, of directions and confidence, and the rate'
    ' of misses before and after its last change';
