-- When a person was last shown the value of a record.
ALTER TABLE token ADD COLUMN disclosed_at timestamptz;

-- Where the change of each secret of a device id stands; the generations themselves are in the ledger, and `current` and
-- `candidate` name two of them. No state is checked here: which there are is the business of domain/escrow.py.
CREATE TABLE escrow (
    tenant                 text COLLATE "C" NOT NULL,
    holder                 text COLLATE "C" NOT NULL,
    kind                   text COLLATE "C" NOT NULL,
    state                  text COLLATE "C" NOT NULL,
    since                  timestamptz NOT NULL,
    current                text COLLATE "C",
    digest                 bytea,
    candidate              text COLLATE "C",
    set_uuid               text COLLATE "C",
    verify_uuid            text COLLATE "C",
    trouble                text,
    due_at                 timestamptz,
    PRIMARY KEY (tenant, holder, kind)
) WITH (fillfactor = 70);
CREATE INDEX escrow_due ON escrow (due_at) WHERE due_at IS NOT NULL;

-- The last report of each kind that a device made of itself, as JSON in plain ASCII; it goes with the relationship.
CREATE TABLE fact (
    enrollment_key         text COLLATE "C" NOT NULL REFERENCES enrollment (key),
    name                   text COLLATE "C" NOT NULL,
    facts                  text NOT NULL,
    reported_at            timestamptz NOT NULL,
    PRIMARY KEY (enrollment_key, name)
) WITH (fillfactor = 70);
