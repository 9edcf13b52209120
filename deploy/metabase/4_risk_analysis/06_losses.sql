-- title: Largest losses, 90 days
-- display: table
SELECT exit_time, strategy, symbol, side, pnl, return, exit_reason, confidence, holding_s / 3600 AS holding_h
FROM ml_trades
WHERE exit_time > now() - interval '90 days' AND pnl < 0
ORDER BY pnl
LIMIT 50;
