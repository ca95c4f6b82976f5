-- How often running a device was asked whether it holds a value and said neither yes nor no. Null: never.
ALTER TABLE escrow ADD COLUMN unclear INTEGER;
