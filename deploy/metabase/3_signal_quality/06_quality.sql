-- title: Mean confidence and quality of signals, by day
-- display: line
-- x: day
-- y: confidence, quality
SELECT
    date_trunc('day', hour, 'UTC') AS day, sum(confidence_sum) / sum(forecasts) AS confidence,
    sum(quality_sum) / sum(forecasts) AS quality
FROM ml_prediction_counts
WHERE direction <> 'NEUTRAL' AND hour > now() - interval '30 days'
GROUP BY 1
ORDER BY 1;
