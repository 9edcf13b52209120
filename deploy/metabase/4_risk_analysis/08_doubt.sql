-- title: Forecasts made in doubt, by day
-- text: Gaps in the window, a missing member of an ensemble, a gate that decided by its heuristic.
-- display: line
-- x: day
-- y: gap_filled, degraded
SELECT date_trunc('day', hour, 'UTC') AS day, sum(gap_filled)::bigint AS gap_filled, sum(degraded)::bigint AS degraded
FROM ml_prediction_counts
WHERE hour > now() - interval '30 days'
GROUP BY 1
ORDER BY 1;
