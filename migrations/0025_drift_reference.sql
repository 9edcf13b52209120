-- Why: drift is measured against what the model was trained on where its bundle says so, and people see what it was measured
-- against.
-- Why safe: a column with a constant default rewrites nothing; the view keeps its columns and gains one.

ALTER TABLE ml_drift_measures
    ADD COLUMN against text NOT NULL DEFAULT 'FIRST_DAYS' CHECK (against IN ('BUNDLE', 'FIRST_DAYS', 'ITSELF'));
COMMENT ON COLUMN ml_drift_measures.against IS
    'BUNDLE: what the model was trained on, as its bundle has it; FIRST_DAYS: the version''s own; ITSELF: of error, what came before';

CREATE OR REPLACE VIEW ml_drift AS
SELECT
    model, version, measured_at, subject, reference_from, reference_to, newest_from, newest_to, reference_rows, newest_rows,
    psi, ks, usual_psi, usual_ks, worst, before, after, drifting, alerted, against
FROM ml_drift_measures;
