-- title: Open positions by symbol
-- text: exposure is at the prices of entry.
-- display: table
SELECT strategy, symbol, side, positions, exposure, oldest_entry, mean_confidence, quality_sum
FROM ml_exposure
ORDER BY exposure DESC
LIMIT 100;
