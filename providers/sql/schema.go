package sql

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed schema
var schemaFiles embed.FS

// migration makes a version of the schema from the one before, and says so in the
// table of that name: also which is the oldest program that may go on using it.
// Programs of the version before are running meanwhile, and must be able to.
type migration struct {
	version int
	sql     string
}

// migrations are those of a dialect, in its files dialect-1.sql, dialect-2.sql and
// so on. The last version is that of this program.
func migrations(dialect, prefix string) []migration {
	var all []migration
	for {
		m := migration{version: len(all) + 1}
		b, err := schemaFiles.ReadFile(fmt.Sprintf("schema/%s-%d.sql", dialect, m.version))
		if err != nil {
			return all
		}
		m.sql = prefixed(prefix, string(b))
		all = append(all, m)
	}
}

// latest is the version that this program knows.
func latest(all []migration) int { return all[len(all)-1].version }

// prefixed puts the prefix where {p} is.
func prefixed(prefix, sql string) string { return strings.ReplaceAll(sql, "{p}", prefix) }

// schemaState is what there is of a schema. The zero value is nothing.
type schemaState struct {
	version, oldest int
	partial         bool // some of it is not there
}

// usable returns what is wrong with a schema, for a program of version program.
func (s schemaState) usable(program int) error {
	switch {
	case s.partial:
		return &failure{text: "the schema is incomplete: some of its tables are missing; " +
			"drop what is there of them, and call Database.Migrate"}
	case s.version == 0:
		return &failure{text: "there is no schema: call Database.Migrate, or apply Database.Schema, " +
			"with the same Prefix, and search_path or file"}
	case s.version < program:
		return &failure{text: fmt.Sprintf("the schema is of version %d, and this program needs %d: call Database.Migrate", s.version, program)}
	case s.oldest > program:
		return &failure{text: fmt.Sprintf("the schema is newer (version %d) than this program can use: "+
			"it needs one that knows version %d", s.version, s.oldest)}
	}
	return nil
}
