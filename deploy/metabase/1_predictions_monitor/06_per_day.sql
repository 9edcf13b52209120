-- title: Forecasts per day and model
-- display: bar
-- x: day
-- by: model
-- y: forecasts
SELECT date_trunc('day', hour, 'UTC') AS day, model || ' v' || version AS model, sum(forecasts)::bigint AS forecasts
FROM ml_prediction_counts
WHERE hour > now() - interval '30 days'
GROUP BY 1, model, version
ORDER BY 1, 2;
