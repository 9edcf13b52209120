-- title: Risk of strategies
-- display: table
SELECT strategy, max_drawdown, total_pnl / nullif(max_drawdown, 0) AS pnl_per_drawdown, sharpe, trade_sharpe, profit_factor, gross_loss
FROM ml_strategy_performance
ORDER BY max_drawdown DESC NULLS LAST;
