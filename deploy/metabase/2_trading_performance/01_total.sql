-- title: Realised PnL of all strategies
-- display: scalar
-- size: 6x4
SELECT coalesce(sum(total_pnl), 0) AS total_pnl FROM ml_strategy_performance;
