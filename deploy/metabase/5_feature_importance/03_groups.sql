-- title: Importance by group of features
-- display: bar
-- x: group_name
-- y: score
WITH newest AS (
    SELECT model, version FROM ml_feature_importance_now ORDER BY calculated_at DESC, version DESC LIMIT 1
)
SELECT definition.group_name, sum(importance.score) AS score
FROM ml_feature_importance_now AS importance
JOIN newest USING (model, version)
JOIN (SELECT DISTINCT name, group_name FROM ml_feature_definitions) AS definition ON definition.name = importance.feature
GROUP BY definition.group_name
ORDER BY score DESC;
