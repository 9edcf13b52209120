-- Why: what the gate sees is kept always, not only when it approves, so that it can be trained and judged on it.
-- Why safe: creates only, and comments on columns that were empty so far.

CREATE TABLE order_flow_features (
    symbol           text COLLATE "C" NOT NULL,
    ts               timestamptz NOT NULL,   -- as of when, by the times of the events
    gate_asked       boolean NOT NULL,       -- false: of the cadence
    tick_ratio       double precision,       -- NULL: undefined, here and below
    depth_ratio      double precision,
    price_dist       double precision,
    price            double precision,
    vwap             double precision,
    std_dev          double precision,
    bid_vol          double precision,
    ask_vol          double precision,
    gate_probability double precision,       -- that the price reverts; NULL: no model said so
    gate_approved    boolean,                -- NULL: the gate was not asked, or could not decide
    degraded         boolean NOT NULL,       -- the heuristic decided, because the model did not answer in time
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, ts, gate_asked)
) PARTITION BY RANGE (ts);
COMMENT ON TABLE order_flow_features IS
    'order flow as of the last trade of each interval, and whenever the gate was asked; the first values of a key stay';
CREATE INDEX order_flow_features_recent ON order_flow_features (ts);

COMMENT ON COLUMN ml_predictions.gate_probability IS 'that the price reverts; NULL: no model of the gate said so';
COMMENT ON COLUMN ml_predictions.gate_approved IS 'NULL: there was no gate, or no order flow that it could decide on';
COMMENT ON COLUMN ml_predictions.degraded IS
    'a member of the ensemble is missing, or the gate decided by the heuristic (then gate_probability is NULL)';
