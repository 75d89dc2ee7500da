-- Times are milliseconds since the Unix epoch. Row numbers are never used twice (AUTOINCREMENT): public
-- identifiers are made of them.

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
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    url        TEXT NOT NULL,
    patterns   TEXT NOT NULL, -- joined by one space
    enabled    INTEGER NOT NULL,
    secret     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    type       TEXT NOT NULL,
    data       BLOB NOT NULL, -- JSON, as it was sent
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    event_seq      INTEGER NOT NULL,
    endpoint_seq   INTEGER NOT NULL,
    state          INTEGER NOT NULL, -- 0 pending, 1 delivered, 2 dead
    attempts       INTEGER NOT NULL, -- all of them
    round          INTEGER NOT NULL, -- how often it was resent
    round_attempts INTEGER NOT NULL, -- those since the delivery was made or last resent
    due_at         INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    dead_reason    TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (endpoint_seq, due_at) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (endpoint_seq) WHERE state = 2;
CREATE INDEX deliveries_dead_all ON deliveries (state) WHERE state = 2;
CREATE INDEX deliveries_by_event ON deliveries (event_seq);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_seq);

CREATE TABLE attempts (
    delivery_seq INTEGER NOT NULL,
    number       INTEGER NOT NULL, -- from 1
    started_at   INTEGER NOT NULL,
    took_ms      INTEGER NOT NULL,
    status       INTEGER,          -- the receiver's, if it answered
    error        TEXT,             -- why it failed, if it did
    response     TEXT,             -- the beginning of a failure's body
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
