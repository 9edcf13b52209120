-- title: Where the time goes, 95th percentile in ms
-- display: line
-- x: hour
-- by: stage
-- y: p95_ms
SELECT hour, stage, p95_us / 1000 AS p95_ms
FROM ml_latency_per_hour
WHERE stage <> 'total' AND hour > now() - interval '7 days'
ORDER BY hour, stage;
