-- title: Importance beside correlation with returns
-- text: A model may look at what does not go with the returns by itself.
-- display: scatter
-- x: correlation
-- y: score
-- size: 12x10
WITH newest AS (
    SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1
)
SELECT feature, correlation, score
FROM ml_feature_importance_now
JOIN newest USING (model, version)
WHERE correlation IS NOT NULL
ORDER BY rank;
