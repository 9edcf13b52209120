-- Why: an ensemble says how far its members agree on the direction.
-- Why safe: a nullable column rewrites nothing; the view gets it as its last column.

ALTER TABLE ml_predictions ADD COLUMN model_agreement real;
COMMENT ON COLUMN ml_predictions.model_agreement IS
    'weight of the members of an ensemble whose direction is its direction, 0..1; NULL: a model alone, or no member answered';
COMMENT ON COLUMN ml_predictions.degraded IS 'a member of the ensemble is missing';

CREATE OR REPLACE VIEW ml_predictions_decoded AS
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
    hit_1, hit_4, hit_16, hit_48, error_1, error_4, error_16, error_48,
    model_agreement
FROM ml_predictions;
