-- Whose identity is to be renewed, walked in the order in which certificates end. "Not superseded" is said in words that no
-- other statement uses: the planner, while it knows no figures, would else walk this index for one device's bindings.
CREATE INDEX binding_in_force ON binding (not_after, fingerprint)
    WHERE coalesce(superseded_at, 'infinity'::timestamptz) = 'infinity'::timestamptz;

-- What is remembered of each relationship whose certificate nears its end; a row goes with its relationship.
CREATE TABLE identity_renewal (
    enrollment_key         text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES enrollment (key) ON DELETE CASCADE,
    tenant                 text COLLATE "C" NOT NULL,
    phase                  text COLLATE "C" NOT NULL,
    fingerprint            text COLLATE "C" NOT NULL,
    look_at                timestamptz NOT NULL,
    attempts               integer NOT NULL,
    asked_at               timestamptz,
    command_uuid           text COLLATE "C",
    is_canary              boolean NOT NULL,
    finished_at            timestamptz,
    outcome                text NOT NULL,
    version                integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Those who wait for their turn, however many, never stand before those who are only looked at.
CREATE INDEX identity_renewal_due ON identity_renewal (look_at) WHERE phase IN ('scheduled', 'failed');
CREATE INDEX identity_renewal_look ON identity_renewal (look_at) WHERE phase NOT IN ('scheduled', 'failed');
CREATE INDEX identity_renewal_canary ON identity_renewal (enrollment_key) WHERE is_canary;
CREATE INDEX identity_renewal_by_asking ON identity_renewal (asked_at) WHERE asked_at IS NOT NULL;
CREATE INDEX identity_renewal_by_end ON identity_renewal (finished_at, phase) WHERE finished_at IS NOT NULL;
