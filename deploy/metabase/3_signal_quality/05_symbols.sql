-- title: Symbols with most and least skill
-- display: table
SELECT symbol, model, version, horizon_bars, forecasts, hit_rate, base_rate, skill
FROM ml_accuracy_by_symbol
WHERE forecasts >= 100
ORDER BY skill DESC NULLS LAST
LIMIT 100;
