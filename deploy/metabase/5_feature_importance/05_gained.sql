-- title: Features that gained or lost most ranks
-- display: table
SELECT model, feature, version, calculated_at, rank, ranks_gained, score, score_change
FROM ml_feature_importance_evolution
WHERE ranks_gained IS NOT NULL
ORDER BY calculated_at DESC, abs(ranks_gained) DESC
LIMIT 50;
