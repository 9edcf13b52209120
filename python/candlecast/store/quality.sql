-- How right a version and how profitable a strategy was of late. Read by quality.py.

-- name: accuracy_of_late
-- Off: the distance of what was said from what came, bin by bin.
WITH newest AS (
    SELECT max(day) AS day FROM ml_accuracy_bins WHERE model = $1 AND version = $2 AND horizon_bars = $3
),
bins AS (
    SELECT
        sum(forecasts) AS forecasts, sum(hits) AS hits, sum(longs) AS longs, sum(shorts) AS shorts,
        sum(neutrals) AS neutrals, abs(sum(confidence) - sum(hits)::double precision) AS off
    FROM ml_accuracy_bins
    WHERE model = $1 AND version = $2 AND horizon_bars = $3 AND day > (SELECT day FROM newest) - $4::integer
    GROUP BY confidence_from
)
SELECT
    coalesce(sum(forecasts), 0)::bigint AS count, sum(hits)::double precision AS hits,
    greatest(sum(longs), sum(shorts), sum(neutrals))::double precision AS commonest, sum(off)::double precision AS off
FROM bins;

-- name: trades_of_late
SELECT
    coalesce(sum(closed), 0)::bigint AS count, sum(wins)::double precision AS wins, sum(return_sum) AS returns, sum(pnl) AS pnl
FROM ml_strategy_day_counts
WHERE strategy = $1 AND symbol = '' AND day > (
    SELECT max(day) FROM ml_strategy_day_counts WHERE strategy = $1 AND symbol = '' AND closed > 0) - $2::integer;
