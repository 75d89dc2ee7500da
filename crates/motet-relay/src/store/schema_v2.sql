-- Endpoints that relay itself stops attempting. `enabled` stays what the endpoint's owner wants.
ALTER TABLE endpoints ADD COLUMN held INTEGER NOT NULL DEFAULT 0; -- 0 no, 1 its receiver is gone, 2 it only fails
ALTER TABLE endpoints ADD COLUMN failures INTEGER NOT NULL DEFAULT 0; -- attempts since the last that succeeded
ALTER TABLE endpoints ADD COLUMN failing_since INTEGER; -- the first of them
ALTER TABLE endpoints ADD COLUMN probe_at INTEGER; -- when one that only fails is tried again
