package sql

import "strings"

// pgStatements are the statements of PostgreSQL, under one prefix. Every one is an
// index lookup, or two of one round trip, and every parameter has its type, so that
// they work in all of pgx's modes. Words in braces are replaced.
type pgStatements struct {
	check, load, touch, setMark, list     string
	names                                 string
	acquire, renew, release               string
	sweepRecords, sweepLeases, sweepOwner string
	begin, poll                           string
	// Of saves: by the kind of condition, of tombstones and of others. The last is
	// of owners without a row.
	removeAbsent, removeVersion, removeAlways          string
	saveAbsent, saveVersion, saveAlways, saveUnindexed string
}

const (
	// pgNever is an expiry that does not come.
	pgNever = "9223372036854775807"
	// pgNow is the server's time as the statement reached it. It stays the same
	// within a statement, so that an index serves conditions with it. (extract
	// would do it with numbers of any length, and take longer.)
	pgNow = "(date_part('epoch', statement_timestamp()) * 1000)::bigint"
	// pgSent is the same time as the protocol sends it: a big-endian int64,
	// microseconds since the start of 2000.
	pgSent = "timestamptz_send(statement_timestamp())"
	// pgExpiry is the end of a life, the fourth parameter of what sets one.
	pgExpiry = "CASE WHEN $4::bigint < 0 THEN {never} ELSE {now} + $4::bigint END"
	// pgStarted is when the server was started, in microseconds since 1970.
	pgStarted = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"
)

// newPgStatements puts everything in place. With notify, saves tell who listens.
func newPgStatements(prefix string, notify bool) *pgStatements {
	one := "1"
	if notify {
		one = "(pg_notify('{p}changed', '')::text IS NOT NULL)::int"
	}
	in := func(sql string, words ...string) string {
		return expand(sql, append(words, "{p}", prefix, "{one}", one, "{now}", pgNow, "{sent}", pgSent, "{never}", pgNever,
			"{started}", pgStarted, "{expiry}", pgExpiry, "{fits}", pgFits)...)
	}
	const expired = "WHERE (r.expires > {now}) IS NOT TRUE"
	dead := []string{"{rows}", "VALUES ($1::text, $2::text, $3::bytea, NULL, {expiry})",
		"{sealed}", "NULL", "{from}", "", "{if}", "", "{old}", "$5::bytea"}
	alive := []string{"{rows}", "SELECT $1::text, $2::text, $3::bytea, $5::bytea, {expiry} FROM o WHERE {fits}",
		"{sealed}", "$5::bytea", "{from}", "FROM o", "{if}", "AND {fits}", "{old}", "$7::bytea"}
	remove := func(change, where string) string {
		return in(pgRemove, append(dead, "{change}", change, "{where}", where)...)
	}
	save := func(owner, change, where string) string {
		return in(pgSave, append(alive, "{owner}", owner, "{change}", change, "{where}", where)...)
	}
	return &pgStatements{
		check: in(pgCheck), load: in(pgLoad), touch: in(pgTouch), setMark: in(pgSetMark), list: in(pgList), names: in(pgNames),
		acquire: in(pgAcquire), renew: in(pgRenew), release: in(pgRelease),
		sweepRecords: in(pgSweepRecords), sweepLeases: in(pgSweepLeases), sweepOwner: in(pgSweepOwners),
		begin: in(pgBegin), poll: in(pgPoll),

		removeAbsent:  remove(pgInsert, expired),
		removeVersion: remove(pgUpdate, ""),
		removeAlways:  remove(pgInsert, ""),
		saveAbsent:    save(pgUpsertOwner, pgInsert, expired),
		saveVersion:   save(pgShareOwner, pgUpdate, ""),
		saveAlways:    save(pgUpsertOwner, pgInsert, ""),
		saveUnindexed: save(pgUpsertOwner, pgUpdate, ""),
	}
}

// expand replaces words in braces by what is next to them in the list, also in
// what was put in place of others.
func expand(sql string, words ...string) string {
	r := strings.NewReplacer(words...)
	for strings.ContainsRune(sql, '{') {
		sql = r.Replace(sql)
	}
	return sql
}

// A connection believes what it knows of tables until it uses another one. So this
// statement uses one, the row of which is there.
const pgCheck = `
SELECT to_regclass('{p}schema') IS NOT NULL,
	to_regclass('{p}records') IS NOT NULL, to_regclass('{p}owners') IS NOT NULL, to_regclass('{p}leases') IS NOT NULL,
	pg_is_in_recovery(), {started}
FROM pg_catalog.pg_class WHERE oid = 'pg_catalog.pg_class'::regclass`

// A row for the record and one for the owner's mark, whose size is -1: two lookups
// side by side cost the server less than a join, and few owners have a mark. Times
// are compared by who asks, for the same reason. {sent} has one form in all of pgx's
// modes. The contents are read only if they are not too large; to ask for their
// length does not read them. Of a version that is longer than ours are, one byte more
// than those have tells enough.
const pgLoad = `
SELECT substr(version, 1, 17), expires, {sent}, coalesce(octet_length(sealed), 0),
	CASE WHEN octet_length(sealed) <= $3::integer THEN sealed END
FROM {p}records WHERE owner = $1::text AND partition = $2::text
UNION ALL
SELECT substr(mark, 1, 17), mark_expires, {sent}, -1, NULL
FROM {p}owners WHERE owner = $1::text AND mark IS NOT NULL`

// A save and SetMark must exclude each other, or a save that has read the mark
// before SetMark commits could commit after the owner's partitions were listed.
// So a save holds the owner's row until it has committed, and sees its newest
// version: at READ COMMITTED because it waits for it, and at the higher levels
// because it fails otherwise, and is repeated. Parameters: owner, partition,
// version, life, contents, the mark that was seen, and the version to be replaced.
const pgSave = `
WITH o AS {owner}, saved AS ({change} RETURNING {one})
SELECT (SELECT count(*) FROM saved) > 0, (SELECT o.mark IS NOT NULL AND o.mark IS DISTINCT FROM $6::bytea FROM o)`

// A tombstone neither looks at the mark nor waits for the owner's row.
const pgRemove = `
WITH saved AS ({change} RETURNING {one})
SELECT (SELECT count(*) FROM saved) > 0, false`

// pgShareOwner locks the owner's row against SetMark, but not against other saves.
const pgShareOwner = `MATERIALIZED (
	SELECT CASE WHEN mark_expires > {now} THEN mark END AS mark FROM {p}owners WHERE owner = $1::text FOR SHARE)`

// pgUpsertOwner makes the owner's row, or locks the one that is there.
const pgUpsertOwner = `(
	INSERT INTO {p}owners AS o (owner, mark_expires, expires) VALUES ($1::text, 0, {expiry})
	ON CONFLICT (owner) DO UPDATE SET expires = greatest(o.expires, excluded.expires)
	RETURNING CASE WHEN o.mark_expires > {now} THEN o.mark END AS mark)`

const pgFits = "(o.mark IS NULL OR o.mark = $6::bytea)"

const pgInsert = `
	INSERT INTO {p}records AS r (owner, partition, version, sealed, expires) {rows}
	ON CONFLICT (owner, partition) DO UPDATE SET version = excluded.version,
		replaced = CASE WHEN r.expires > {now} THEN r.version END,
		sealed = excluded.sealed, expires = excluded.expires, change = pg_current_xact_id() {where}`

// What is no version of ours is matched by the zero one, which Load shows of it.
const pgUpdate = `
	UPDATE {p}records r SET version = $3::bytea, replaced = r.version, sealed = {sealed},
		expires = {expiry}, change = pg_current_xact_id() {from}
	WHERE r.owner = $1::text AND r.partition = $2::text AND r.expires > {now} {if}
		AND (r.version = {old} OR octet_length(r.version) <> 16 AND {old} = decode(repeat('00', 16), 'hex'))`

const pgTouch = `
WITH touched AS (
	UPDATE {p}records SET expires = {expiry}
	WHERE owner = $1::text AND partition = $2::text AND version = $3::bytea AND expires > {now} RETURNING 1)
SELECT EXISTS (SELECT FROM touched),
	EXISTS (SELECT FROM {p}records WHERE owner = $1::text AND partition = $2::text AND expires > {now})`

const pgSetMark = `
INSERT INTO {p}owners AS o (owner, mark, mark_expires, expires)
SELECT $1::text, $2::bytea, until, until FROM (SELECT CASE WHEN $3::bigint < 0 THEN {never} ELSE {now} + $3::bigint END AS until) AS life
ON CONFLICT (owner) DO UPDATE SET mark = excluded.mark, mark_expires = excluded.mark_expires,
	expires = greatest(o.expires, excluded.expires)`

const pgList = `
SELECT partition FROM {p}records WHERE owner = $1::text AND sealed IS NOT NULL AND expires > {now}`

// What has expired is not left out: a page would take longer the more of it there is.
const pgNames = `
SELECT owner, partition FROM {p}records WHERE (owner, partition) > ($1::text, $2::text)
ORDER BY owner, partition LIMIT $3::integer`

const pgAcquire = `
INSERT INTO {p}leases AS l (owner, partition, holder, expires) VALUES ($1::text, $2::text, $3::bytea, {now} + $4::bigint)
ON CONFLICT (owner, partition) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
WHERE (l.expires > {now}) IS NOT TRUE OR l.holder = excluded.holder
RETURNING {started}`

const pgRenew = `
UPDATE {p}leases SET expires = {now} + $4::bigint
WHERE owner = $1::text AND partition = $2::text AND holder = $3::bytea AND expires > {now} RETURNING 1`

const pgRelease = `
DELETE FROM {p}leases WHERE owner = $1::text AND partition = $2::text AND holder = $3::bytea RETURNING 1`

// What others have locked is in use or is being swept.
const pgSweepRecords = `
WITH over AS MATERIALIZED (
	SELECT owner, partition FROM {p}records WHERE expires <= {now} ORDER BY expires LIMIT $1::integer FOR UPDATE SKIP LOCKED),
swept AS (
	DELETE FROM {p}records r USING over
	WHERE r.owner = over.owner AND r.partition = over.partition AND r.expires <= {now} RETURNING 1)
SELECT (SELECT count(*) FROM over), (SELECT count(*) FROM swept)`

const pgSweepLeases = `
WITH over AS MATERIALIZED (
	SELECT owner, partition FROM {p}leases WHERE expires <= {now} ORDER BY expires LIMIT $1::integer FOR UPDATE SKIP LOCKED),
swept AS (
	DELETE FROM {p}leases l USING over
	WHERE l.owner = over.owner AND l.partition = over.partition AND l.expires <= {now} RETURNING 1)
SELECT (SELECT count(*) FROM over), 0::bigint`

// An owner's row goes when neither its mark nor a record needs it. When it is due,
// and something does, it is due again when the last of these is over. (A record
// that was touched does not tell its owner's row.) Should a save keep a record
// alive that was about to end here, its owner is without a row until the next one:
// that harms nothing, since there was no mark in it.
const pgSweepOwners = `
WITH due AS MATERIALIZED (
	SELECT owner, mark IS NOT NULL AND mark_expires <= {now} AS over,
		CASE WHEN mark IS NOT NULL AND mark_expires > {now} THEN mark_expires END AS marked
	FROM {p}owners WHERE expires <= {now} ORDER BY expires LIMIT $1::integer FOR UPDATE SKIP LOCKED),
judged AS MATERIALIZED (
	SELECT owner, over, greatest(marked,
		(SELECT max(r.expires) FROM {p}records r WHERE r.owner = due.owner AND r.expires > {now})) AS until FROM due),
swept AS (
	DELETE FROM {p}owners o USING judged j WHERE o.owner = j.owner AND j.until IS NULL),
kept AS (
	UPDATE {p}owners o SET expires = j.until, mark = CASE WHEN j.over THEN NULL ELSE o.mark END
	FROM judged j WHERE o.owner = j.owner AND j.until IS NOT NULL)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM due WHERE over)`

// pgBegin is the first poll: there are no changes yet.
const pgBegin = `
SELECT pg_current_snapshot()::text, {started}, pg_is_in_recovery(), NULL, NULL, NULL, NULL`

// What was not yet visible in the former snapshot is new, however long ago its
// transaction began, and in whichever order transactions commit. Numbers beyond the
// snapshot of now came with the rows, from the server that they were copied from.
const pgPoll = pgBegin + `
UNION ALL (
	SELECT NULL, NULL, NULL, owner, partition, substr(version, 1, 16), substr(replaced, 1, 16) FROM {p}records
	WHERE change >= pg_snapshot_xmax($1::text::pg_snapshot) AND change < pg_snapshot_xmax(pg_current_snapshot())
	ORDER BY change LIMIT $2::integer)
UNION ALL (
	SELECT NULL, NULL, NULL, owner, partition, substr(version, 1, 16), substr(replaced, 1, 16) FROM {p}records
	WHERE change = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))) LIMIT $2::integer)`
