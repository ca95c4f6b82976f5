-- What retention takes goes oldest first, along an index that mostly holds nothing else. (docs/decisions/0016)
CREATE INDEX command_closed_cancelled ON command_closed (number) WHERE state = 'cancelled';
CREATE INDEX challenge_by_end ON challenge (valid_until);
CREATE INDEX challenge_of_invitation ON challenge (invitation_id) WHERE invitation_id IS NOT NULL;
CREATE INDEX invitation_by_end ON invitation (valid_until);
CREATE INDEX credential_by_end ON credential (not_after);
-- How many renewals an enrollment asked for lately: a device may ask whenever it likes.
CREATE INDEX credential_of_enrollment ON credential (bound_enrollment, issued_at) WHERE bound_enrollment IS NOT NULL;
CREATE INDEX binding_superseded ON binding (not_after) WHERE superseded_at IS NOT NULL;
CREATE INDEX alert_by_last ON alert (last_at);
CREATE INDEX enrollment_ended ON enrollment (key) WHERE standing = 'ended';
CREATE INDEX enrollment_push_dead ON enrollment (tenant, key) WHERE push_dead_since IS NOT NULL;

-- Where walks through large tables go on, and until when a node has them to itself.
CREATE TABLE retention_place (
    name                   text COLLATE "C" NOT NULL PRIMARY KEY,
    place                  text NOT NULL,
    until                  timestamptz NOT NULL
);

-- Histories that grew since a worker last looked at them, and by which generations: it looks for values that came
-- back, and for a device that changes its tokens without end. The first generation of a history is no news; push tokens
-- are looked at sixteen at a time, for they change often and unlock nothing.
CREATE TABLE token_review (
    tenant                 text COLLATE "C" NOT NULL,
    holder                 text COLLATE "C" NOT NULL,
    kind                   text COLLATE "C" NOT NULL,
    first_generation       integer NOT NULL,
    last_generation        integer NOT NULL,
    PRIMARY KEY (tenant, holder, kind)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- How many there are, kept as appended deltas that a worker folds: the sum of the rows of one kind and state. A row
-- that every device's message added to would serialise them.
CREATE TABLE token_count (
    kind                   text COLLATE "C" NOT NULL,
    state                  text COLLATE "C" NOT NULL,
    number                 bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE TABLE enrollment_count (
    type                   text COLLATE "C" NOT NULL,
    state                  text COLLATE "C" NOT NULL,
    number                 bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE FUNCTION ostiary_token_appended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO token_count (kind, state, number) VALUES (NEW.kind, NEW.state, 1);
    IF NEW.generation > 1 AND NEW.kind IN ('unlock', 'bootstrap') THEN
        INSERT INTO token_review (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation, NEW.generation)
            ON CONFLICT (tenant, holder, kind) DO UPDATE SET last_generation = excluded.last_generation;
    ELSIF NEW.kind = 'push' AND NEW.generation % 16 = 0 THEN
        INSERT INTO token_review (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation - 15, NEW.generation)
            ON CONFLICT (tenant, holder, kind) DO UPDATE SET last_generation = excluded.last_generation;
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION ostiary_token_stepped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO token_count (kind, state, number)
        VALUES (OLD.kind, OLD.state, -1), (NEW.kind, NEW.state, 1);
    RETURN NULL;
END
$$;
CREATE FUNCTION ostiary_tokens_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO token_count (kind, state, number)
        SELECT kind, state, -count(*) FROM gone GROUP BY kind, state;
    RETURN NULL;
END
$$;
CREATE FUNCTION ostiary_enrollment_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO enrollment_count (type, state, number) VALUES (NEW.type, NEW.state, 1);
    RETURN NULL;
END
$$;
CREATE FUNCTION ostiary_enrollment_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO enrollment_count (type, state, number)
        VALUES (OLD.type, OLD.state, -1), (NEW.type, NEW.state, 1);
    RETURN NULL;
END
$$;
CREATE FUNCTION ostiary_enrollments_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO enrollment_count (type, state, number)
        SELECT type, state, -count(*) FROM gone GROUP BY type, state;
    RETURN NULL;
END
$$;

-- A trigger locks its table against writers until this step is over, so that nothing is missed or counted twice.
CREATE TRIGGER token_appended AFTER INSERT ON token
    FOR EACH ROW EXECUTE FUNCTION ostiary_token_appended();
CREATE TRIGGER token_stepped AFTER UPDATE OF state ON token
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION ostiary_token_stepped();
CREATE TRIGGER token_dropped AFTER DELETE ON token REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION ostiary_tokens_dropped();
CREATE TRIGGER enrollment_added AFTER INSERT ON enrollment
    FOR EACH ROW EXECUTE FUNCTION ostiary_enrollment_added();
CREATE TRIGGER enrollment_moved AFTER UPDATE OF type, state ON enrollment
    FOR EACH ROW WHEN (OLD.type <> NEW.type OR OLD.state <> NEW.state)
    EXECUTE FUNCTION ostiary_enrollment_moved();
CREATE TRIGGER enrollment_dropped AFTER DELETE ON enrollment REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION ostiary_enrollments_dropped();
INSERT INTO token_count (kind, state, number)
    SELECT kind, state, count(*) FROM token GROUP BY kind, state;
INSERT INTO enrollment_count (type, state, number)
    SELECT type, state, count(*) FROM enrollment GROUP BY type, state;
