package main

import (
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sqlitePath is the file that the flags name.
func sqlitePath(store []string) string { return strings.TrimPrefix(store[1], "-sqlite-path=") }

// openDB opens a file of the application until the test ends.
func openDB(t *testing.T, path string) *sql.DB {
	t.Helper()
	path, err := makeFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := openFile(path, 700)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestSQLiteFiles: only the owner may read them, and they are where the flag says,
// whatever its text would mean in a URL.
func TestSQLiteFiles(t *testing.T) {
	t.Parallel()
	store := sqliteFlags(t)
	s := open(t, append(store, "-auto-login")...)
	s.signedIn(t, "ada").me(t)
	path := sqlitePath(store)
	if !strings.HasSuffix(s.store.place, path) {
		t.Errorf("the store is %s", s.store.place)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 3 {
		t.Fatalf("the directory has %v, %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), filepath.Base(path)) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// TestSQLiteCannotBeOpened: a start with a file that is none of ours says why.
func TestSQLiteCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("marker-text ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"no directory":        {filepath.Join(dir, "none", "x.db"), "directory"},
		"a directory":         {dir, "directory"},
		"below a file":        {filepath.Join(text, "x.db"), "not a directory"},
		"not of SQLite":       {text, "no SQLite database"},
		"a name that is long": {filepath.Join(dir, strings.Repeat("x", 300)), "too long"},
	}
	for name, test := range tests {
		var logs buffer
		err := run(t.Context(), []string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0", "-provider=sqlite", newKeysFlag(t), "-sqlite-path=" + test.path},
			noEnv, io.Discard, &logs)
		if err == nil || !strings.Contains(err.Error(), "-sqlite-path") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if strings.Contains(errorText(err)+logs.String(), "marker") {
			t.Errorf("%s: the error or the log shows the file", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a directory is there now:", err)
	}
}

// TestSQLiteLocked has another process hold the lock of the file for longer than
// anybody waits. What has to be written cannot be, which pages say in time; what is
// only read goes on, and nobody is signed out.
func TestSQLiteLocked(t *testing.T) {
	t.Parallel()
	store := sqliteFlags(t)
	s := open(t, append(store, "-auto-login")...)
	v, leaving, stranger := s.signedIn(t, "ada"), s.signedIn(t, "bob"), s.visitor(t, 0)
	other, err := openDB(t, sqlitePath(store)).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	timed := func(v *visitor, method, path string) reply {
		t.Helper()
		began := time.Now()
		got := v.stays().do(t, v.request(t, method, path, nil))
		if took := time.Since(began); took > pageBound || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%s takes %s, and sets the cookie %q", path, took, got.header.Get("Set-Cookie"))
		}
		return got
	}
	for range 2 {
		for _, path := range []string{"/", "/api/me", "/healthz"} {
			timed(v, http.MethodGet, path).want(t, http.StatusOK, "")
		}
		for _, got := range []reply{timed(v, http.MethodPost, "/call"), timed(stranger, http.MethodGet, "/signin?login_hint=eve")} {
			if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "has not signed you out") || got.header.Get("Retry-After") == "" {
				t.Errorf("got status %d: %.300s", got.status, got.body)
			}
		}
		if got := timed(leaving, http.MethodPost, "/signout"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "still signed in") {
			t.Errorf("a sign-out has status %d: %.300s", got.status, got.body)
		}
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return v.post(t, "/call", nil).status == http.StatusOK })
	leaving.stays().post(t, "/signout", nil).want(t, http.StatusSeeOther, "")
	leaving.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
}

// TestSQLiteSeesNoSecrets looks into all tables, and into the files.
func TestSQLiteSeesNoSecrets(t *testing.T) {
	t.Parallel()
	store := sqliteFlags(t)
	path := sqlitePath(store)
	db := openDB(t, path)
	dump := func() string {
		text := dumpTables(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table'")
		for _, end := range []string{"", "-wal"} {
			b, err := os.ReadFile(path + end)
			if err != nil {
				t.Fatal(err)
			}
			text += string(b)
		}
		return text
	}
	secrets, held := useWithSecrets(t, store, dump)
	hasNoSecrets(t, "what SQLite holds", held, secrets, sqlPrefix+"records", sqlPrefix+"owners", "example_sessions")
}

func TestSQLiteSessions(t *testing.T) {
	t.Parallel()
	records := &sqlSessions{db: openDB(t, filepath.Join(t.TempDir(), "x.db"))}
	for range 2 { // the second time, the table is there
		if err := records.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	testSessions(t, records)
	testSessionSweep(t, records)
	other, err := records.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := other.ExecContext(t.Context(), "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := records.DeleteCtx(t.Context(), "ada"); err == nil || time.Since(began) > sessionTimeout {
		t.Errorf("a file that is locked answers %v after %s", err, time.Since(began))
	}
}

// TestSQLiteIsSwept: what is over goes by itself.
func TestSQLiteIsSwept(t *testing.T) {
	t.Parallel()
	store := sqliteFlags(t)
	s := open(t, store...)
	isSwept(t, s, openDB(t, sqlitePath(store)))
}
