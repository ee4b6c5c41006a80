package sql

// Statements returns the statements of a PostgreSQL database, by their names.
func Statements(d *Database) map[string]string {
	s := d.dialect.(*postgres).sql
	return map[string]string{
		"load": s.load, "touch": s.touch, "setMark": s.setMark, "list": s.list, "names": s.names,
		"acquire": s.acquire, "renew": s.renew, "release": s.release,
		"sweepRecords": s.sweepRecords, "sweepLeases": s.sweepLeases, "sweepOwner": s.sweepOwner, "poll": s.poll,
		"removeAbsent": s.removeAbsent, "removeVersion": s.removeVersion, "removeAlways": s.removeAlways,
		"saveAbsent": s.saveAbsent, "saveVersion": s.saveVersion, "saveAlways": s.saveAlways, "saveUnindexed": s.saveUnindexed,
	}
}

// AddMigration adds one that no program knows yet.
func AddMigration(d *Database, sql string) {
	var all *[]migration
	switch db := d.dialect.(type) {
	case *postgres:
		all = &db.all
	case *sqlite:
		all = &db.all
	}
	*all = append(*all, migration{latest(*all) + 1, prefixed(d.options.Prefix, sql)})
}
