-- title: Strategies side by side
-- text: sharpe is of daily PnL, a year; max_drawdown is money.
-- display: table
-- size: 24x6
SELECT
    strategy, signals, closed, open_positions, win_rate, total_pnl, avg_pnl, profit_factor, expectancy, sharpe, max_drawdown,
    mean_holding_s / 3600 AS mean_holding_h, fees, first_day, last_day
FROM ml_strategy_performance
ORDER BY total_pnl DESC;
