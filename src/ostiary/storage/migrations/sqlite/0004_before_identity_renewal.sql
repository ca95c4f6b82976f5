-- Whose identity is to be renewed, walked in the order in which certificates end.
CREATE INDEX binding_in_force ON binding (not_after, fingerprint) WHERE superseded_at IS NULL;

-- What is remembered of each relationship whose certificate nears its end; a row goes with its relationship.
CREATE TABLE identity_renewal (
    enrollment_key  TEXT NOT NULL PRIMARY KEY REFERENCES enrollment (key) ON DELETE CASCADE,
    tenant          TEXT NOT NULL,
    phase           TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    look_at         INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    asked_at        INTEGER,
    command_uuid    TEXT,
    is_canary       INTEGER NOT NULL,
    finished_at     INTEGER,
    outcome         TEXT NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Those who wait for their turn, however many, never stand before those who are only looked at.
CREATE INDEX identity_renewal_due ON identity_renewal (look_at) WHERE phase IN ('scheduled', 'failed');
CREATE INDEX identity_renewal_look ON identity_renewal (look_at) WHERE phase NOT IN ('scheduled', 'failed');
CREATE INDEX identity_renewal_canary ON identity_renewal (enrollment_key) WHERE is_canary = 1;
CREATE INDEX identity_renewal_by_asking ON identity_renewal (asked_at) WHERE asked_at IS NOT NULL;
CREATE INDEX identity_renewal_by_end ON identity_renewal (finished_at, phase) WHERE finished_at IS NOT NULL;
