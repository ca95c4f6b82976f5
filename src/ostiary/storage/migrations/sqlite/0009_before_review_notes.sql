-- Notes are appended instead of gathered in a row for each history: a row anywhere in the table cost each message that
-- brings a new secret a page of its own. Whoever reads the notes gathers them. The old table stays, empty, as on
-- PostgreSQL, where nodes of the version before still look into it; a later step drops it.
CREATE TABLE token_note (
    number            INTEGER NOT NULL PRIMARY KEY,
    tenant            TEXT NOT NULL,
    holder            TEXT NOT NULL,
    kind              TEXT NOT NULL,
    first_generation  INTEGER NOT NULL,
    last_generation   INTEGER NOT NULL
) STRICT;
INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
    SELECT tenant, holder, kind, first_generation, last_generation FROM token_review;
DELETE FROM token_review;
DROP TRIGGER token_grown;
CREATE TRIGGER token_grown AFTER INSERT ON token
 WHEN new.kind IN ('unlock', 'bootstrap') AND new.generation > 1
   OR new.kind = 'push' AND new.generation % 16 = 0 BEGIN
    INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
        VALUES (new.tenant, new.holder, new.kind,
                new.generation - CASE new.kind WHEN 'push' THEN 15 ELSE 0 END, new.generation);
END;
