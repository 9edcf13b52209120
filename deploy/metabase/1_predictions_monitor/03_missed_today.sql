-- title: Forecasts missed, today and yesterday
-- display: scalar
-- size: 6x4
SELECT coalesce(sum(missed), 0)::bigint AS missed
FROM ml_missed_per_day
WHERE day >= date_trunc('day', now(), 'UTC') - interval '1 day';
