-- title: What models reached in their own tests
-- text: Walk-forward folds, and whatever was evaluated since.
-- display: table
SELECT measured_at, model, version, source, horizon, log_loss, base_log_loss, skill, low, high, data_points
FROM ml_model_skill
WHERE fold = 0
ORDER BY measured_at DESC
LIMIT 100;
