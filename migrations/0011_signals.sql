-- Why: a forecast says how it may be acted on: the vote of the rules, the hybrid of it and the edge, and the suggested size.
-- Why safe: nullable columns rewrite nothing; the view gets them as its last ones, whatever columns it has by now.

ALTER TABLE ml_predictions ADD COLUMN rule_score double precision;
ALTER TABLE ml_predictions ADD COLUMN hybrid_score double precision;
ALTER TABLE ml_predictions ADD COLUMN size_multiplier double precision;
COMMENT ON COLUMN ml_predictions.rule_score IS '-1..1, mean vote of RSI, MACD, Bollinger, stochastic, ADX/DI and MA cross';
COMMENT ON COLUMN ml_predictions.hybrid_score IS '-1..1, weighted mean of edge and rule_score; NULL: an output was not finite';
COMMENT ON COLUMN ml_predictions.size_multiplier IS 'suggested size in units of the stake, 1 to 1.5';

DO $$
DECLARE
    before text := pg_get_viewdef('ml_predictions_decoded'::regclass);
    after text := regexp_replace(
        before, '\s+FROM ml_predictions\M', ', rule_score, hybrid_score, size_multiplier FROM ml_predictions');
BEGIN
    IF after = before THEN
        RAISE EXCEPTION 'ml_predictions_decoded is not what this migration knows: %', before;
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW ml_predictions_decoded AS ' || after;
END $$;
