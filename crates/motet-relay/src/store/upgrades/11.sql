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
