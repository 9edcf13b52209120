-- Why: every accepted candle is kept, so that the features of each forecast can be computed again.
-- Why safe: creates only; touches nothing that exists.

-- Months are created on demand, because a replay may begin in any year. LIKE + ATTACH takes a lock that readers and
-- writers of the parent do not notice; CREATE TABLE … PARTITION OF would stop them. Of two callers the lock makes the
-- second wait, and it then finds the first one's partition: by a query, since to_regclass() may answer from a cache
-- that is older than the wait. SECURITY DEFINER: the writing role has no DDL of its own.
CREATE FUNCTION create_month_partitions(parent text, months date[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    month date;
    part text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = to_regclass(quote_ident(parent))) THEN
        RAISE EXCEPTION 'no partitioned table %', parent;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('candlecast.create_month_partitions', 0));
    FOREACH month IN ARRAY months LOOP
        month := date_trunc('month', month::timestamp)::date;
        part := parent || to_char(month, '_YYYY_MM');
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = quote_ident(parent)::regclass AND relname = part);
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part,
            month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END $$;
COMMENT ON FUNCTION create_month_partitions IS 'create the monthly partitions, months in UTC, that do not exist yet';

CREATE TABLE candles (
    symbol           text COLLATE "C" NOT NULL,
    interval_ms      bigint NOT NULL,
    open_time        timestamptz NOT NULL,
    open             double precision NOT NULL,
    high             double precision NOT NULL,
    low              double precision NOT NULL,
    close            double precision NOT NULL,
    volume           double precision NOT NULL,  -- base units
    quote_volume     double precision,           -- NULL: not given, here and below
    trades           double precision,           -- as received; a count
    taker_buy_volume double precision,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, interval_ms, open_time)
) PARTITION BY RANGE (open_time);
COMMENT ON TABLE candles IS 'every accepted closed candle, once; the first values of a key stay';

-- What a writer hands over: the columns above, times in ms.
CREATE TYPE candle_input AS (
    symbol text,
    interval_ms bigint,
    open_time_ms bigint,
    open double precision,
    high double precision,
    low double precision,
    close double precision,
    volume double precision,
    quote_volume double precision,
    trades double precision,
    taker_buy_volume double precision
);
