-- Names are keyed hashes, and compared byte by byte. Times are milliseconds since
-- 1970 by the machine's clock; the greatest integer is never.

CREATE TABLE {p}schema (
    version INTEGER NOT NULL,
    oldest  INTEGER NOT NULL -- version of the program that may still use it
) STRICT;

-- With row numbers: without, the contents would be in the tree of the names, where
-- they make every step of a search longer. They come last, since SQLite has to read
-- what is before a column.
CREATE TABLE {p}records (
    owner     TEXT    NOT NULL,
    partition TEXT    NOT NULL,
    version   BLOB    NOT NULL,
    replaced  BLOB,   -- the version before
    expires   INTEGER NOT NULL,
    change    INTEGER NOT NULL, -- number of the last save; the greatest one stays
    sealed    BLOB,   -- NULL: removed
    PRIMARY KEY (owner, partition)
) STRICT;
CREATE INDEX {p}records_expires ON {p}records (expires);
CREATE UNIQUE INDEX {p}records_change ON {p}records (change);

-- Those that have a removal mark.
CREATE TABLE {p}owners (
    owner   TEXT    NOT NULL PRIMARY KEY,
    mark    BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX {p}owners_expires ON {p}owners (expires);

CREATE TABLE {p}leases (
    owner     TEXT    NOT NULL,
    partition TEXT    NOT NULL,
    holder    BLOB    NOT NULL,
    expires   INTEGER NOT NULL,
    PRIMARY KEY (owner, partition)
) STRICT, WITHOUT ROWID;
CREATE INDEX {p}leases_expires ON {p}leases (expires);

INSERT INTO {p}schema (version, oldest) VALUES (1, 1);
