-- What is known of monthly partitions. Read by retention.py.

-- name: partitions
SELECT part.relname::text AS name, to_date(right(part.relname, 7), 'YYYY_MM') AS month,
    pg_total_relation_size(part.oid) AS bytes
FROM pg_inherits
JOIN pg_class AS part ON part.oid = inhrelid
WHERE inhparent = to_regclass(quote_ident($1)) AND part.relname ~ ('^' || $1 || '_\d{4}_\d{2}$')
ORDER BY part.relname;

-- name: retired
SELECT relname::text AS name, pg_total_relation_size(oid) AS bytes
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname ~ ('^retired_' || $1 || '_\d{4}_\d{2}_\d+$')
ORDER BY relname;

-- name: columns
SELECT attname::text AS name, format_type(atttypid, NULL) AS type
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum;

-- name: only_one
SELECT pg_try_advisory_lock(hashtextextended('candlecast.retention.' || current_schema(), 0));

-- name: no_new_partitions
SELECT pg_advisory_xact_lock(hashtextextended('candlecast.create_month_partitions', 0));

-- name: make_ahead
SELECT create_month_partitions($1, $2);
