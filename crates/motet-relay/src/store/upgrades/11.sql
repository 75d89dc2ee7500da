-- From version 10 to version 11.

CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor      TEXT NOT NULL,
    tenant_seq INTEGER,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    fields     TEXT NOT NULL DEFAULT '{}',
    address    TEXT,
    request_id TEXT
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant_seq, seq);
CREATE INDEX audit_by_object ON audit (object, seq);

CREATE TABLE restores (
    last_row INTEGER PRIMARY KEY,
    store_id INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_keep ON events (created_at + keep_ms) WHERE keep_ms IS NOT NULL AND data IS NOT NULL;
CREATE INDEX endpoints_deleted ON endpoints (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX idempotency_by_event ON idempotency (event_seq);

CREATE TABLE retention (
    tenant_seq   INTEGER PRIMARY KEY,
    data_upto    INTEGER NOT NULL DEFAULT 0,
    rows_upto    INTEGER NOT NULL DEFAULT 0,
    deleted_upto INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE retained (
    kind       INTEGER NOT NULL,
    tenant_seq INTEGER NOT NULL,
    event_seq  INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant_seq, event_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE erasures (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_seq  INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    last_event  INTEGER NOT NULL,
    cursor      INTEGER NOT NULL DEFAULT 0,
    events      INTEGER NOT NULL DEFAULT 0,
    is_erased   INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX erasures_running ON erasures (seq) WHERE finished_at IS NULL;
