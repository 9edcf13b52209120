-- Scores of sentiment, by the time of their publication.

-- name: put_scores
-- A score that is known keeps its first value. $1 symbols, $2 times in ms, $3 sources, $4 scores.
WITH created AS (
    INSERT INTO sentiment_scores (symbol, ts, source, score)
    SELECT given.symbol, to_timestamp(given.ts_ms / 1000.0::double precision), given.source, given.score
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::double precision[]) AS given (symbol, ts_ms, source, score)
    ORDER BY given.symbol, given.ts_ms, given.source
    ON CONFLICT (symbol, ts, source) DO NOTHING
    RETURNING symbol
)
SELECT count(*) AS created FROM created;

-- name: scores_as_of
-- $1 symbols, $2 time in ms: nothing later is seen. $3 source, '': any.
SELECT newest.symbol, newest.ts, newest.source, newest.score
FROM unnest($1::text[]) WITH ORDINALITY AS asked (symbol, place)
CROSS JOIN LATERAL (
    SELECT s.symbol, s.ts, s.source, s.score
    FROM sentiment_scores AS s
    WHERE s.symbol = asked.symbol AND s.ts <= to_timestamp($2::bigint / 1000.0::double precision)
        AND ($3::text = '' OR s.source = $3::text)
    ORDER BY s.ts DESC, s.source
    LIMIT 1
) AS newest
ORDER BY asked.place;
