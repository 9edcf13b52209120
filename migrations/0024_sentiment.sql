-- Why: what was said about a symbol is used by strategies as of the time it was published, so it is kept with that time.
-- Why safe: creates only; touches nothing that exists.

CREATE TABLE sentiment_scores (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,               -- of its publication: it counts from then on
    source      text COLLATE "C" NOT NULL,
    score       double precision NOT NULL,          -- -1..1
    received_at timestamptz NOT NULL DEFAULT now(), -- later than ts for what was brought later
    PRIMARY KEY (symbol, ts, source),
    CHECK (score BETWEEN -1 AND 1)
);
COMMENT ON TABLE sentiment_scores IS 'scores that clients brought; the first of a symbol, time and source stays';
