package sql

// RoomPause is how long nobody tries to make room after that has failed.
const RoomPause = roomPause

// SQLiteStatements returns the statements of an SQLite database, by their names.
func SQLiteStatements(d *Database) map[string]string {
	s := d.dialect.(*sqlite).sql
	return map[string]string{
		"load": s.load, "state": s.state, "touch": s.touch, "setMark": s.setMark, "list": s.list, "names": s.names,
		"acquire": s.acquire, "renew": s.renew, "release": s.release, "begin": s.begin, "poll": s.poll,
		"sweepRecords": s.sweep[0], "sweepMarks": s.sweep[1], "sweepLeases": s.sweep[2],
		"removeAbsent": s.removeAbsent, "removeVersion": s.removeVersion, "removeAlways": s.removeAlways,
		"saveAbsent": s.saveAbsent, "saveVersion": s.saveVersion, "saveAlways": s.saveAlways,
	}
}
