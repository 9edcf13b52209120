-- title: How the ten most important features changed
-- display: line
-- x: calculated_at
-- by: feature
-- y: score
WITH newest AS (
    SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1
), top AS (
    SELECT model, feature FROM ml_feature_importance_now JOIN newest USING (model, version) ORDER BY rank LIMIT 10
)
SELECT calculated_at, feature, score
FROM ml_feature_importance_evolution
JOIN top USING (model, feature)
ORDER BY calculated_at, feature;
