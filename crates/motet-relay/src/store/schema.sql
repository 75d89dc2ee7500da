-- Times are milliseconds since the Unix epoch. Row numbers are never used twice (AUTOINCREMENT): public
-- identifiers are made of them. A change of this file counts `VERSION` in schema.rs up.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Only the SHA-256 of a key is kept.
CREATE TABLE api_keys (
    hash       BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deleted endpoints stay as rows: their deliveries remain readable.
CREATE TABLE endpoints (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    url           TEXT NOT NULL,
    patterns      TEXT NOT NULL,              -- joined by one space
    enabled       INTEGER NOT NULL,           -- what the endpoint's owner wants
    secret        TEXT NOT NULL,
    old_secrets   TEXT NOT NULL DEFAULT '',   -- `until:secret`, joined by one space: deliveries are signed with these as well
    generation    INTEGER NOT NULL DEFAULT 0, -- counted up when the URL, the secret or `enabled` is set
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    -- Endpoints that relay itself stops attempting.
    held          INTEGER NOT NULL DEFAULT 0, -- 0 no, 1 its receiver is gone, 2 it only fails
    failures      INTEGER NOT NULL DEFAULT 0, -- attempts charged to the receiver since the last one that succeeded
    failing_since INTEGER,                    -- the first of them
    probe_at      INTEGER                     -- when one that only fails is tried again
) STRICT;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    type       TEXT NOT NULL,
    data       BLOB NOT NULL,   -- JSON, as it was sent
    created_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL -- of the columns above
) STRICT;

CREATE TABLE deliveries (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    event_seq      INTEGER NOT NULL,
    endpoint_seq   INTEGER NOT NULL,
    state          INTEGER NOT NULL,           -- 0 pending, 1 delivered, 2 dead
    attempts       INTEGER NOT NULL,           -- all that count: those charged to relay do not
    round          INTEGER NOT NULL,           -- how often it was resent
    round_attempts INTEGER NOT NULL,           -- those that count since the delivery was made or last resent
    relay_attempts INTEGER NOT NULL DEFAULT 0, -- the latest ones in a row that are charged to relay
    relay_since    INTEGER,                    -- when the first of these was made
    due_at         INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    dead_reason    TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (endpoint_seq, due_at) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (endpoint_seq) WHERE state = 2;
CREATE INDEX deliveries_dead_all ON deliveries (state) WHERE state = 2;
CREATE INDEX deliveries_by_event ON deliveries (event_seq);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_seq);

-- Attempts in a row that are charged to relay share a row, so that a delivery has a bounded number of rows.
CREATE TABLE attempts (
    delivery_seq INTEGER NOT NULL,
    number       INTEGER NOT NULL, -- from 1
    started_at   INTEGER NOT NULL, -- of the last one, as all that follows
    took_ms      INTEGER NOT NULL,
    status       INTEGER,          -- the receiver's, if it answered
    class        INTEGER,          -- what a failure is charged to: 1 the receiver, 2 relay, 3 the configuration
    error        TEXT,             -- why it failed, if it did
    response     TEXT,             -- the beginning of a failure's body
    repeats      INTEGER NOT NULL, -- how many attempts the row stands for
    PRIMARY KEY (delivery_seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key        TEXT PRIMARY KEY,
    hash       BLOB NOT NULL, -- SHA-256 of the event's type and data
    event_seq  INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
