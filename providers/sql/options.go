package sql

import (
	"context"
	"errors"
	"log/slog"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// Options are the optional settings of a [Database]. The zero value of each field
// means its default.
type Options struct {
	// Prefix begins the names of the tables and their indexes: up to 32 lower-case
	// letters, digits and underscores, the first of them no digit. Applications
	// that share a schema need one each; all machines of one have the same.
	// Defaults to "coatcheck_".
	Prefix string
	// Log gets what an operator should know and no caller can be told: changes of
	// other machines that cannot be heard of. Defaults to slog.Default().
	Log *slog.Logger
	// Listen makes a connection on which Watch hears of changes at once, by LISTEN.
	// PostgreSQL only. It is to be a connection of its own, not one of a pool, and
	// straight to the server: behind PgBouncer, LISTEN is not heard. Watch closes it.
	//
	// It has its price: every save of every machine then also sends NOTIFY, for
	// which PostgreSQL takes a lock of the whole server while it commits, so that
	// saves, and whatever else notifies, commit one after the other. All machines
	// should have it or none: one without does not notify. Defaults to nil: Watch
	// asks four times a second, and a change is heard of within 250 ms.
	Listen func(context.Context) (*pgx.Conn, error)
}

const defaultPrefix = "coatcheck_"

// prefixPattern leaves room for what follows, of the 63 bytes of a name.
var prefixPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Prefix == "" {
		out.Prefix = defaultPrefix
	}
	if out.Log == nil {
		out.Log = slog.Default()
	}
	if !prefixPattern.MatchString(out.Prefix) {
		return out, errors.New("sql: Options.Prefix must be up to 32 lower-case letters, digits and underscores, and not begin with a digit")
	}
	return out, nil
}
