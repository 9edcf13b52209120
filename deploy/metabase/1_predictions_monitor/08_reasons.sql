-- title: Why there was no signal, 30 days
-- text: A forecast may have several reasons.
-- display: row
-- x: reason
-- y: forecasts
SELECT reason, sum(forecasts)::bigint AS forecasts
FROM ml_reasons_per_day
WHERE day > now() - interval '30 days'
GROUP BY reason
ORDER BY forecasts DESC;
