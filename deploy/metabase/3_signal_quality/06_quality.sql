-- title: Mean confidence and quality of signals, by day
-- display: line
-- x: day
-- y: confidence, quality
SELECT
    day, sum(mean_confidence * forecasts) / nullif(sum(forecasts), 0) AS confidence,
    sum(mean_quality * forecasts) / nullif(sum(forecasts), 0) AS quality
FROM ml_signal_distribution
WHERE direction <> 'NEUTRAL' AND day > now() - interval '30 days'
GROUP BY day
ORDER BY day;
