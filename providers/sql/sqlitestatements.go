package sql

// sqliteStatements are the statements of SQLite, under one prefix. Every one is a
// search of an index, or a few of them. Words in braces are replaced.
type sqliteStatements struct {
	check, onDisk, version, ping      string
	load, state, touch, setMark, list string
	names                             string
	acquire, renew, release           string
	begin, poll                       string
	sweep                             [3]string // records, marks, leases
	// Of saves: by the kind of condition, of tombstones and of others.
	removeAbsent, removeVersion, removeAlways string
	saveAbsent, saveVersion, saveAlways       string
}

const (
	// sqliteNever is an expiry that does not come.
	sqliteNever = "9223372036854775807"
	// sqliteNow is the machine's time, which SQLite keeps in whole milliseconds. It
	// stays the same within a statement. A day of the Julian calendar is exact to a
	// twentieth of a millisecond; unixepoch tells parts of a second only since 3.42.
	sqliteNow = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
	// sqliteExpiry is the end of a life, the fourth parameter of what sets one.
	sqliteExpiry = "CASE WHEN ?4 < 0 THEN {never} ELSE {now} + ?4 END"
	// sqliteNext is the number of the next save. There is one writer at a time.
	sqliteNext = "(SELECT ifnull(max(change), 0) + 1 FROM {p}records)"
	// sqliteRefused tells that the owner's mark is not the one that the writer saw.
	sqliteRefused = "EXISTS (SELECT 1 FROM {p}owners WHERE owner = ?1 AND expires > {now} AND mark IS NOT ?6)"
)

func newSQLiteStatements(prefix string) *sqliteStatements {
	in := func(sql string, words ...string) string {
		return expand(sql, append(words, "{p}", prefix, "{now}", sqliteNow, "{never}", sqliteNever,
			"{expiry}", sqliteExpiry, "{next}", sqliteNext, "{refused}", sqliteRefused)...)
	}
	dead := []string{"{sealed}", "NULL", "{fits}", "true", "{old}", "?5"}
	alive := []string{"{sealed}", "?5", "{fits}", "NOT {refused}", "{old}", "?7"}
	insert := func(kind []string, where string) string {
		return in(sqliteInsert, append(kind[:len(kind):len(kind)], "{where}", where)...)
	}
	const expired = "WHERE r.expires <= {now}"
	sweep := func(table, key, but string) string {
		return in(sqliteSweep, "{table}", table, "{key}", key, "{but}", but)
	}
	return &sqliteStatements{
		check: in(sqliteCheck), onDisk: sqliteOnDisk, version: in("SELECT version, oldest FROM {p}schema"), ping: in("SELECT version FROM {p}schema"),
		load: in(sqliteLoad), state: in(sqliteState), touch: in(sqliteTouch), setMark: in(sqliteSetMark), list: in(sqliteList), names: in(sqliteNames),
		acquire: in(sqliteAcquire), renew: in(sqliteRenew), release: in(sqliteRelease),
		begin: in("SELECT ifnull(max(change), 0) FROM {p}records"), poll: in(sqlitePoll),
		sweep: [3]string{
			// Without the last change, its number would be given out again.
			sweep("records", "rowid", "AND change <> (SELECT max(change) FROM {p}records)"),
			sweep("owners", "owner", ""),
			sweep("leases", "owner, partition", ""),
		},

		removeAbsent:  insert(dead, expired),
		removeVersion: in(sqliteUpdate, dead...),
		removeAlways:  insert(dead, ""),
		saveAbsent:    insert(alive, expired),
		saveVersion:   in(sqliteUpdate, alive...),
		saveAlways:    insert(alive, ""),
	}
}

// sqliteOnDisk tells whether there is a file, and not a database in memory.
const sqliteOnDisk = "SELECT ifnull(file, '') <> '' FROM pragma_database_list WHERE name = 'main'"

const sqliteCheck = `
SELECT sqlite_version(),
	(SELECT file FROM pragma_database_list WHERE name = 'main'),
	(SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{p}schema'),
	(SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('{p}schema', '{p}records', '{p}owners', '{p}leases'))`

// The mark must come also where there is no record. The contents are read only if
// they are not too large; to ask for their length does not read them. Of a version
// that is longer than ours are, one byte more than those have tells enough.
const sqliteLoad = `
SELECT substr(o.mark, 1, 17), r.version IS NOT NULL, substr(r.version, 1, 17), ifnull(length(r.sealed), 0),
	CASE WHEN length(r.sealed) <= ?3 THEN r.sealed END,
	CASE WHEN r.expires < {never} THEN r.expires - {now} ELSE -1 END
FROM (SELECT 1) AS one
LEFT JOIN {p}owners o ON o.owner = ?1 AND o.expires > {now}
LEFT JOIN {p}records r ON r.owner = ?1 AND r.partition = ?2 AND r.expires > {now}`

// Parameters of saves: owner, partition, version, life, contents, the mark that was
// seen, and the version to be replaced. A statement that changes something has the
// lock of the only writer from its beginning to its end, so that nothing comes
// between the mark and the record. A tombstone does not look at the mark.
const sqliteInsert = `
INSERT INTO {p}records AS r (owner, partition, version, expires, change, sealed)
SELECT ?1, ?2, ?3, {expiry}, {next}, {sealed} WHERE {fits}
ON CONFLICT (owner, partition) DO UPDATE SET version = excluded.version,
	replaced = CASE WHEN r.expires > {now} THEN r.version END,
	expires = excluded.expires, change = excluded.change, sealed = excluded.sealed {where}
RETURNING 1`

// What is no version of ours is matched by the zero one, which Load shows of it.
const sqliteUpdate = `
UPDATE {p}records SET version = ?3, replaced = version, expires = {expiry}, change = {next}, sealed = {sealed}
WHERE owner = ?1 AND partition = ?2 AND expires > {now} AND {fits}
	AND (version = {old} OR length(version) <> 16 AND {old} = zeroblob(16))
RETURNING 1`

// sqliteState is why a save or a touch was not carried out. Whether there is a
// version is asked for: some drivers tell one of no bytes as NULL.
const sqliteState = `
SELECT EXISTS (SELECT 1 FROM {p}owners WHERE owner = ?1 AND expires > {now} AND mark IS NOT ?3),
	r.version IS NOT NULL, substr(r.version, 1, 17)
FROM (SELECT 1) AS one
LEFT JOIN {p}records r ON r.owner = ?1 AND r.partition = ?2 AND r.expires > {now}`

const sqliteTouch = `
UPDATE {p}records SET expires = {expiry}
WHERE owner = ?1 AND partition = ?2 AND version = ?3 AND expires > {now} RETURNING 1`

const sqliteSetMark = `
INSERT INTO {p}owners (owner, mark, expires) VALUES (?1, ?2, CASE WHEN ?3 < 0 THEN {never} ELSE {now} + ?3 END)
ON CONFLICT (owner) DO UPDATE SET mark = excluded.mark, expires = excluded.expires
RETURNING 1`

const sqliteList = `
SELECT partition FROM {p}records WHERE owner = ?1 AND sealed IS NOT NULL AND expires > {now}`

// What has expired is not left out: a page would take longer the more of it there is.
const sqliteNames = `
SELECT owner, partition FROM {p}records WHERE (owner, partition) > (?1, ?2)
ORDER BY owner, partition LIMIT ?3`

const sqliteAcquire = `
INSERT INTO {p}leases AS l (owner, partition, holder, expires) VALUES (?1, ?2, ?3, {now} + ?4)
ON CONFLICT (owner, partition) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
WHERE l.expires <= {now} OR l.holder = excluded.holder
RETURNING 1`

const sqliteRenew = `
UPDATE {p}leases SET expires = {now} + ?4
WHERE owner = ?1 AND partition = ?2 AND holder = ?3 AND expires > {now} RETURNING 1`

const sqliteRelease = `
DELETE FROM {p}leases WHERE owner = ?1 AND partition = ?2 AND holder = ?3 RETURNING 1`

const sqliteSweep = `
DELETE FROM {p}{table} WHERE ({key}) IN (
	SELECT {key} FROM {p}{table} WHERE expires <= {now} {but} ORDER BY expires LIMIT ?1)`

// The greatest number comes in the same moment as what is new: when it is less than
// it was, the file is another one.
const sqlitePoll = `
SELECT ifnull(max(change), 0), NULL, NULL, NULL, NULL FROM {p}records
UNION ALL
SELECT * FROM (
	SELECT change, owner, partition, substr(version, 1, 16), substr(replaced, 1, 16) FROM {p}records WHERE change > ?1 ORDER BY change LIMIT ?2)`
