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
DROP INDEX enrollment_push_dead;
CREATE INDEX enrollment_push_dead ON enrollment (tenant, key) WHERE push_dead_since IS NOT NULL;

-- Where walks through large tables go on, and until when a node has them to itself.
CREATE TABLE retention_place (
    name   TEXT NOT NULL PRIMARY KEY,
    place  TEXT NOT NULL,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Histories that grew since a worker last looked at them, and by which generations: it looks for values that came
-- back, and for a device that changes its tokens without end. The first generation of a history is no news; push tokens
-- are looked at sixteen at a time, for they change often and unlock nothing.
CREATE TABLE token_review (
    tenant            TEXT NOT NULL,
    holder            TEXT NOT NULL,
    kind              TEXT NOT NULL,
    first_generation  INTEGER NOT NULL,
    last_generation   INTEGER NOT NULL,
    PRIMARY KEY (tenant, holder, kind)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER token_grown AFTER INSERT ON token
 WHEN new.kind IN ('unlock', 'bootstrap') AND new.generation > 1
   OR new.kind = 'push' AND new.generation % 16 = 0 BEGIN
    INSERT INTO token_review (tenant, holder, kind, first_generation, last_generation)
        VALUES (new.tenant, new.holder, new.kind,
                new.generation - CASE new.kind WHEN 'push' THEN 15 ELSE 0 END, new.generation)
        ON CONFLICT (tenant, holder, kind) DO UPDATE SET last_generation = excluded.last_generation;
END;

-- Kept, not counted: see token_count.
CREATE TRIGGER token_dropped AFTER DELETE ON token BEGIN
    UPDATE token_count SET number = number - 1 WHERE kind = old.kind AND state = old.state;
END;
CREATE TABLE enrollment_count (
    type    TEXT NOT NULL,
    state   TEXT NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (type, state)
) STRICT, WITHOUT ROWID;
INSERT INTO enrollment_count (type, state, number)
    SELECT type, state, count(*) FROM enrollment GROUP BY type, state;
CREATE TRIGGER enrollment_added AFTER INSERT ON enrollment BEGIN
    INSERT INTO enrollment_count (type, state, number) VALUES (new.type, new.state, 1)
        ON CONFLICT (type, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER enrollment_moved AFTER UPDATE OF type, state ON enrollment
 WHEN old.type <> new.type OR old.state <> new.state BEGIN
    UPDATE enrollment_count SET number = number - 1 WHERE type = old.type AND state = old.state;
    INSERT INTO enrollment_count (type, state, number) VALUES (new.type, new.state, 1)
        ON CONFLICT (type, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER enrollment_dropped AFTER DELETE ON enrollment BEGIN
    UPDATE enrollment_count SET number = number - 1 WHERE type = old.type AND state = old.state;
END;
