-- title: What trades came to, by the quality their forecast claimed
-- display: bar
-- x: quality_from
-- y: mean_return
SELECT
    quality_from, sum(trades)::bigint AS trades, sum(wins) / sum(trades)::double precision AS win_rate,
    sum(mean_return * trades) / sum(trades) AS mean_return
FROM ml_signal_quality
WHERE day > current_date - 30
GROUP BY quality_from
ORDER BY quality_from;
