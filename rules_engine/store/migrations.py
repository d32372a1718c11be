"""The schema's history: numbered, forward only, each in a transaction; `PRAGMA user_version` says how far a file has come.

A migration that was released is never edited: a file may stop at any of them. `tables.py` describes the sum; a test compares the
two.
"""

from __future__ import annotations

APPLICATION_ID = 0x43414D50  # "CAMP": tells a Camp database from any other SQLite file

_FIRST = """
CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE program (
    number INTEGER NOT NULL PRIMARY KEY, digest TEXT NOT NULL UNIQUE, sources BLOB NOT NULL, applied_at INTEGER NOT NULL);

CREATE TABLE contact (
    id TEXT NOT NULL PRIMARY KEY, state BLOB NOT NULL, wake_at INTEGER, program INTEGER NOT NULL REFERENCES program (number),
    updated INTEGER NOT NULL);
CREATE INDEX contact_wake ON contact (wake_at, id) WHERE wake_at IS NOT NULL;

CREATE TABLE event (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, event_id TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, contact TEXT NOT NULL, at INTEGER NOT NULL, received INTEGER NOT NULL, subject TEXT, data BLOB,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL, reason TEXT, UNIQUE (source, event_id));
CREATE INDEX event_new ON event (at) WHERE status = 0;
CREATE INDEX event_set_aside ON event (seq) WHERE status = 2;
CREATE INDEX event_contact ON event (contact);

CREATE TABLE decision (
    seq INTEGER NOT NULL PRIMARY KEY, contact TEXT NOT NULL, at INTEGER NOT NULL, campaign TEXT, rule TEXT, key TEXT,
    step TEXT,
    kind TEXT NOT NULL, action TEXT, outcome TEXT, reason TEXT NOT NULL, cause TEXT NOT NULL, detail BLOB NOT NULL);
CREATE INDEX decision_contact ON decision (contact);

CREATE TABLE effect (
    seq INTEGER NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE, contact TEXT NOT NULL, action TEXT NOT NULL,
    payload BLOB NOT NULL, ruleset TEXT NOT NULL, step TEXT NOT NULL, key TEXT, channel TEXT, message_class TEXT NOT NULL,
    at INTEGER NOT NULL, expires INTEGER,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_at INTEGER, provider_id TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '', claimed_at INTEGER, first_claimed_at INTEGER, settled_at INTEGER);
CREATE INDEX effect_state ON effect (state, next_at);
CREATE INDEX effect_contact ON effect (contact);
"""

_ATTEMPTS = """
CREATE TABLE attempt (
    seq INTEGER NOT NULL PRIMARY KEY, effect TEXT NOT NULL, number INTEGER NOT NULL, claimed_at INTEGER NOT NULL,
    settled_at INTEGER NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX attempt_effect ON attempt (effect);
"""

_SERVICE = """
ALTER TABLE effect ADD COLUMN instance TEXT NOT NULL DEFAULT '';
ALTER TABLE effect ADD COLUMN exempt TEXT NOT NULL DEFAULT '';
ALTER TABLE effect ADD COLUMN handle TEXT NOT NULL DEFAULT '';
CREATE INDEX effect_handle ON effect (handle) WHERE handle != '';
CREATE INDEX effect_provider ON effect (provider_id) WHERE provider_id != '';
CREATE INDEX effect_due ON effect (state, action, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE pause (
    campaign TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE throttle (
    name TEXT NOT NULL, slot INTEGER NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (name, slot)) WITHOUT ROWID;

CREATE TABLE audit (
    seq INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
"""

_ADDRESSES = """
CREATE TABLE address (
    kind TEXT NOT NULL, address TEXT NOT NULL, contact TEXT NOT NULL, PRIMARY KEY (kind, address)) WITHOUT ROWID;
CREATE INDEX address_contact ON address (contact);
INSERT OR IGNORE INTO address SELECT 'email', lower(trim(json_extract(CAST(state AS TEXT), '$.a.email'))), id FROM contact
    WHERE instr(json_extract(CAST(state AS TEXT), '$.a.email'), '@') > 0;
INSERT OR IGNORE INTO address SELECT 'phone', replace(replace(replace(replace(replace(
    json_extract(CAST(state AS TEXT), '$.a.phone'), '+', ''), ' ', ''), '-', ''), '(', ''), ')', ''), id FROM contact
    WHERE json_extract(CAST(state AS TEXT), '$.a.phone') != '';
"""

# instance: tells a database from any other, so that a send journal is never read beside the wrong one. secret: the key of the hashes
# that an erasure leaves. Drawn by SQLite, from the system's source.
_OPERATING = """
CREATE TABLE forgotten (mark TEXT NOT NULL PRIMARY KEY, channel TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE sent (mark TEXT NOT NULL PRIMARY KEY, attempt INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('instance', lower(hex(randomblob(16)))), ('secret', lower(hex(randomblob(32))));
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _ATTEMPTS, _SERVICE, _ADDRESSES, _OPERATING)
"""Number n of the schema is reached by running MIGRATIONS[n - 1]."""


def statements(script: str) -> list[str]:
    """The single statements of a script (`executescript` would commit in between)."""
    return [part.strip() for part in script.split(";") if part.strip()]
