-- title: PnL by day
-- display: bar
-- x: day
-- by: strategy
-- y: pnl
SELECT day, strategy, pnl FROM ml_strategy_daily WHERE symbol = '' AND day > current_date - 90 ORDER BY day, strategy;
