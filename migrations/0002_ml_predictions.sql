-- Why: every forecast is kept exactly once, with what the model saw, what it said and how that was read.
-- Why safe: creates only; touches nothing that exists.

CREATE TABLE ml_predictions (
    symbol               text COLLATE "C" NOT NULL,
    interval_ms          bigint NOT NULL,
    close_time           timestamptz NOT NULL,
    model                text COLLATE "C" NOT NULL,
    version              integer NOT NULL,
    bundle_sha256        bytea NOT NULL,
    feature_set_hash     bigint NOT NULL,     -- the unsigned 64 bits, as a signed number

    -- what went in
    close                double precision NOT NULL,
    volume               double precision,
    state                text NOT NULL,
    gap_filled           boolean NOT NULL,
    features             bytea NOT NULL,      -- the newest row: little-endian float32, one per feature
    features_hash        bigint NOT NULL,     -- 56 bits
    feature_count        smallint NOT NULL,
    nan_count            smallint NOT NULL,   -- NaN features; mean to max are over the finite ones
    zero_variance_count  smallint NOT NULL,   -- features that did not move within the window
    features_mean        real,
    features_std         real,
    features_min         real,
    features_max         real,
    rsi                  real,                -- the feature rsi_14, as the model saw it; NULL: not in the feature set
    macd                 real,                -- macd_hist_12_26_9
    bb_position          real,                -- bb_pctb_20
    atr_pct              real,                -- natr_14
    volume_ratio         real,                -- volume_ratio_1_96
    trend_strength       real,                -- adx_14

    -- what came out; fractions, never percent; NULL: an output was not finite
    outputs              bytea NOT NULL,      -- 20 little-endian float32: 4 returns, 4 × 3 logits, 4 risks
    probabilities        bytea NOT NULL,      -- 4 × (LONG, SHORT, NEUTRAL), little-endian float32, calibrated
    direction            text NOT NULL,
    strength             text NOT NULL,
    confidence           double precision,
    quality              double precision,
    agreement            double precision,
    move                 double precision,
    edge                 double precision,
    stop_loss            double precision,
    take_profit          double precision,
    reasons              text[] NOT NULL,     -- why NEUTRAL; empty for LONG and SHORT
    gate_probability     double precision,    -- NULL: no gate was asked, here and below
    gate_approved        boolean,
    degraded             boolean NOT NULL DEFAULT false,

    decode_us            integer NOT NULL,    -- where the time of its batch went
    features_us          integer NOT NULL,
    queue_us             integer NOT NULL,
    model_us             integer NOT NULL,
    interpret_us         integer NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),

    -- what happened, by horizon in bars; filled when it is known
    actual_return_1      real,
    actual_return_4      real,
    actual_return_16     real,
    actual_return_48     real,
    actual_direction_1   text,
    actual_direction_4   text,
    actual_direction_16  text,
    actual_direction_48  text,
    hit_1                boolean,
    hit_4                boolean,
    hit_16               boolean,
    hit_48               boolean,
    error_1              real,
    error_4              real,
    error_16             real,
    error_48             real,

    PRIMARY KEY (symbol, close_time, interval_ms, model, version),
    CHECK (direction IN ('LONG', 'SHORT', 'NEUTRAL')),
    CHECK (strength IN ('WEAK', 'NORMAL', 'STRONG'))
) PARTITION BY RANGE (close_time);
COMMENT ON TABLE ml_predictions IS 'every forecast of a closed candle, once; people read ml_predictions_decoded';

-- The primary key also serves one symbol by time.
CREATE INDEX ml_predictions_recent ON ml_predictions (close_time);
CREATE INDEX ml_predictions_signal ON ml_predictions (direction, close_time) WHERE direction <> 'NEUTRAL';
CREATE INDEX ml_predictions_confidence ON ml_predictions (confidence) WHERE direction <> 'NEUTRAL';

-- What a writer hands over: the columns above that are known when the forecast is made, times in ms.
CREATE TYPE ml_prediction_input AS (
    symbol text,
    interval_ms bigint,
    close_time_ms bigint,
    model text,
    version integer,
    bundle_sha256 bytea,
    feature_set_hash bigint,
    close double precision,
    volume double precision,
    state text,
    gap_filled boolean,
    features bytea,
    features_hash bigint,
    feature_count smallint,
    nan_count smallint,
    zero_variance_count smallint,
    features_mean real,
    features_std real,
    features_min real,
    features_max real,
    rsi real,
    macd real,
    bb_position real,
    atr_pct real,
    volume_ratio real,
    trend_strength real,
    outputs bytea,
    probabilities bytea,
    direction text,
    strength text,
    confidence double precision,
    quality double precision,
    agreement double precision,
    move double precision,
    edge double precision,
    stop_loss double precision,
    take_profit double precision,
    reasons text[],
    decode_us integer,
    features_us integer,
    queue_us integer,
    model_us integer,
    interpret_us integer
);

CREATE FUNCTION float4_array(data bytea) RETURNS real[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(
        CASE
            WHEN exponent < 255 THEN
                sign * (CASE WHEN exponent = 0 THEN fraction * 2 ELSE fraction + 8388608 END) * 2.0::float8 ^ (exponent - 150)
            WHEN fraction = 0 THEN sign * 'infinity'::float8
            ELSE 'nan'::float8
        END::real ORDER BY i), '{}')
    FROM generate_series(0, length(data) / 4 - 1) AS i,
    LATERAL (
        SELECT get_byte(data, 4 * i) AS b0, get_byte(data, 4 * i + 1) AS b1,
               get_byte(data, 4 * i + 2) AS b2, get_byte(data, 4 * i + 3) AS b3
    ) AS byte,
    LATERAL (
        SELECT (1 - b3 / 128 * 2)::float8 AS sign, b3 % 128 * 2 + b2 / 128 AS exponent,
               (b2 % 128 * 65536 + b1 * 256 + b0)::float8 AS fraction
    ) AS part
$$;
COMMENT ON FUNCTION float4_array IS 'the numbers in little-endian IEEE 754 single precision, 4 bytes each';

CREATE VIEW ml_predictions_decoded AS
SELECT
    symbol, interval_ms, close_time, model, version,
    encode(bundle_sha256, 'hex') AS bundle_sha256, to_hex(feature_set_hash) AS feature_set_hash,
    close, volume, state, gap_filled,
    float4_array(features) AS features, features_hash, feature_count, nan_count, zero_variance_count,
    features_mean, features_std, features_min, features_max,
    rsi, macd, bb_position, atr_pct, volume_ratio, trend_strength,
    float4_array(outputs) AS outputs, float4_array(probabilities) AS probabilities,
    direction, strength, confidence, quality, agreement, move, edge, stop_loss, take_profit, reasons,
    gate_probability, gate_approved, degraded,
    decode_us, features_us, queue_us, model_us, interpret_us, created_at,
    actual_return_1, actual_return_4, actual_return_16, actual_return_48,
    actual_direction_1, actual_direction_4, actual_direction_16, actual_direction_48,
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48
FROM ml_predictions;
COMMENT ON VIEW ml_predictions_decoded IS 'ml_predictions for people: features, outputs and probabilities as numbers';
