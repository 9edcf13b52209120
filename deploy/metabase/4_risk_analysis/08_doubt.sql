-- title: Forecasts made in doubt, by day
-- text: Gaps in the window, a missing member of an ensemble, a gate that decided by its heuristic.
-- display: line
-- x: day
-- y: gap_filled, degraded
SELECT day, sum(gap_filled)::bigint AS gap_filled, sum(degraded)::bigint AS degraded
FROM ml_predictions_per_day
WHERE day > now() - interval '30 days'
GROUP BY day
ORDER BY day;
