-- title: Distribution of confidence, 30 days
-- display: bar
-- x: confidence_from
-- by: direction
-- y: forecasts
SELECT confidence_from, direction, sum(forecasts)::bigint AS forecasts
FROM ml_prediction_counts
WHERE hour > now() - interval '30 days' AND confidence_from IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2;
