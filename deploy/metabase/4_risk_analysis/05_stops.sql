-- title: What stops and takes reached
-- display: table
SELECT
    direction, exit_reason, sum(signals)::bigint AS signals, sum(wins) / sum(signals)::double precision AS win_rate,
    sum(mean_return * signals) / sum(signals) AS mean_return, sum(mean_bars * signals) / sum(signals) AS mean_bars,
    sum(mean_stop_loss * signals) / sum(signals) AS mean_stop_loss,
    sum(mean_take_profit * signals) / sum(signals) AS mean_take_profit
FROM ml_stop_take_effectiveness
WHERE day > current_date - 30
GROUP BY 1, 2
ORDER BY 1, 2;
