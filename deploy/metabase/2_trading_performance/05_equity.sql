-- title: Realised PnL, added up
-- display: line
-- x: day
-- by: strategy
-- y: total_pnl
-- size: 24x8
SELECT day, strategy, total_pnl
FROM ml_strategy_daily
WHERE symbol = '' AND day > current_date - 365
ORDER BY day, strategy;
