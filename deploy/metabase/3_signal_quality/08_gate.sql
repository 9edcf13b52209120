-- title: What the gate approved and refused, by day
-- display: bar
-- x: day
-- y: approved, refused
SELECT
    date_trunc('day', hour, 'UTC') AS day, sum(gate_approved)::bigint AS approved, sum(gate_refused)::bigint AS refused
FROM ml_prediction_counts
WHERE hour > now() - interval '30 days'
GROUP BY 1
ORDER BY 1;
