-- title: Open positions
-- display: scalar
-- size: 6x4
SELECT count(*) AS positions FROM ml_positions;
