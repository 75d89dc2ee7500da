-- Times are milliseconds since the Unix epoch. Row numbers are never reused (AUTOINCREMENT), because public identifiers
-- contain them. A change of a table or an index after a release increments `VERSION` in schema.rs, and adds a file to
-- upgrades/ that makes the same change to a store of the version before.
--
-- Every row that a tenant owns has the number of its tenant. The number of a deleted tenant is never used again, so a new
-- tenant with the same id sees no old row.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,              -- chosen by the caller
    name       TEXT NOT NULL DEFAULT '',
    metadata   TEXT NOT NULL DEFAULT '{}', -- a JSON object of strings
    policy     TEXT NOT NULL DEFAULT '{}', -- JSON: quotas, limits, the signature profile; what is absent is inherited
    paused     INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER                     -- its rows are being deleted; then the row itself
) STRICT;
CREATE UNIQUE INDEX tenants_by_id ON tenants (id) WHERE deleted_at IS NULL;
CREATE INDEX tenants_deleted ON tenants (deleted_at) WHERE deleted_at IS NOT NULL;

-- The tenant of requests that name none.
INSERT INTO tenants (seq, id, name, created_at, updated_at) VALUES (1, 'default', 'default', 0, 0);

-- Only the SHA-256 of a key is stored.
CREATE TABLE api_keys (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    hash       BLOB NOT NULL,
    tenant_seq INTEGER,                    -- NULL: all tenants
    scopes     INTEGER NOT NULL,           -- a set of bits
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    used_on    INTEGER,                    -- the beginning of the day of the last use
    revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_seq);

-- Sessions of the portal of a tenant. Only the SHA-256 of the token is stored.
CREATE TABLE portal_sessions (
    hash         BLOB PRIMARY KEY,
    tenant_seq   INTEGER NOT NULL,
    session      TEXT,                     -- the caller's name of the session
    capabilities TEXT NOT NULL,            -- joined by one space
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX portal_sessions_by_tenant ON portal_sessions (tenant_seq, created_at, expires_at);
CREATE INDEX portal_sessions_expiry ON portal_sessions (expires_at);

-- The catalogue of event types, of all tenants. An event may have a type that is not in it.
CREATE TABLE event_types (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL DEFAULT '',
    schemas     TEXT,                      -- JSON
    group_name  TEXT,
    archived    INTEGER NOT NULL DEFAULT 0,
    deprecated  INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The row of a deleted endpoint with deliveries stays, so that they remain readable: with its URL, and without secrets
-- and settings.
CREATE TABLE endpoints (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq    INTEGER NOT NULL,
    uid           TEXT,                       -- chosen by the caller
    kind          TEXT NOT NULL DEFAULT 'http',
    url           TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    metadata      TEXT NOT NULL DEFAULT '{}', -- a JSON object of strings
    headers       TEXT NOT NULL DEFAULT '{}', -- a JSON object: also sent with each delivery
    patterns      TEXT NOT NULL,              -- of event types, joined by one space
    channels      TEXT NOT NULL DEFAULT '',   -- joined by one space; empty: all
    policy        TEXT NOT NULL DEFAULT '{}', -- JSON: the rate, the signature profile; what is absent is inherited
    enabled       INTEGER NOT NULL,           -- the setting of the endpoint's owner: if 0, its events are skipped
    paused        INTEGER NOT NULL DEFAULT 0, -- bits: 1 set by the owner, 2 by an operator; its events are owed, and wait
    secret        TEXT NOT NULL,
    old_secrets   TEXT NOT NULL DEFAULT '',   -- `until:secret`, joined by one space: deliveries are also signed with these
    generation    INTEGER NOT NULL DEFAULT 0, -- incremented when the URL, the secret or `enabled` is set
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    -- Whether relay has stopped its deliveries.
    held          INTEGER NOT NULL DEFAULT 0, -- 0 no, 1 the receiver is gone (skipped), 2 all attempts fail (owed)
    failures      INTEGER NOT NULL DEFAULT 0, -- failed attempts charged to the receiver since the last success
    failing_since INTEGER,                    -- when the first of them failed
    probe_at      INTEGER                     -- when a failing endpoint is probed next
) STRICT;
CREATE INDEX endpoints_by_tenant ON endpoints (tenant_seq, deleted_at);
CREATE INDEX endpoints_deleted ON endpoints (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE UNIQUE INDEX endpoints_by_uid ON endpoints (tenant_seq, uid) WHERE uid IS NOT NULL AND deleted_at IS NULL;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq INTEGER NOT NULL,
    uid        TEXT,                     -- chosen by the caller
    type       TEXT NOT NULL,
    channels   TEXT NOT NULL DEFAULT '', -- joined by one space
    tags       TEXT NOT NULL DEFAULT '', -- joined by one space
    keep_ms    INTEGER,                  -- how long the data is kept, if the event shortens it
    created_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL,         -- of the type, the data and created_at
    -- The last column: SQLite reads the other columns of a large event without the pages of its data.
    data       BLOB                      -- JSON, as it was sent; NULL once it was erased
) STRICT;
CREATE INDEX events_by_tenant ON events (tenant_seq);
CREATE UNIQUE INDEX events_by_uid ON events (tenant_seq, uid) WHERE uid IS NOT NULL;
-- When the data of an event ends that is kept for a shorter time than its tenant's.
CREATE INDEX events_by_keep ON events (created_at + keep_ms) WHERE keep_ms IS NOT NULL AND data IS NOT NULL;

-- The state of an event at an endpoint. The pending deliveries are also in `due`.
CREATE TABLE deliveries (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq   INTEGER NOT NULL,
    event_seq    INTEGER NOT NULL,
    endpoint_seq INTEGER NOT NULL,
    state        INTEGER NOT NULL,           -- 0 pending, 1 delivered, 2 dead, 3 skipped
    attempts     INTEGER NOT NULL,           -- without those charged to relay
    round        INTEGER NOT NULL,           -- number of times it was resent
    due_at       INTEGER,                    -- of its row in `due`; NULL if it is not pending
    last_attempt INTEGER,                    -- the number of its last row in `attempts`
    updated_at   INTEGER NOT NULL,
    reason       TEXT                        -- why it is dead or skipped
) STRICT;
CREATE INDEX deliveries_by_event ON deliveries (event_seq);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_seq);
CREATE INDEX deliveries_by_tenant ON deliveries (tenant_seq);
-- Most deliveries are delivered, so a list of delivered ones reads the indexes above. The other states have their own.
CREATE INDEX deliveries_pending ON deliveries (tenant_seq) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (endpoint_seq) WHERE state = 2;
CREATE INDEX deliveries_dead_all ON deliveries (tenant_seq) WHERE state = 2;
CREATE INDEX deliveries_skipped ON deliveries (endpoint_seq) WHERE state = 3;
CREATE INDEX deliveries_skipped_all ON deliveries (tenant_seq) WHERE state = 3;

-- The pending deliveries: the only table from which rows are deleted all the time. It can be made again from
-- `deliveries`.
CREATE TABLE due (
    endpoint_seq   INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    delivery_seq   INTEGER NOT NULL,
    event_seq      INTEGER NOT NULL,
    round          INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,           -- counted attempts since the delivery was created or last resent
    relay_attempts INTEGER NOT NULL DEFAULT 0, -- latest attempts in a row that are charged to relay
    relay_since    INTEGER,                    -- when the first of them was made
    is_replay      INTEGER NOT NULL DEFAULT 0, -- 1 if a replay made it due, until its next attempt is recorded
    PRIMARY KEY (endpoint_seq, due_at, delivery_seq)
) STRICT, WITHOUT ROWID;

-- Attempts in a row that are charged to relay share a row, so that a delivery has a bounded number of rows.
CREATE TABLE attempts (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq   INTEGER NOT NULL,
    endpoint_seq INTEGER NOT NULL,
    delivery_seq INTEGER NOT NULL,
    previous     INTEGER,          -- the attempt before it of the same delivery
    number       INTEGER NOT NULL, -- from 1
    is_manual    INTEGER NOT NULL, -- 1 if somebody asked for it: the first after a resend
    started_at   INTEGER NOT NULL, -- of the last attempt, like the columns below
    took_ms      INTEGER NOT NULL,
    status       INTEGER,          -- of the response, if there was one
    class        INTEGER,          -- cause of a failure: 1 receiver, 2 relay, 3 configuration
    error        TEXT,             -- if it failed
    response     TEXT,             -- beginning of the body, if it failed
    repeats      INTEGER NOT NULL  -- number of attempts that the row stands for
) STRICT;
CREATE INDEX attempts_by_endpoint ON attempts (endpoint_seq);

CREATE TABLE idempotency (
    tenant_seq INTEGER NOT NULL,
    key        TEXT NOT NULL,
    hash       BLOB NOT NULL, -- SHA-256 of the event: of its data in a canonical form
    event_seq  INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_seq, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
CREATE INDEX idempotency_by_event ON idempotency (event_seq);

-- The objects that requests with an idempotency key have created, apart from events.
CREATE TABLE once (
    tenant_seq INTEGER NOT NULL, -- 0: of no tenant
    kind       INTEGER NOT NULL, -- 1 tenant, 2 endpoint, 3 replay, 4 resend
    key        TEXT NOT NULL,
    object_seq INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_seq, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX once_expiry ON once (expires_at);

-- The counts of a minute, so that no page counts rows. Written in the commit of the counted rows.
CREATE TABLE rollups (
    minute       INTEGER NOT NULL, -- its beginning
    node         INTEGER NOT NULL, -- 0 in this store; the store of a cluster has a row per node
    tenant_seq   INTEGER NOT NULL,
    endpoint_seq INTEGER NOT NULL, -- 0: of the tenant's events
    accepted     INTEGER NOT NULL, -- events; only with endpoint 0
    ok           INTEGER NOT NULL, -- attempts that succeeded
    failed       INTEGER NOT NULL, -- attempts that failed, without those charged to relay
    dead         INTEGER NOT NULL, -- deliveries that became dead letters
    skipped      INTEGER NOT NULL, -- deliveries that were skipped
    took_ms      INTEGER NOT NULL, -- sum over the attempts that are counted above
    -- These attempts by their time: up to 10, 30, 100, 300, 1 000, 3 000, 10 000 ms, and longer.
    b0 INTEGER NOT NULL, b1 INTEGER NOT NULL, b2 INTEGER NOT NULL, b3 INTEGER NOT NULL,
    b4 INTEGER NOT NULL, b5 INTEGER NOT NULL, b6 INTEGER NOT NULL, b7 INTEGER NOT NULL,
    PRIMARY KEY (minute, node, tenant_seq, endpoint_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollups_by_endpoint ON rollups (tenant_seq, endpoint_seq, minute);

-- Jobs that send past events again.
CREATE TABLE replays (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq    INTEGER NOT NULL,
    endpoint_seq  INTEGER,                    -- NULL: all endpoints that the tenant had when the job was created
    mode          TEXT NOT NULL,              -- failed, skipped, missing, delivered, all
    filter        TEXT NOT NULL,              -- JSON: the conditions on the events, and the rate
    state         TEXT NOT NULL,              -- running, finished, cancelled, failed
    planned       INTEGER NOT NULL,           -- deliveries that were found when the job was created
    planned_more  INTEGER NOT NULL,           -- 1 if the count ended at its limit
    done          INTEGER NOT NULL DEFAULT 0, -- deliveries that the job has made or made due again
    skipped       INTEGER NOT NULL DEFAULT 0, -- candidates that had changed before their turn
    last_event    INTEGER NOT NULL,           -- the newest event and delivery when the job was created
    last_delivery INTEGER NOT NULL,
    requested_by  TEXT,                       -- the id of the API key
    error         TEXT,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    finished_at   INTEGER
) STRICT;
CREATE INDEX replays_by_tenant ON replays (tenant_seq);
CREATE INDEX replays_running ON replays (tenant_seq) WHERE state = 'running';

-- The progress of a job at each of its endpoints.
CREATE TABLE replay_parts (
    replay_seq   INTEGER NOT NULL,
    endpoint_seq INTEGER NOT NULL,
    planned      INTEGER NOT NULL,
    done         INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    cursor       INTEGER NOT NULL,           -- the last event or delivery that was looked at
    is_finished  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (replay_seq, endpoint_seq)
) STRICT, WITHOUT ROWID;

-- The changes that were made through the API and the commands, each written in the commit of its change.
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,              -- what made the change: a key, a session, a command, relay
    actor      TEXT NOT NULL,              -- its id
    tenant_seq INTEGER,                    -- NULL: of no tenant
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,              -- the public id of the changed object
    fields     TEXT NOT NULL DEFAULT '{}', -- a JSON object of the changed fields, without secrets
    address    TEXT,                       -- of the client
    request_id TEXT
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant_seq, seq);
CREATE INDEX audit_by_object ON audit (object, seq);

-- A row for each time that this store was restored from a backup. Rows with a number above `last_row`, and up to that of
-- the next restore, have public identifiers with this id of a store in place of the older one.
CREATE TABLE restores (
    last_row INTEGER PRIMARY KEY, -- the highest number of a row at that time, in any table
    store_id INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

-- How far retention has looked at the events of a tenant. The row of tenant 0 has the position of the deletions by size.
CREATE TABLE retention (
    tenant_seq   INTEGER PRIMARY KEY,
    data_upto    INTEGER NOT NULL DEFAULT 0, -- the last event whose data was looked at
    rows_upto    INTEGER NOT NULL DEFAULT 0, -- the last event whose rows were looked at
    deleted_upto INTEGER NOT NULL DEFAULT 0  -- the newest event that was deleted: a feed before it has a gap
) STRICT;

-- The events up to these positions that were due and still in use: retention looks at them again, in turns.
CREATE TABLE retained (
    kind       INTEGER NOT NULL, -- 1 the data is due, 2 the rows are
    tenant_seq INTEGER NOT NULL,
    event_seq  INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant_seq, event_seq)
) STRICT, WITHOUT ROWID;

-- Erasures that take many commits.
CREATE TABLE erasures (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq  INTEGER NOT NULL,
    kind        INTEGER NOT NULL,           -- 1 the data of all events with their uids, 2 without them, 3 a deleted tenant
    last_event  INTEGER NOT NULL,
    cursor      INTEGER NOT NULL DEFAULT 0, -- the last event that is erased
    events      INTEGER NOT NULL DEFAULT 0, -- number of events that are erased
    is_erased   INTEGER NOT NULL DEFAULT 0, -- 1 once the rows are erased: the files may still have copies
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX erasures_running ON erasures (seq) WHERE finished_at IS NULL;
