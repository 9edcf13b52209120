-- title: Calibration
-- text: Of forecasts that give their likeliest class so much probability, how often it came. Calibrated: the diagonal.
-- display: line
-- x: mean_confidence
-- by: horizon
-- y: hit_rate
SELECT
    sum(mean_confidence * forecasts) / sum(forecasts) AS mean_confidence, horizon_bars || ' bars' AS horizon,
    sum(hit_rate * forecasts) / sum(forecasts) AS hit_rate, sum(forecasts)::bigint AS forecasts
FROM ml_calibration
GROUP BY confidence_from, horizon_bars
HAVING sum(forecasts) >= 30
ORDER BY 1;
