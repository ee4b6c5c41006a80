package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// openSQLite keeps both in one file, for the processes of this computer, encrypted
// with the keys of the other file. It makes the tables, as openPostgres does.
func openSQLite(ctx context.Context, cfg *config, keys *tokencache.Keys, log *slog.Logger) (_ *store, err error) {
	path, err := makeFile(cfg.sqlitePath)
	if err != nil {
		return nil, err
	}
	// While SQLite itself waits for a lock, it does not look at the context. The
	// provider has it wait for a moment only, and asks again; sessions leave it to
	// SQLite, for less than sessionTimeout.
	db, err := openFile(path, 100)
	if err != nil {
		return nil, err
	}
	sessions := &sqlSessions{}
	if sessions.db, err = openFile(path, 700); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	release := func(context.Context) error { return errors.Join(sessions.db.Close(), db.Close()) }
	defer func() {
		if err != nil {
			err = fmt.Errorf("-sqlite-path: %s: %w", path, errors.Join(err, release(ctx)))
		}
	}()
	making, cancel := context.WithTimeout(ctx, tablesTimeout)
	defer cancel()
	database := sqlprovider.SQLite(db, &sqlprovider.Options{Prefix: sqlPrefix, Log: log})
	if err := database.Migrate(making); err != nil {
		return nil, err
	}
	if err := sessions.prepare(making); err != nil {
		return nil, err
	}
	provider, err := sqlprovider.New(making, database)
	if err != nil {
		return nil, err
	}
	return &store{
		provider: provider, sessions: newSealedSessions(sessions, keys.Seal, log), keys: keys,
		sweepers: []func(context.Context) error{sessions.sweep},
		release:  release,
		place:    "in SQLite, in the file " + path,
	}, nil
}

// makeFile makes the file, unless it is there, for nobody else to read: SQLite would
// leave that to the umask. Those that it puts beside it have the same mode. The
// directory is not made, as a wrong one would hide all there is in the right one.
func makeFile(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("-sqlite-path: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 G703 -- the flag says which
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("-sqlite-path: the directory of %s must be there", path)
	}
	if err != nil {
		return "", fmt.Errorf("-sqlite-path: %w", err)
	}
	return path, f.Close()
}

// openFile opens the file as providers/sql recommends. Wait is how long SQLite waits
// for a lock, in milliseconds.
func openFile(path string, wait int) (*sql.DB, error) {
	if path = filepath.ToSlash(path); !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/
	}
	settings := fmt.Sprintf("_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", wait)
	name := url.URL{Scheme: "file", Path: path, RawQuery: settings} // with %3F for a question mark of the path
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	return db, nil
}

// checkSQLitePath refuses what is no path. Its errors show nothing of the text: a
// URL in the wrong place may hold a password.
func checkSQLitePath(path string) error {
	if strings.Contains(path, "://") || strings.HasPrefix(path, "file:") || path == ":memory:" || strings.ContainsRune(path, 0) {
		return errors.New("-sqlite-path: must be the path of a file, and no URL")
	}
	return nil
}
