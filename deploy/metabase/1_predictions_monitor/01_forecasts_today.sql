-- title: Forecasts in the last 24 hours of closes
-- display: scalar
-- size: 6x4
SELECT coalesce(sum(forecasts), 0)::bigint AS forecasts
FROM ml_predictions_per_hour
WHERE hour > now() - interval '24 hours';
