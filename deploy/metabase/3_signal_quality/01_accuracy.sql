-- title: How right forecasts were, by horizon
-- text: hit_rate beside base_rate, which a model that always says the most frequent class would reach; skill above 0 is better than the frequencies in log-loss.
-- display: table
-- size: 24x6
SELECT
    model, version, horizon_bars, forecasts, hit_rate, base_rate, side_hit_rate, skill, log_loss, base_log_loss, brier,
    base_brier, bias, mae, base_mae, first_day, last_day
FROM ml_accuracy
ORDER BY model, version DESC, horizon_bars;
