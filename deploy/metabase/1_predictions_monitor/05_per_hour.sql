-- title: Forecasts per hour
-- text: By the hour of the close; a replay of the past counts in the past.
-- display: bar
-- x: hour
-- y: longs, shorts, neutrals
SELECT hour, sum(longs)::bigint AS longs, sum(shorts)::bigint AS shorts, sum(forecasts - longs - shorts)::bigint AS neutrals
FROM ml_predictions_per_hour
WHERE hour > now() - interval '7 days'
GROUP BY hour
ORDER BY hour;
