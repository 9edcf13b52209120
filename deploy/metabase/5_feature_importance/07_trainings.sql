-- title: Trainings
-- display: table
-- size: 24x7
SELECT model, version, family, status, phase, data_points, duration_s, started_at, finished_at, error
FROM ml_trainings
ORDER BY started_at DESC
LIMIT 50;
