-- title: Newest hour with forecasts
-- display: scalar
-- size: 6x4
SELECT max(hour) AS hour FROM ml_predictions_per_hour;
