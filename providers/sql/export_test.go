package sql

// Statements returns the statements of a PostgreSQL database, by their names.
func Statements(d *Database) map[string]string {
	s := d.dialect.(*postgres).sql
	return map[string]string{
		"load": s.load, "touch": s.touch, "setMark": s.setMark, "list": s.list,
		"acquire": s.acquire, "renew": s.renew, "release": s.release,
		"sweepRecords": s.sweepRecords, "sweepLeases": s.sweepLeases, "sweepOwner": s.sweepOwner, "poll": s.poll,
		"removeAbsent": s.removeAbsent, "removeVersion": s.removeVersion, "removeAlways": s.removeAlways,
		"saveAbsent": s.saveAbsent, "saveVersion": s.saveVersion, "saveAlways": s.saveAlways, "saveUnindexed": s.saveUnindexed,
	}
}

// AddMigration adds one that no program knows yet.
func AddMigration(d *Database, sql string) {
	p := d.dialect.(*postgres)
	p.all = append(p.all, migration{latest(p.all) + 1, prefixed(p.prefix, sql)})
}
