package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestParsePostgresURL checks what is taken, and that no mistake shows the password.
func TestParsePostgresURL(t *testing.T) {
	t.Parallel()
	type want struct {
		addr, user, password, database string
		tls                            bool
	}
	good := map[string]want{
		"postgres://ada@127.0.0.1/app":                                                         {"127.0.0.1:5432", "ada", "", "app", false},
		"postgresql://ada:marker%2F%40x@localhost:7000/app":                                    {"localhost:7000", "ada", "marker/@x", "app", false},
		"postgres://ada@[::1]:7000/app?sslmode=disable":                                        {"[::1]:7000", "ada", "", "app", false},
		"postgres://ada:" + markerPassword + "@db.example.com/app?sslmode=verify-full":         {"db.example.com:5432", "ada", markerPassword, "app", true},
		"postgres://ada@db.example.com/app?sslrootcert=system":                                 {"db.example.com:5432", "ada", "", "app", true},
		"postgres://ada@127.0.0.1:1/app?pool_max_conns=3&application_name=x&connect_timeout=1": {"127.0.0.1:1", "ada", "", "app", false},
	}
	for text, want := range good {
		c, err := parsePostgresURL(text)
		if err != nil {
			t.Errorf("%s: %v", want.addr, err)
			continue
		}
		o := c.ConnConfig
		if addressOf(&o.Config) != want.addr || o.User != want.user || o.Password != want.password || o.Database != want.database {
			t.Errorf("%s: got another address, database or user", want.addr)
		}
		if verified := o.TLSConfig != nil && o.TLSConfig.ServerName != "" && len(o.Fallbacks) == 0; want.tls && !verified {
			t.Errorf("%s: TLS is not verified, or there is another way", want.addr)
		}
		maxOf, name, patience := int32(maxConns), "coatcheck-example", answerTimeout
		if strings.Contains(text, "pool_max_conns") {
			maxOf, name, patience = 3, "x", time.Second
		}
		if c.MaxConns != maxOf || o.RuntimeParams["application_name"] != name || o.ConnectTimeout != patience {
			t.Errorf("%s: %d connections for %q within %s", want.addr, c.MaxConns, o.RuntimeParams["application_name"], o.ConnectTimeout)
		}
	}
	beyond := "sslmode=verify-full"
	bad := map[string]string{
		"":          "must be like",
		"localhost": "must be like",
		"host=127.0.0.1 password=" + markerPassword:                                                                   "must be like",
		"mysql://ada:" + markerPassword + "@127.0.0.1/app":                                                            "must be like",
		"postgres://ada:" + markerPassword + "@/app":                                                                  "must be like",
		"postgres://ada:" + markerPassword + "@:5432/app":                                                             "must be like",
		"postgres://ada:" + markerPassword + "/x@127.0.0.1/app":                                                       "must be like",
		"postgres://ada:" + markerPassword + "#x@127.0.0.1/app":                                                       "must be like",
		"postgres://ada:" + markerPassword + "%zz@127.0.0.1/app":                                                      "must be like",
		"postgres://ada:" + markerPassword + "@127.0.0.1:port/app":                                                    "must be like",
		"postgres://ada:" + markerPassword + "@127.0.0.1/app \n":                                                      "must be like",
		markerPassword + "://127.0.0.1/app":                                                                           "must be like",
		"postgres://127.0.0.1/app#" + markerPassword:                                                                  "no fragment",
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?sslmode=" + markerPassword:                               "parameter",
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?pool_max_conns=" + markerPassword:                        "parameter",
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?sslrootcert=/" + markerPassword:                          "parameter",
		"postgres://ada:" + markerPassword + "@192.0.2.1/app":                                                         beyond,
		"postgres://ada:" + markerPassword + "@192.0.2.1/app?sslmode=disable":                                         beyond,
		"postgres://ada:" + markerPassword + "@192.0.2.1/app?sslmode=allow":                                           beyond,
		"postgres://ada:" + markerPassword + "@192.0.2.1/app?sslmode=prefer":                                          beyond,
		"postgres://ada:" + markerPassword + "@192.0.2.1/app?sslmode=require":                                         beyond,
		"postgres://ada:" + markerPassword + "@192.0.2.1/app?sslmode=verify-ca":                                       beyond,
		"postgres://ada:" + markerPassword + "@127.0.0.1.example.com/app?sslmode=disable":                             beyond,
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?host=db.example.com":                                     beyond,
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?host=127.0.0.1,db.example.com":                           beyond,
		"postgres://ada:" + markerPassword + "@127.0.0.1/app?host=db.example.com&sslmode=verify-full&sslmode=disable": beyond,
	}
	for text, want := range bad {
		_, err := parsePostgresURL(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", strings.ReplaceAll(text, "marker", "m"), err)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%+v", err), "marker") {
			t.Errorf("%s: the error shows the password", strings.ReplaceAll(text, "marker", "m"))
		}
	}
}

// TestPostgresDoesNotAnswer: a start without PostgreSQL fails soon, says why, and
// does not tell the password; and nothing is left running.
func TestPostgresDoesNotAnswer(t *testing.T) {
	t.Parallel()
	up, paused := testserver.NewPostgres(t), testserver.NewPostgres(t)
	if err := paused.Pause(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ask(t, up.URL(), "CREATE ROLE reader LOGIN PASSWORD '"+markerPassword+"'")
	tests := map[string]struct{ addr, user, database, want string }{
		"nobody there":   {"127.0.0.1:1", "ada", "postgres", "no server listens"},
		"wrong password": {up.Addr(), "postgres", "postgres", "28P01"},
		"no database":    {up.Addr(), "reader", "absent", "3D000"},
		"no right":       {up.Addr(), "reader", "postgres", "42501"},
		"paused":         {paused.Addr(), "ada", "postgres", "in time"},
		"another server": {silent.Addr().String(), "ada", "postgres", "in time"},
	}
	for name, test := range tests {
		args := []string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0", "-provider=postgres", newKeysFlag(t),
			"-postgres-url=postgres://" + test.user + ":" + markerPassword + "@" + test.addr + "/" + test.database}
		var logs buffer
		began := time.Now()
		err := run(t.Context(), args, noEnv, io.Discard, &logs)
		if err == nil || !strings.Contains(err.Error(), "-postgres-url: PostgreSQL at "+test.addr) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if strings.Contains(logs.String()+errorText(err), "marker") {
			t.Errorf("%s: the log or the error shows the password", name)
		}
		if took := time.Since(began); took > 2*answerTimeout+goodbyeTimeout+time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}

// ask runs statements as a superuser.
func ask(t *testing.T, url string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal("the server cannot be reached") // the error may show the password
	}
	defer func() { _ = c.Close(context.Background()) }()
	for _, s := range statements {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPostgresGone: what PostgreSQL has acknowledged is there when it is back.
func TestPostgresGone(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "paused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server, store := openPostgresServer(t)
			serverGone(t, server, store, how == "paused", true)
		})
	}
}

// TestPostgresHangsAtTheEnd: the application ends in time, although the driver would
// wait for the server.
func TestPostgresHangsAtTheEnd(t *testing.T) {
	t.Parallel()
	server, store := openPostgresServer(t)
	s := open(t, append(store, "-auto-login")...)
	v := s.signedIn(t, "ada")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	v.get(t, "/").want(t, 503, "")
	began := time.Now()
	if err := s.close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > closeTimeout/2 {
		t.Errorf("stopping took %s", took)
	}
	if err := server.Resume(); err != nil { // and what is left of the driver ends
		t.Fatal(err)
	}
}

// TestPostgresTablesMadeBefore: a user who may not make tables can use those that
// somebody else has made; and processes that start at once do not disturb each other.
func TestPostgresTablesMadeBefore(t *testing.T) {
	t.Parallel()
	server, store := openPostgresServer(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cfg, err := parseConfig(store, noEnv, io.Discard)
			if err != nil {
				t.Error(err)
				return
			}
			s, err := openStore(t.Context(), &cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error("at once:", err)
				return
			}
			if err := s.close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ask(t, server.URL(), "CREATE ROLE app LOGIN PASSWORD '"+markerPassword+"'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app")
	u := mustParse(t, server.URL())
	u.User = url.UserPassword("app", markerPassword)
	s := open(t, store[0], store[2], "-auto-login", "-postgres-url="+u.String())
	v := s.signedIn(t, "ada")
	if got := v.me(t); got.Name != "ada" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(s.store.place, "PostgreSQL at "+server.Addr()) || strings.Contains(s.store.place, "marker") {
		t.Error("the place of the store is not told, or with the password")
	}
}

// TestPostgresSeesNoSecrets looks into all tables.
func TestPostgresSeesNoSecrets(t *testing.T) {
	t.Parallel()
	server, store := openPostgresServer(t)
	c, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal("the server cannot be reached")
	}
	db := stdlib.OpenDB(*c.Config())
	defer func() { _ = errors.Join(c.Close(context.Background()), db.Close()) }()
	dump := func() string {
		return dumpTables(t, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'") +
			dumpRows(t, db, "SELECT query FROM pg_stat_activity")
	}
	secrets, held := useWithSecrets(t, store, dump)
	hasNoSecrets(t, "what PostgreSQL holds", held, secrets, sqlPrefix+"records", sqlPrefix+"owners", "example_sessions")
}

// dumpTables is all that is in the tables, which the query lists.
func dumpTables(t *testing.T, db *sql.DB, list string) string {
	t.Helper()
	var b strings.Builder
	for table := range strings.FieldsSeq(dumpRows(t, db, list)) {
		text := dumpRows(t, db, "SELECT * FROM "+table)
		if text != "" {
			b.WriteString(table + "\n" + text)
		}
	}
	return b.String()
}

// dumpRows is what a query answers, as it is.
func dumpRows(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			b.WriteString(v.String + "\n")
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPostgresSessions(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	c, err := parsePostgresURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*c.ConnConfig)
	defer func() { _ = db.Close() }()
	records := &sqlSessions{db: db}
	if err := records.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	testSessions(t, records)
	testSessionSweep(t, records)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	sessionsEnd(t, records)
	if err := server.Resume(); err != nil { // and the driver gives up what has hung
		t.Fatal(err)
	}
}

// testSessionSweep checks that what is over is removed, and nothing else.
func testSessionSweep(t *testing.T, records *sqlSessions) {
	t.Helper()
	ctx, count := t.Context(), func() (n int) {
		if err := records.db.QueryRowContext(t.Context(), "SELECT count(*) FROM example_sessions").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	err := errors.Join(
		records.CommitCtx(ctx, "over", []byte("x"), time.Now().Add(-time.Millisecond)),
		records.CommitCtx(ctx, "kept", []byte("x"), time.Now().Add(time.Hour)),
		records.sweep(ctx),
	)
	if _, found, _ := records.FindCtx(ctx, "kept"); err != nil || !found || count() > before+1 {
		t.Errorf("%d sessions are left of %d, and kept is found %t: %v", count(), before+2, found, err)
	}
}

// TestPostgresIsSwept: what is over goes by itself.
func TestPostgresIsSwept(t *testing.T) {
	t.Parallel()
	server, store := openPostgresServer(t)
	s := open(t, store...)
	db, err := sql.Open("pgx", server.URL())
	if err != nil {
		t.Fatal("the server cannot be reached")
	}
	defer func() { _ = db.Close() }()
	isSwept(t, s, db)
}

func isSwept(t *testing.T, s *site, db *sql.DB) {
	t.Helper()
	save := func(owner string, expires time.Time) error {
		record := tokencache.Record{Version: tokencache.NewVersion(), Sealed: []byte("x"), Expires: expires}
		return errors.Join(
			s.store.provider.Save(t.Context(), tokencache.Name{Owner: owner, Partition: "partition"}, record, tokencache.Condition{}),
			s.store.sessions.Commit(owner, []byte("x"), expires),
		)
	}
	err := errors.Join(save("over", time.Now().Add(100*time.Millisecond)), save("kept", time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"owner FROM " + sqlPrefix + "records", "token FROM example_sessions"} {
		until(t, func() bool { return dumpRows(t, db, "SELECT "+column) == "kept\n" })
	}
}
