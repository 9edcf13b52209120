-- title: Newest forecasts
-- display: table
-- size: 24x8
SELECT
    close_time, symbol, direction, strength, confidence, quality, stop_loss, take_profit, reasons, state, degraded,
    model || ' v' || version AS model
FROM ml_forecasts
ORDER BY close_time DESC
LIMIT 200;
