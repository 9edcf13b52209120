-- Why: models change while traffic flows. Every step of a version is on record, and what a shadow says is stored beside the
-- answers without being taken for one.
-- Why safe: a column with a constant default rewrites nothing; the view keeps its columns; the rest is new.

CREATE TABLE ml_model_events (
    id            uuid PRIMARY KEY,           -- of the server: told twice, it is here once
    sequence      bigint GENERATED ALWAYS AS IDENTITY,
    at            timestamptz NOT NULL,
    model         text COLLATE "C" NOT NULL,
    version       integer NOT NULL,
    bundle_sha256 bytea NOT NULL,             -- as in ml_models and ml_predictions
    from_state    text,                       -- NULL: it was not known before
    to_state      text NOT NULL,
    who           text NOT NULL,              -- candlecast: the server itself
    why           text NOT NULL,
    metrics       jsonb NOT NULL DEFAULT '{}',
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (to_state IN (
        'PUSHED', 'VERIFIED', 'LOADED', 'WARM', 'SHADOW', 'CHALLENGER', 'CHAMPION', 'RETIRED', 'REFUSED', 'FAILED'))
);
COMMENT ON TABLE ml_model_events IS 'who moved which version of a model to which state, when and why; never changed, never removed';
CREATE INDEX ml_model_events_version ON ml_model_events (model, version, at);

CREATE VIEW ml_model_states AS
SELECT DISTINCT ON (model, version)
    model, version, encode(bundle_sha256, 'hex') AS bundle_sha256, to_state AS state, at AS since, who, why, metrics
FROM ml_model_events
ORDER BY model, version, at DESC, sequence DESC;
COMMENT ON VIEW ml_model_states IS 'where each version of a model stands';

-- A shadow hears what the champion hears, and nobody hears it: whoever counts answers says NOT shadow.
ALTER TABLE ml_predictions ADD COLUMN shadow boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ml_predictions.shadow IS 'of a version that was tried beside the one that answered: no answer to anybody';

-- People read the view: it shows answers. Whatever columns it has by now, it keeps.
DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW ml_predictions_decoded AS '
        || rtrim(pg_get_viewdef('ml_predictions_decoded'::regclass), E'; \n') || E'\nWHERE NOT shadow';
END $$;
