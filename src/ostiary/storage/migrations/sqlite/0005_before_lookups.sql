-- How many destructive commands the last hour saw, whatever else was audited in it.
CREATE INDEX audit_by_time ON audit (tenant, at, verb);

-- The unused challenges that were made for one device; a new one, or the device's release, ends them.
CREATE INDEX challenge_of_serial ON challenge (bound_serial)
 WHERE bound_serial IS NOT NULL AND invitation_id IS NULL AND spent_at IS NULL;
CREATE INDEX challenge_of_enrollment ON challenge (bound_enrollment)
 WHERE bound_enrollment IS NOT NULL AND invitation_id IS NULL AND spent_at IS NULL;
