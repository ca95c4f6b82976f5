-- Notes are appended instead of gathered in a row for each history: whoever brought a new secret searched for that row,
-- and waited for a worker that held it. Whoever reads the notes gathers them. The old table stays, empty: nodes of the
-- version before still look into it, and would take notes that they have not seen for those that they have. A later
-- step drops it.
CREATE TABLE token_note (
    number                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    holder                 text COLLATE "C" NOT NULL,
    kind                   text COLLATE "C" NOT NULL,
    first_generation       integer NOT NULL,
    last_generation        integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- Whoever is about to note something in the old table is waited for.
LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE;
CREATE OR REPLACE FUNCTION ostiary_token_appended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO token_count (kind, state, number) VALUES (NEW.kind, NEW.state, 1);
    IF NEW.generation > 1 AND NEW.kind IN ('unlock', 'bootstrap') THEN
        INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation, NEW.generation);
    ELSIF NEW.kind = 'push' AND NEW.generation % 16 = 0 THEN
        INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation - 15, NEW.generation);
    END IF;
    RETURN NULL;
END
$$;
INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
    SELECT tenant, holder, kind, first_generation, last_generation FROM token_review;
DELETE FROM token_review;
