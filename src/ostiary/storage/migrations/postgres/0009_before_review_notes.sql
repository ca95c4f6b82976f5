-- Notes are appended instead of gathered in a row for each history: whoever brought a new secret searched for that row,
-- and waited for a worker that held it. Whoever reads the notes gathers them.
ALTER TABLE token_review DROP CONSTRAINT token_review_pkey;
ALTER TABLE token_review ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;

CREATE OR REPLACE FUNCTION ostiary_token_appended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO token_count (kind, state, number) VALUES (NEW.kind, NEW.state, 1);
    IF NEW.generation > 1 AND NEW.kind IN ('unlock', 'bootstrap') THEN
        INSERT INTO token_review (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation, NEW.generation);
    ELSIF NEW.kind = 'push' AND NEW.generation % 16 = 0 THEN
        INSERT INTO token_review (tenant, holder, kind, first_generation, last_generation)
            VALUES (NEW.tenant, NEW.holder, NEW.kind, NEW.generation - 15, NEW.generation);
    END IF;
    RETURN NULL;
END
$$;
