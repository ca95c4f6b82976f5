-- Text that is compared or sorted is collated "C": as bytes, the same on every server. U+0000, which text here cannot
-- hold, is written in an escaped form by storage/postgres/text.py.
--
-- `turn` counts every decision on a row, also those that only touch its queue: a write is made only on the turn that
-- the decision was shown. Rows have room to be updated in their own page, and tables that fill and empty by the hour are
-- vacuumed early.

CREATE TABLE enrollment (
    key                    text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    id                     text COLLATE "C" NOT NULL,
    type                   text COLLATE "C" NOT NULL,
    parent_key             text COLLATE "C" REFERENCES enrollment (key),
    state                  text COLLATE "C" NOT NULL,
    standing               text COLLATE "C" NOT NULL,
    topic                  text COLLATE "C" NOT NULL,
    proof                  text NOT NULL,
    serial_number          text,
    device_name            text,
    model                  text,
    model_name             text,
    product_name           text,
    os_version             text,
    build_version          text,
    created_at             timestamptz NOT NULL,
    authenticated_at       timestamptz NOT NULL,
    enrolled_at            timestamptz,
    last_seen_at           timestamptz,
    released_at            timestamptz,
    contested_at           timestamptz,
    push_record            text COLLATE "C",
    push_digest            bytea,
    push_received_at       timestamptz,
    push_arrived_at        timestamptz,
    push_dead_since        timestamptz,
    push_dead_reason       text,
    pushed_at              timestamptz,
    unlock_record          text COLLATE "C",
    unlock_digest          bytea,
    unlock_received_at     timestamptz,
    unlock_arrived_at      timestamptz,
    bootstrap_record       text COLLATE "C",
    bootstrap_digest       bytea,
    bootstrap_received_at  timestamptz,
    bootstrap_arrived_at   timestamptz,
    awaiting               boolean NOT NULL,
    not_on_console         boolean,
    user_short_name        text,
    user_long_name         text,
    access_rights          integer,
    capabilities           text,
    has_session            boolean NOT NULL,
    session_nonce          text,
    session_token          bytea,
    renewing_fingerprint   text,
    accepted_fingerprint   text,
    token_updates          integer NOT NULL,
    version                bigint NOT NULL,
    turn                   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX enrollment_current ON enrollment (tenant, id) WHERE standing = 'current' AND parent_key IS NULL;
CREATE UNIQUE INDEX enrollment_user ON enrollment (parent_key, id) WHERE parent_key IS NOT NULL;
CREATE INDEX enrollment_by_id ON enrollment (tenant, id, key);
CREATE INDEX enrollment_figures ON enrollment (tenant, type, state, topic);

CREATE TABLE binding (
    fingerprint            text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    enrollment_key         text COLLATE "C" NOT NULL REFERENCES enrollment (key),
    proof                  text NOT NULL,
    bound_at               timestamptz NOT NULL,
    not_after              timestamptz NOT NULL,
    superseded_at          timestamptz
);
CREATE INDEX binding_by_enrollment ON binding (enrollment_key);

-- The ledger: a row is appended once; its state moves, its value never does.
CREATE TABLE token (
    id                     text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    holder                 text COLLATE "C" NOT NULL,
    kind                   text COLLATE "C" NOT NULL,
    generation             integer NOT NULL,
    digest                 bytea NOT NULL,
    size                   integer NOT NULL,
    state                  text COLLATE "C" NOT NULL,
    cause                  text NOT NULL,
    source                 text NOT NULL,
    fingerprint            text COLLATE "C",
    relationship           text COLLATE "C",
    received_at            timestamptz NOT NULL,
    changed_at             timestamptz NOT NULL,
    expires_at             timestamptz,
    proven_at              timestamptz,
    proven_by              text,
    value                  bytea NOT NULL
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX token_generation ON token (tenant, holder, kind, generation);
-- The kinds that devices bring are found anywhere in the ledger; only the others need an index to be listed. No index
-- names the state, so that a step to another state stays in its page.
CREATE INDEX token_rare_kind ON token (tenant, kind, id)
 WHERE kind <> 'push' AND kind <> 'unlock' AND kind <> 'bootstrap' AND kind <> 'identity';
CREATE INDEX token_identity ON token (fingerprint) WHERE kind = 'identity';

-- Live commands only; `sequence` never comes back, so that a place in the queue is told by it for ever. Enrollment rows
-- are never deleted, and who writes here proves that its row exists: a foreign key would lock it a second time.
CREATE TABLE command (
    sequence               bigint GENERATED ALWAYS AS IDENTITY,
    uuid                   text COLLATE "C" NOT NULL,
    enrollment_key         text COLLATE "C" NOT NULL,
    request_type           text NOT NULL,
    priority               integer NOT NULL,
    reference              text,
    state                  text COLLATE "C" NOT NULL CHECK (state IN ('queued', 'sent', 'deferred')),
    queued_at              timestamptz NOT NULL,
    source                 text NOT NULL,
    sent_at                timestamptz,
    hand_outs              integer NOT NULL,
    payload                bytea NOT NULL,
    PRIMARY KEY (enrollment_key, uuid)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX command_by_turn ON command (enrollment_key, (state <> 'sent'), priority, sequence);
CREATE INDEX command_deferred ON command (enrollment_key) WHERE state = 'deferred';

-- `number` grows in order of closing within a channel.
CREATE TABLE command_closed (
    number                 bigint GENERATED ALWAYS AS IDENTITY,
    uuid                   text COLLATE "C" NOT NULL,
    enrollment_key         text COLLATE "C" NOT NULL,
    request_type           text NOT NULL,
    state                  text COLLATE "C" NOT NULL CHECK (state IN ('done', 'failed', 'cancelled')),
    queued_at              timestamptz NOT NULL,
    closed_at              timestamptz NOT NULL,
    source                 text NOT NULL,
    hand_outs              integer NOT NULL,
    result                 text NOT NULL,
    PRIMARY KEY (enrollment_key, uuid)
);
CREATE INDEX command_closed_by_number ON command_closed (number);

-- `claimed` is true from a claim until the wake is settled or written anew.
CREATE TABLE wake (
    enrollment_key         text COLLATE "C" NOT NULL PRIMARY KEY,
    due_at                 timestamptz NOT NULL,
    attempt                integer NOT NULL,
    failures               integer NOT NULL,
    claimed                boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX wake_due ON wake (due_at);

CREATE TABLE credential (
    fingerprint            text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    purpose                text NOT NULL,
    bound_serial           text,
    bound_enrollment       text,
    bound_user             text,
    access_rights          integer,
    capabilities           text,
    issued_at              timestamptz NOT NULL,
    not_after              timestamptz NOT NULL,
    challenge_id           text NOT NULL,
    certificate            bytea NOT NULL
);

CREATE TABLE invitation (
    id                     text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    code                   bytea NOT NULL,
    bound_serial           text,
    bound_enrollment       text,
    bound_user             text,
    valid_until            timestamptz NOT NULL,
    uses_left              integer NOT NULL CHECK (uses_left >= 0),
    created_at             timestamptz NOT NULL,
    created_by             text NOT NULL
);
CREATE UNIQUE INDEX invitation_by_code ON invitation (code);

CREATE TABLE challenge (
    id                     text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    digest                 bytea NOT NULL,
    purpose                text NOT NULL,
    bound_serial           text,
    bound_enrollment       text,
    bound_user             text,
    access_rights          integer NOT NULL,
    capabilities           text NOT NULL,
    invitation_id          text COLLATE "C" REFERENCES invitation (id),
    valid_until            timestamptz NOT NULL,
    created_at             timestamptz NOT NULL,
    spent_at               timestamptz,
    spent_by_key           text,
    issued                 text COLLATE "C"
);
CREATE UNIQUE INDEX challenge_by_digest ON challenge (digest);

CREATE TABLE push_certificate (
    topic                  text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    record_id              text COLLATE "C" NOT NULL,
    certificate_pem        bytea NOT NULL,
    sealed_key             bytea NOT NULL,
    not_before             timestamptz NOT NULL,
    not_after              timestamptz NOT NULL,
    imported_at            timestamptz NOT NULL,
    paused_since           timestamptz,
    paused_reason          text
);

-- Private keys made for a certificate request that has not come back yet.
CREATE TABLE pending_push_key (
    record_id              text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    public_key             text COLLATE "C" NOT NULL,
    sealed_key             bytea NOT NULL,
    created_at             timestamptz NOT NULL
);
CREATE UNIQUE INDEX pending_push_key_by_public_key ON pending_push_key (tenant, public_key);

CREATE TABLE api_token (
    tenant                 text COLLATE "C" NOT NULL,
    name                   text COLLATE "C" NOT NULL,
    digest                 bytea NOT NULL,
    scopes                 text NOT NULL,
    created_at             timestamptz NOT NULL,
    expires_at             timestamptz,
    PRIMARY KEY (tenant, name)
);
CREATE UNIQUE INDEX api_token_by_digest ON api_token (digest);

CREATE TABLE key_epoch (
    tenant                 text COLLATE "C" NOT NULL,
    epoch                  integer NOT NULL,
    wrapped                bytea NOT NULL,
    check_value            bytea NOT NULL,
    created_at             timestamptz NOT NULL,
    PRIMARY KEY (tenant, epoch)
);

CREATE TABLE policy (
    tenant                 text COLLATE "C" NOT NULL,
    name                   text COLLATE "C" NOT NULL,
    value                  text NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE alert (
    tenant                 text COLLATE "C" NOT NULL,
    subject                text COLLATE "C" NOT NULL,
    kind                   text COLLATE "C" NOT NULL,
    sentence               text NOT NULL,
    count                  bigint NOT NULL,
    first_at               timestamptz NOT NULL,
    last_at                timestamptz NOT NULL,
    PRIMARY KEY (tenant, subject, kind)
);

-- `hash` is SHA-256 over the hash before it and the canonical text of this entry.
CREATE TABLE audit (
    tenant                 text COLLATE "C" NOT NULL,
    number                 bigint NOT NULL,
    at                     timestamptz NOT NULL,
    actor                  text NOT NULL,
    verb                   text NOT NULL,
    subject                text COLLATE "C" NOT NULL,
    reason                 text NOT NULL,
    hash                   bytea NOT NULL,
    PRIMARY KEY (tenant, number)
);

-- Called by a write of several parts, one of which found nothing to write to: takes all of it back.
CREATE FUNCTION ostiary_misfit() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the change does not fit' USING ERRCODE = 'OS001';
END
$$;
