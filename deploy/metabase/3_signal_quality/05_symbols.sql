-- title: Symbols with most skill at 16 bars, 7 days
-- display: table
SELECT
    symbol, model || ' v' || version AS model, sum(forecasts)::bigint AS forecasts,
    sum(hit_rate * forecasts) / sum(forecasts) AS hit_rate, sum(base_rate * forecasts) / sum(forecasts) AS base_rate,
    1 - sum(log_loss * forecasts) / nullif(sum(base_log_loss * forecasts), 0) AS skill
FROM ml_accuracy_by_symbol_and_day
WHERE day > current_date - 7 AND horizon_bars = 16
GROUP BY symbol, model, version
ORDER BY skill DESC NULLS LAST
LIMIT 100;
