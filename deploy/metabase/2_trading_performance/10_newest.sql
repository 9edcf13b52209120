-- title: Newest trades
-- display: table
SELECT
    exit_time, strategy, symbol, side, entry_price, exit_price, size, pnl, return, exit_reason, holding_s / 3600 AS holding_h,
    confidence
FROM ml_trades
WHERE exit_time > now() - interval '30 days'
ORDER BY exit_time DESC
LIMIT 200;
