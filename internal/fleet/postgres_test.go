package fleet

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// listening is the kind of a backend whose processes are told of changes. The
// usual one has them ask.
const listening = "postgres, listening"

// openPostgres makes a provider as an application would.
func openPostgres(u *url.URL, s *setup) (tokencache.Provider, closer, error) {
	return openPool(u, s, &sqlprovider.Options{Log: quiet()})
}

func openListening(u *url.URL, s *setup) (tokencache.Provider, closer, error) {
	return openPool(u, s, &sqlprovider.Options{
		Log:    quiet(),
		Listen: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, u.String()) },
	})
}

func openPool(u *url.URL, s *setup, o *sqlprovider.Options) (tokencache.Provider, closer, error) {
	config, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, nil, errors.New("the backend's URL is malformed") // the error has it in it
	}
	if s.RetryPause > 0 {
		config.MaxConns = 1 // so that a call that is repeated needs a new one
		config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(s.RetryPause)
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, nil, err
	}
	db := sqlprovider.PgxDB(pool)
	if s.NoRetries {
		db = once{pool}
	}
	ctx, cancel := background()
	defer cancel()
	p, err := sqlprovider.New(ctx, sqlprovider.Postgres(db, o))
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return p, func(ctx context.Context) error {
		defer pool.Close()
		return p.Close(ctx)
	}, nil
}

// once is a pool whose errors do not tell that a connection was lost, so that
// nothing is sent again for that.
type once struct{ *pgxpool.Pool }

var errVague = errors.New("something went wrong")

func vague(err error) error {
	var reply *pgconn.PgError
	if err == nil || errors.Is(err, pgx.ErrNoRows) || errors.As(err, &reply) {
		return err
	}
	return errVague
}

func (o once) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := o.Pool.Exec(ctx, sql, args...)
	return tag, vague(err)
}

func (o once) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := o.Pool.Query(ctx, sql, args...)
	return onceRows{rows}, vague(err)
}

func (o once) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return onceRow{o.Pool.QueryRow(ctx, sql, args...)}
}

type (
	onceRows struct{ pgx.Rows }
	onceRow  struct{ pgx.Row }
)

func (r onceRows) Err() error            { return vague(r.Rows.Err()) }
func (r onceRow) Scan(into ...any) error { return vague(r.Row.Scan(into...)) }

// postgresService is a private server with one user more, who may not ask for
// snapshots, and so hears of no changes.
type postgresService struct {
	kind   string
	server *testserver.Postgres
	pool   *pgxpool.Pool
	secret string // deafUser's password
}

func startPostgres(t *testing.T) service  { return newPostgres(t, "postgres") }
func startListening(t *testing.T) service { return newPostgres(t, listening) }

func newPostgres(t *testing.T, kind string) *postgresService {
	t.Helper()
	s := &postgresService{kind: kind, secret: tokencache.NewVersion().String()}
	s.server = testserver.NewPostgres(t, "logging_collector = on", "log_rotation_size = 0") // one log, that can be read
	var err error
	s.pool, err = pgxpool.New(t.Context(), s.server.URL())
	check(t, err)
	t.Cleanup(s.pool.Close)
	check(t, sqlprovider.Postgres(s.pool, nil).Migrate(t.Context()))
	s.run(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", deafUser, s.secret))
	s.run(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+deafUser)
	s.run(t, "REVOKE EXECUTE ON FUNCTION pg_current_snapshot() FROM PUBLIC")
	return s
}

func (s *postgresService) run(t *testing.T, sql string) {
	t.Helper()
	_, err := s.pool.Exec(t.Context(), sql)
	check(t, err)
}

func (s *postgresService) at() backend { return backend{s.kind, s.server.URL()} }

func (s *postgresService) deaf() backend {
	u, err := url.Parse(s.server.URL())
	if err != nil {
		panic("the backend's URL is malformed")
	}
	u.User = url.UserPassword(deafUser, s.secret)
	return backend{s.kind, u.String()}
}

// traits: a process asks every 250 ms, and a test that waits for that begins each
// round at the same moment of it.
func (s *postgresService) traits() traits {
	if s.kind == listening {
		return traits{heard: 100 * time.Millisecond, share: 0.2}
	}
	return traits{heard: 400 * time.Millisecond, share: 0.2}
}

// spy is the server's log of all statements and their parameters. It shows bytea
// in hexadecimal: what that stands for is looked through, too.
func (s *postgresService) spy(t *testing.T, words []string) func() (int, []string) {
	t.Helper()
	s.log(t, "all")
	begin := s.logged(t)
	return func() (int, []string) {
		t.Helper()
		s.run(t, "SELECT '"+lastWord+"'")
		s.log(t, "none")
		found := map[string]bool{}
		log := &logReader{service: s, at: begin}
		for last := false; !last; {
			line := log.line(t)
			last = bytes.Contains(line, []byte(lastWord))
			seen := plain(line)
			for _, word := range words {
				if bytes.Contains(seen, []byte(word)) {
					found[word] = true
				}
			}
		}
		return log.at - begin, slices.Sorted(maps.Keys(found))
	}
}

// plain adds to a line of the log what the bytea in it stands for: '\x68656c6c6f'.
func plain(line []byte) []byte {
	all := bytes.Clone(line)
	for rest := line; ; {
		_, shown, ok := bytes.Cut(rest, []byte(`'\x`))
		if !ok {
			return all
		}
		shown, rest, _ = bytes.Cut(shown, []byte("'"))
		if value, err := hex.DecodeString(string(shown)); err == nil {
			all = append(append(all, ' '), value...)
		}
	}
}

// log has the server log statements, or not, from when it returns.
func (s *postgresService) log(t *testing.T, which string) {
	t.Helper()
	s.run(t, "ALTER SYSTEM SET log_statement = '"+which+"'")
	s.run(t, "SELECT pg_reload_conf()")
	eventually(t, func() error { // with a new connection, which has what the server has
		conn, err := pgx.Connect(t.Context(), s.server.URL())
		if err != nil {
			return err
		}
		var now string
		err = conn.QueryRow(t.Context(), "SHOW log_statement").Scan(&now)
		if err == nil && now != which {
			err = errors.New("the server does not know yet what to log")
		}
		return errors.Join(err, conn.Close(t.Context()))
	})
}

// logged is how much is in the log.
func (s *postgresService) logged(t *testing.T) (size int) {
	t.Helper()
	check(t, s.pool.QueryRow(t.Context(), "SELECT size FROM pg_stat_file(pg_current_logfile())").Scan(&size))
	return size
}

// logReader reads the log from a place on.
type logReader struct {
	service *postgresService
	at      int // how far it has been read
	rest    []byte
}

// line waits for the next line.
func (r *logReader) line(t *testing.T) []byte {
	t.Helper()
	for {
		if line, rest, ok := bytes.Cut(r.rest, []byte("\n")); ok {
			r.rest = rest
			return line
		}
		eventually(t, func() error {
			var more []byte
			err := r.service.pool.QueryRow(t.Context(),
				"SELECT pg_read_binary_file(pg_current_logfile(), $1, 1 << 20)", r.at).Scan(&more)
			if err == nil && len(more) == 0 {
				err = errors.New("the log ends too early")
			}
			r.at += len(more)
			r.rest = append(r.rest, more...)
			return err
		})
	}
}

// dump is every row of every table, with the names of the tables.
func (s *postgresService) dump(t *testing.T) []byte {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	check(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(t, err)
	var all bytes.Buffer
	for _, table := range tables {
		all.WriteString(table + "\n")
		rows, err := s.pool.Query(t.Context(), "SELECT * FROM "+table)
		check(t, err)
		for rows.Next() {
			values, err := rows.Values()
			check(t, err)
			for _, value := range values {
				if b, ok := value.([]byte); ok {
					value = string(b)
				}
				fmt.Fprintln(&all, value)
			}
		}
		check(t, rows.Err())
	}
	return all.Bytes()
}
