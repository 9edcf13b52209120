-- title: Features that are NaN or do not move, for each forecast
-- display: line
-- x: hour
-- y: nan_features, still_features
SELECT
    hour, sum(nan_features * forecasts) / sum(forecasts) AS nan_features,
    sum(still_features * forecasts) / sum(forecasts) AS still_features
FROM ml_predictions_per_hour
WHERE hour > now() - interval '30 days'
GROUP BY hour
ORDER BY hour;
