-- What drift is measured from, and what was measured. Read by drift.py.

-- name: spoken_hours
-- The hours in which a version has answered, and how much; they outlive the forecasts.
SELECT min(hour) AS first, max(hour) + interval '1 hour' AS last
FROM ml_prediction_hours
WHERE model = $1 AND version = $2;

-- name: oldest_kept
SELECT close_time
FROM ml_prediction_rows
WHERE model = $1 AND version = $2 AND NOT shadow AND close_time >= $3
ORDER BY close_time
LIMIT 1;

-- name: forecasts_in
SELECT coalesce(sum(forecasts), 0)::bigint AS forecasts
FROM ml_prediction_hours
WHERE model = $1 AND version = $2 AND hour >= date_trunc('hour', $3::timestamptz) AND hour < $4;

-- name: drift_rows
-- One in $5 of them: a hash of the features says which, so that all symbols and times of day have their part.
SELECT symbol, features, direction, confidence, probabilities, extract(epoch FROM close_time)::double precision AS close_s
FROM ml_prediction_rows
WHERE model = $1 AND version = $2 AND NOT shadow AND close_time >= $3 AND close_time < $4 AND features_hash % $5 = 0
LIMIT $6;

-- name: misses
-- Each close counts once, by the share of its forecasts that missed, because symbols move together. In the order of time.
SELECT avg((NOT hit)::integer)::double precision AS missed
FROM (
    SELECT close_time, hit_1 AS hit
    FROM ml_predictions
    WHERE model = $1 AND version = $2 AND NOT shadow AND close_time >= $3 AND hit_1 IS NOT NULL
    ORDER BY close_time DESC
    LIMIT $4
) AS newest
GROUP BY close_time
ORDER BY close_time;

-- name: drifting_before
-- How each subject was measured last, and what somebody was told of it last.
SELECT DISTINCT ON (subject) subject, drifting, coalesce((
    SELECT told.drifting FROM ml_drift_measures AS told
    WHERE told.model = $1 AND told.version = $2 AND told.subject = m.subject AND told.alerted
    ORDER BY told.measured_at DESC LIMIT 1), false) AS told
FROM ml_drift_measures AS m
WHERE model = $1 AND version = $2
ORDER BY subject, measured_at DESC;

-- name: alerts_of_day
SELECT count(*) AS alerts FROM ml_drift_measures WHERE alerted AND drifting AND measured_at >= $1;

-- name: measured
INSERT INTO ml_drift_measures (
    model, version, newest_from, newest_to, newest_rows, reference_from, reference_to, reference_rows, against, subject, psi,
    ks, usual_psi, usual_ks, worst, before, after, drifting, alerted)
SELECT $1, $2, $3, $4, $5, m.*
FROM unnest(
    $6::timestamptz[], $7::timestamptz[], $8::integer[], $9::text[], $10::text[], $11::double precision[],
    $12::double precision[], $13::double precision[], $14::double precision[], $15::text[], $16::double precision[],
    $17::double precision[], $18::boolean[], $19::boolean[]) AS m;
