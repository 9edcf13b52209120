-- Why: a forecast is degraded as well when its model was trained longer ago than max_model_age_d.
-- Why safe: a comment.

COMMENT ON COLUMN ml_predictions.degraded IS
    'a member of the ensemble is missing, or the gate decided by the heuristic (then gate_probability is NULL), or the model was older than max_model_age_d';
