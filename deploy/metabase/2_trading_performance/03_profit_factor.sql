-- title: Profit factor
-- text: Gross profit over gross loss; empty while there is no loss.
-- display: scalar
-- size: 6x4
SELECT sum(gross_profit) / nullif(sum(gross_loss), 0) AS profit_factor FROM ml_strategy_performance;
