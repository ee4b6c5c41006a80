package sql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"strconv"
	"strings"
)

// Result codes of SQLite (sqlite.org/rescode.html). The lowest byte of a longer one
// is the code that it refines.
const (
	sqliteGeneric  = 1
	sqliteBusy     = 5
	sqliteTable    = 6 // locked, in a cache that connections share
	sqliteFull     = 13
	sqliteProtocol = 15 // too much going on while the log was opened
	sqliteMoved    = 1032
)

// sqliteCodes are those that have a meaning to an operator.
var sqliteCodes = map[int]string{
	3:  "SQLite may not use the file (%)",
	5:  "another connection or process holds the lock of the database (%)",
	6:  "another connection or process holds the lock of a table (%)",
	7:  "out of memory (%)",
	8:  "the database takes no writes (%): the file, those with -wal and -shm beside it, their directory and the connection must all be writable",
	9:  "somebody has interrupted the statement (%)",
	10: "the disk cannot be read or written (%): see the system's log, and whether there is room",
	11: "the file is damaged (%): end all processes that use it, and put a backup in its place, or remove it together with those with -wal and -shm, and have users sign in again",
	13: "the disk is full, or the database has reached its max_page_count (%): make room",
	14: "the file cannot be opened (%): its directory must be there, and writable",
	15: "too many others open the database at once (%)",
	17: "the schema keeps changing (%)",
	22: "the file is larger than the system allows (%)",
	23: "the driver's authorizer refuses the statement (%)",
	26: "the file is no SQLite database, or is encrypted (%)",

	sqliteMoved: "the file was moved or removed while it was open (%): restart all processes that use it",
}

// sqliteLocked tells that others were in the way, and nothing was carried out.
func sqliteLocked(code int) bool {
	code &= 0xff
	return code == sqliteBusy || code == sqliteTable || code == sqliteProtocol
}

// sqliteCode is SQLite's code in an error of a driver, 0 if there is none. Drivers
// tell it in ways of their own, and none is imported here: modernc.org/sqlite by
// Code() int, others by a method that returns a type of theirs, or by a field.
func sqliteCode(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.ValueOf(err)
		t := v.Type()
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if !strings.Contains(t.PkgPath(), "sqlite") {
			continue
		}
		for _, part := range []string{"ExtendedCode", "Code"} {
			if code := sqliteNumber(v, part); code != 0 {
				return code
			}
		}
		return asInt(v) // a code that is an error by itself
	}
	return 0
}

// sqliteNumber calls the method or reads the field of that name.
func sqliteNumber(v reflect.Value, name string) int {
	if m := v.MethodByName(name); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
		return asInt(m.Call(nil)[0])
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return 0
	}
	return asInt(v.FieldByName(name))
}

func asInt(v reflect.Value) int {
	switch {
	case v.CanInt():
		return int(v.Int())
	case v.CanUint():
		return int(v.Uint()) // #nosec G115 -- SQLite's codes have two bytes
	}
	return 0
}

// sqliteError returns the driver's error in our words: its own have names, paths
// and the statement in them.
func sqliteError(ctx context.Context, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	code := sqliteCode(err)
	f = &failure{text: sqliteText(err, code), undone: sqliteUndone(code)}
	switch {
	case ctx.Err() == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		f.text, f.err = "the caller has left", ctx.Err()
	default:
		if f.err = ctx.Err(); code == 0 {
			f.text = "no answer in time: others hold the lock, or the disk is slow"
		}
	}
	return f
}

// sqliteUndone tells whether nothing was carried out for sure. A disk that fails,
// and an interruption, may come after the commit.
func sqliteUndone(code int) bool {
	switch code & 0xff {
	case 0, 9, 10:
		return false
	}
	return true
}

func sqliteText(err error, code int) string {
	text := sqliteCodes[code]
	if text == "" {
		text = sqliteCodes[code&0xff]
	}
	number := strconv.Itoa(code)
	switch {
	case text != "":
		return strings.Replace(text, "%", number, 1)
	case code == sqliteGeneric && strings.Contains(err.Error(), "no such "):
		return "a table or a column is missing (1): call Database.Migrate, with the same Prefix and file"
	case code == sqliteGeneric && strings.Contains(err.Error(), "already exists"):
		return "a table or an index of that name is there already (1): choose another Prefix, or drop what was left of another attempt"
	case code != 0:
		return "SQLite refuses the statement (" + number + ")"
	case err.Error() == "sql: database is closed", errors.Is(err, sql.ErrConnDone):
		return "the handle is closed: close the provider first"
	case errors.Is(err, driver.ErrBadConn):
		return "the connection was broken"
	}
	return "the driver cannot use the database: see its data source name"
}
