-- When a person was last shown the value of a record.
ALTER TABLE token ADD COLUMN disclosed_at INTEGER;

-- Where the change of each secret of a device id stands; the generations themselves are in the ledger, and `current` and
-- `candidate` name two of them. No state is checked here: which there are is the business of domain/escrow.py.
CREATE TABLE escrow (
    tenant       TEXT NOT NULL,
    holder       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    state        TEXT NOT NULL,
    since        INTEGER NOT NULL,
    current      TEXT,
    digest       BLOB,
    candidate    TEXT,
    set_uuid     TEXT,
    verify_uuid  TEXT,
    trouble      TEXT,
    due_at       INTEGER,
    PRIMARY KEY (tenant, holder, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX escrow_due ON escrow (due_at) WHERE due_at IS NOT NULL;

-- The last report of each kind that a device made of itself, as JSON; it goes with the relationship.
CREATE TABLE fact (
    enrollment_key  TEXT NOT NULL REFERENCES enrollment (key),
    name            TEXT NOT NULL,
    facts           TEXT NOT NULL,
    reported_at     INTEGER NOT NULL,
    PRIMARY KEY (enrollment_key, name)
) STRICT;
