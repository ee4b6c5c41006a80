-- Names are keyed hashes, and compared byte by byte. Times are milliseconds since
-- 1970 by the server's clock; the greatest bigint is never.

CREATE TABLE {p}schema (
    version integer NOT NULL,
    oldest  integer NOT NULL -- version of the program that may still use it
);

CREATE TABLE {p}records (
    owner     text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    version   bytea  NOT NULL,
    replaced  bytea,  -- the version before
    sealed    bytea,  -- NULL: removed
    expires   bigint NOT NULL,
    change    xid8   NOT NULL DEFAULT pg_current_xact_id(), -- transaction of the last save
    PRIMARY KEY (owner, partition)
);
-- What is encrypted does not compress.
ALTER TABLE {p}records ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX {p}records_expires ON {p}records (expires);
CREATE INDEX {p}records_change ON {p}records (change);

CREATE TABLE {p}owners (
    owner        text COLLATE "C" NOT NULL PRIMARY KEY,
    mark         bytea,
    mark_expires bigint NOT NULL,
    expires      bigint NOT NULL -- when to look whether the row is still needed
);
CREATE INDEX {p}owners_expires ON {p}owners (expires);

CREATE TABLE {p}leases (
    owner     text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    holder    bytea  NOT NULL,
    expires   bigint NOT NULL,
    PRIMARY KEY (owner, partition)
);
CREATE INDEX {p}leases_expires ON {p}leases (expires);

INSERT INTO {p}schema (version, oldest) VALUES (1, 1);
