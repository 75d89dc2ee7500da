-- Times are milliseconds since the Unix epoch. Row numbers are never reused (AUTOINCREMENT), because public identifiers
-- contain them. A change of a table or an index must increment `VERSION` in schema.rs.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Only the SHA-256 of a key is stored.
CREATE TABLE api_keys (
    hash       BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The row of a deleted endpoint stays, so that its deliveries remain readable.
CREATE TABLE endpoints (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    url           TEXT NOT NULL,
    patterns      TEXT NOT NULL,              -- joined by one space
    enabled       INTEGER NOT NULL,           -- the setting of the endpoint's owner
    secret        TEXT NOT NULL,
    old_secrets   TEXT NOT NULL DEFAULT '',   -- `until:secret`, joined by one space: deliveries are also signed with these
    generation    INTEGER NOT NULL DEFAULT 0, -- incremented when the URL, the secret or `enabled` is set
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    -- Whether relay has disabled the endpoint.
    held          INTEGER NOT NULL DEFAULT 0, -- 0 no, 1 the receiver is gone, 2 all attempts fail
    failures      INTEGER NOT NULL DEFAULT 0, -- failed attempts charged to the receiver since the last success
    failing_since INTEGER,                    -- when the first of them failed
    probe_at      INTEGER                     -- when a failing endpoint is probed next
) STRICT;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    type       TEXT NOT NULL,
    data       BLOB NOT NULL,   -- JSON, as it was sent
    created_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL -- of the type, the data and created_at
) STRICT;

CREATE TABLE deliveries (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    event_seq      INTEGER NOT NULL,
    endpoint_seq   INTEGER NOT NULL,
    state          INTEGER NOT NULL,           -- 0 pending, 1 delivered, 2 dead
    attempts       INTEGER NOT NULL,           -- without those charged to relay
    round          INTEGER NOT NULL,           -- number of times it was resent
    round_attempts INTEGER NOT NULL,           -- counted attempts since the delivery was created or last resent
    relay_attempts INTEGER NOT NULL DEFAULT 0, -- latest attempts in a row that are charged to relay
    relay_since    INTEGER,                    -- when the first of them was made
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
    started_at   INTEGER NOT NULL, -- of the last attempt, like the columns below
    took_ms      INTEGER NOT NULL,
    status       INTEGER,          -- of the response, if there was one
    class        INTEGER,          -- cause of a failure: 1 receiver, 2 relay, 3 configuration
    error        TEXT,             -- if it failed
    response     TEXT,             -- beginning of the body, if it failed
    repeats      INTEGER NOT NULL, -- number of attempts that the row stands for
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
