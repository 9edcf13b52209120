-- title: How far realised PnL is below its peak
-- display: area
-- x: day
-- by: strategy
-- y: fall_from_peak
-- size: 24x8
SELECT day, strategy, fall_from_peak FROM ml_risk_per_day WHERE day > current_date - 365 ORDER BY day, strategy;
