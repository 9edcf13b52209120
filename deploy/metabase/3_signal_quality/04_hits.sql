-- title: Hit rate beside base rate at 16 bars, by day
-- display: line
-- x: day
-- y: hit_rate, base_rate
SELECT
    day, sum(hit_rate * forecasts) / sum(forecasts) AS hit_rate, sum(base_rate * forecasts) / sum(forecasts) AS base_rate
FROM ml_accuracy_by_day
WHERE day > current_date - 90 AND horizon_bars = 16
GROUP BY day
ORDER BY day;
