-- Moments are microseconds since 1970 in UTC. Flags are 0 or 1. Foreign keys are immediate on purpose: a deferred one
-- would fail at COMMIT and take the other requests of the batch with it.

CREATE TABLE enrollment (
    key                    TEXT NOT NULL PRIMARY KEY,
    tenant                 TEXT NOT NULL,
    id                     TEXT NOT NULL,
    type                   TEXT NOT NULL,
    parent_key             TEXT REFERENCES enrollment (key),
    state                  TEXT NOT NULL,
    standing               TEXT NOT NULL,
    topic                  TEXT NOT NULL,
    proof                  TEXT NOT NULL,
    serial_number          TEXT,
    device_name            TEXT,
    model                  TEXT,
    model_name             TEXT,
    product_name           TEXT,
    os_version             TEXT,
    build_version          TEXT,
    created_at             INTEGER NOT NULL,
    authenticated_at       INTEGER NOT NULL,
    enrolled_at            INTEGER,
    last_seen_at           INTEGER,
    released_at            INTEGER,
    contested_at           INTEGER,
    push_record            TEXT,
    push_digest            BLOB,
    push_received_at       INTEGER,
    push_arrived_at        INTEGER,
    push_dead_since        INTEGER,
    push_dead_reason       TEXT,
    pushed_at              INTEGER,
    unlock_record          TEXT,
    unlock_digest          BLOB,
    unlock_received_at     INTEGER,
    unlock_arrived_at      INTEGER,
    bootstrap_record       TEXT,
    bootstrap_digest       BLOB,
    bootstrap_received_at  INTEGER,
    bootstrap_arrived_at   INTEGER,
    awaiting               INTEGER NOT NULL,
    not_on_console         INTEGER,
    user_short_name        TEXT,
    user_long_name         TEXT,
    access_rights          INTEGER,
    capabilities           TEXT,
    has_session            INTEGER NOT NULL,
    session_nonce          TEXT,
    session_token          BLOB,
    renewing_fingerprint   TEXT,
    accepted_fingerprint   TEXT,
    token_updates          INTEGER NOT NULL,
    version                INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX enrollment_current ON enrollment (tenant, id) WHERE standing = 'current' AND parent_key IS NULL;
CREATE UNIQUE INDEX enrollment_user ON enrollment (parent_key, id) WHERE parent_key IS NOT NULL;
CREATE INDEX enrollment_by_id ON enrollment (tenant, id, key);
CREATE INDEX enrollment_figures ON enrollment (tenant, type, state, topic);
CREATE INDEX enrollment_push_dead ON enrollment (tenant) WHERE push_dead_since IS NOT NULL;

CREATE TABLE binding (
    fingerprint     TEXT NOT NULL PRIMARY KEY,
    tenant          TEXT NOT NULL,
    enrollment_key  TEXT NOT NULL REFERENCES enrollment (key),
    proof           TEXT NOT NULL,
    bound_at        INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    superseded_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX binding_by_enrollment ON binding (enrollment_key);

-- The ledger: a row is appended once; its state moves, its value never does.
CREATE TABLE token (
    id            TEXT NOT NULL PRIMARY KEY,
    tenant        TEXT NOT NULL,
    holder        TEXT NOT NULL,
    kind          TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    digest        BLOB NOT NULL,
    size          INTEGER NOT NULL,
    state         TEXT NOT NULL,
    cause         TEXT NOT NULL,
    source        TEXT NOT NULL,
    fingerprint   TEXT,
    relationship  TEXT,
    received_at   INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    proven_at     INTEGER,
    proven_by     TEXT,
    value         BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX token_generation ON token (tenant, holder, kind, generation);
-- The kinds that devices bring are found anywhere in the ledger; only the others need an index to be listed, and an
-- index over all kinds would cost every TokenUpdate two pages. (NOT IN would build a table for each row it is asked about.)
CREATE INDEX token_rare_kind ON token (tenant, kind, id)
 WHERE kind <> 'push' AND kind <> 'unlock' AND kind <> 'bootstrap' AND kind <> 'identity';
CREATE INDEX token_identity ON token (fingerprint) WHERE kind = 'identity';

-- How many records there are, kept as they are written: counting them would read the whole ledger.
CREATE TABLE token_count (
    kind    TEXT NOT NULL,
    state   TEXT NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (kind, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER token_appended AFTER INSERT ON token BEGIN
    INSERT INTO token_count (kind, state, number) VALUES (new.kind, new.state, 1)
        ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER token_stepped AFTER UPDATE OF state ON token WHEN old.state <> new.state BEGIN
    UPDATE token_count SET number = number - 1 WHERE kind = old.kind AND state = old.state;
    INSERT INTO token_count (kind, state, number) VALUES (new.kind, new.state, 1)
        ON CONFLICT (kind, state) DO UPDATE SET number = number + 1;
END;

-- Live commands only; `sequence` never comes back, so that a place in the queue is told by it for ever.
CREATE TABLE command (
    sequence        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    uuid            TEXT NOT NULL,
    enrollment_key  TEXT NOT NULL REFERENCES enrollment (key),
    request_type    TEXT NOT NULL,
    priority        INTEGER NOT NULL,
    reference       TEXT,
    state           TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'deferred')),
    queued_at       INTEGER NOT NULL,
    source          TEXT NOT NULL,
    sent_at         INTEGER,
    hand_outs       INTEGER NOT NULL,
    payload         BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX command_by_uuid ON command (enrollment_key, uuid);
CREATE INDEX command_by_turn ON command (enrollment_key, (state <> 'sent'), priority, sequence);
CREATE INDEX command_deferred ON command (enrollment_key) WHERE state = 'deferred';

-- `number` grows in order of closing.
CREATE TABLE command_closed (
    number          INTEGER NOT NULL PRIMARY KEY,
    uuid            TEXT NOT NULL,
    enrollment_key  TEXT NOT NULL REFERENCES enrollment (key),
    request_type    TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('done', 'failed', 'cancelled')),
    queued_at       INTEGER NOT NULL,
    closed_at       INTEGER NOT NULL,
    source          TEXT NOT NULL,
    hand_outs       INTEGER NOT NULL,
    result          TEXT NOT NULL
) STRICT;
-- It finds the numbers of a channel too; an index over them in their order would cost every answer a page.
CREATE UNIQUE INDEX command_closed_by_uuid ON command_closed (enrollment_key, uuid);

-- `claimed` is 1 from a claim until the wake is settled or written anew.
CREATE TABLE wake (
    enrollment_key  TEXT NOT NULL PRIMARY KEY REFERENCES enrollment (key),
    due_at          INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    claimed         INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX wake_due ON wake (due_at);

CREATE TABLE credential (
    fingerprint        TEXT NOT NULL PRIMARY KEY,
    tenant             TEXT NOT NULL,
    purpose            TEXT NOT NULL,
    bound_serial       TEXT,
    bound_enrollment   TEXT,
    bound_user         TEXT,
    access_rights      INTEGER,
    capabilities       TEXT,
    issued_at          INTEGER NOT NULL,
    not_after          INTEGER NOT NULL,
    challenge_id       TEXT NOT NULL,
    certificate        BLOB NOT NULL
) STRICT;

CREATE TABLE invitation (
    id                TEXT NOT NULL PRIMARY KEY,
    tenant            TEXT NOT NULL,
    code              BLOB NOT NULL,
    bound_serial      TEXT,
    bound_enrollment  TEXT,
    bound_user        TEXT,
    valid_until       INTEGER NOT NULL,
    uses_left         INTEGER NOT NULL CHECK (uses_left >= 0),
    created_at        INTEGER NOT NULL,
    created_by        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX invitation_by_code ON invitation (code);

CREATE TABLE challenge (
    id                TEXT NOT NULL PRIMARY KEY,
    tenant            TEXT NOT NULL,
    digest            BLOB NOT NULL,
    purpose           TEXT NOT NULL,
    bound_serial      TEXT,
    bound_enrollment  TEXT,
    bound_user        TEXT,
    access_rights     INTEGER NOT NULL,
    capabilities      TEXT NOT NULL,
    invitation_id     TEXT REFERENCES invitation (id),
    valid_until       INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    spent_at          INTEGER,
    spent_by_key      TEXT,
    issued            TEXT
) STRICT;
CREATE UNIQUE INDEX challenge_by_digest ON challenge (digest);

CREATE TABLE push_certificate (
    topic            TEXT NOT NULL PRIMARY KEY,
    tenant           TEXT NOT NULL,
    record_id        TEXT NOT NULL,
    certificate_pem  BLOB NOT NULL,
    sealed_key       BLOB NOT NULL,
    not_before       INTEGER NOT NULL,
    not_after        INTEGER NOT NULL,
    imported_at      INTEGER NOT NULL,
    paused_since     INTEGER,
    paused_reason    TEXT
) STRICT;

-- Private keys made for a certificate request that has not come back yet.
CREATE TABLE pending_push_key (
    record_id   TEXT NOT NULL PRIMARY KEY,
    tenant      TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    sealed_key  BLOB NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX pending_push_key_by_public_key ON pending_push_key (tenant, public_key);

CREATE TABLE api_token (
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL,
    digest      BLOB NOT NULL,
    scopes      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_token_by_digest ON api_token (digest);

CREATE TABLE key_epoch (
    tenant       TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    wrapped      BLOB NOT NULL,
    check_value  BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
    tenant  TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert (
    tenant    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    sentence  TEXT NOT NULL,
    count     INTEGER NOT NULL,
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, subject, kind)
) STRICT, WITHOUT ROWID;

-- `hash` is SHA-256 over the hash before it and the canonical text of this entry.
CREATE TABLE audit (
    tenant  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    verb    TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason  TEXT NOT NULL,
    hash    BLOB NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;
