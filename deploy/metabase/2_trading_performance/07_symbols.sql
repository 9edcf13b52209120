-- title: Symbols that made and cost most
-- display: table
SELECT strategy, symbol, closed, win_rate, total_pnl, profit_factor, max_drawdown
FROM ml_symbol_performance
WHERE closed > 0
ORDER BY abs(total_pnl) DESC
LIMIT 50;
