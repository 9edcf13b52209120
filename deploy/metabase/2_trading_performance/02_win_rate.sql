-- title: Win rate over closed signals
-- display: scalar
-- size: 6x4
SELECT sum(wins) / nullif(sum(closed), 0) AS win_rate FROM ml_strategy_performance;
