-- title: Skill over the base rate, by day
-- display: line
-- x: day
-- by: horizon
-- y: skill
SELECT
    day, horizon_bars || ' bars' AS horizon,
    1 - sum(log_loss * forecasts) / nullif(sum(base_log_loss * forecasts), 0) AS skill
FROM ml_accuracy_by_day
WHERE day > current_date - 90
GROUP BY day, horizon_bars
ORDER BY day, horizon_bars;
