-- title: Symbols that made and cost most, 30 days
-- display: table
SELECT
    strategy, symbol, sum(closed)::bigint AS closed, sum(wins) / nullif(sum(closed), 0)::double precision AS win_rate,
    sum(pnl) AS pnl, sum(gross_profit) / nullif(sum(gross_loss), 0) AS profit_factor
FROM ml_strategy_day_counts
WHERE symbol <> '' AND day > current_date - 30 AND closed > 0
GROUP BY strategy, symbol
ORDER BY abs(sum(pnl)) DESC
LIMIT 50;
