-- title: What the gate approved and refused, by day
-- display: bar
-- x: day
-- y: approved, refused
SELECT day, sum(gate_approved)::bigint AS approved, sum(gate_refused)::bigint AS refused
FROM ml_predictions_per_day
WHERE day > now() - interval '30 days'
GROUP BY day
ORDER BY day;
