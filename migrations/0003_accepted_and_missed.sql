-- Why: after a restart the candles are taken again in the order in which they were accepted; and a forecast that was never
-- made, because its model was away, is on record with the reason.
-- Why safe: a column with a constant default rewrites nothing; the rest is new.

ALTER TABLE candles ADD COLUMN accepted_ns bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN candles.accepted_ns IS
    'when it moved the state, ns since 1970; candles of one batch share it, later ones have more; 0: stored before this was kept';
ALTER TYPE candle_input ADD ATTRIBUTE accepted_ns bigint CASCADE;

CREATE TABLE ml_missed_predictions (
    symbol      text COLLATE "C" NOT NULL,
    interval_ms bigint NOT NULL,
    close_time  timestamptz NOT NULL,
    model       text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    reason      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, close_time, interval_ms, model, version)
);
COMMENT ON TABLE ml_missed_predictions IS 'forecasts that were not made while they were worth something, and why';
CREATE INDEX ml_missed_predictions_recent ON ml_missed_predictions (close_time);

-- What a writer hands over: the columns above, times in ms.
CREATE TYPE ml_missed_input AS (
    symbol text,
    interval_ms bigint,
    close_time_ms bigint,
    model text,
    version integer,
    reason text
);
