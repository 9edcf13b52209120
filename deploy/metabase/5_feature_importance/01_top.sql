-- title: The 25 most important features
-- text: Share of the model's answers, by the newest measurement of the model that was measured last.
-- display: row
-- x: feature
-- y: score
-- size: 12x10
WITH newest AS (
    SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1
)
SELECT feature, score
FROM ml_feature_importance_now
JOIN newest USING (model, version)
ORDER BY rank
LIMIT 25;
