-- Whether a relationship once waited in Setup Assistant: what the device held before is dead, also once it was released. Null: no.
ALTER TABLE enrollment ADD COLUMN came_erased INTEGER;
