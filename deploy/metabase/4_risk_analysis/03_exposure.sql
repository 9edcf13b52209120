-- title: Open value by strategy and side
-- display: bar
-- x: strategy
-- by: side
-- y: exposure
SELECT strategy, side, sum(exposure) AS exposure FROM ml_exposure GROUP BY strategy, side ORDER BY strategy, side;
