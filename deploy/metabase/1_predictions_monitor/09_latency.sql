-- title: Latency of a forecast, ms
-- text: All stages together, by the hour in which it was written.
-- display: line
-- x: hour
-- y: p50_ms, p95_ms, p99_ms
SELECT hour, p50_us / 1000 AS p50_ms, p95_us / 1000 AS p95_ms, p99_us / 1000 AS p99_ms
FROM ml_latency_per_hour
WHERE stage = 'total' AND hour > now() - interval '7 days'
ORDER BY hour;
