-- title: Forecasts per day and model
-- display: bar
-- x: day
-- by: model
-- y: forecasts
SELECT day, model || ' v' || version AS model, sum(forecasts)::bigint AS forecasts
FROM ml_predictions_per_day
WHERE day > now() - interval '30 days'
GROUP BY 1, 2
ORDER BY 1, 2;
