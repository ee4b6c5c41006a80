package sql

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// postgres is the dialect of PostgreSQL.
type postgres struct {
	db     PgxDB
	prefix string
	log    *slog.Logger
	listen func(context.Context) (*pgx.Conn, error)
	sql    *pgStatements
	all    []migration

	turn   chan struct{} // of the calls through one connection; nil for many
	single bool          // db is one connection
	inTx   bool          // db is a transaction of the caller

	server server
	health health
}

func newPostgres(db PgxDB, o *Options) *postgres {
	p := &postgres{
		db: db, prefix: o.Prefix, log: o.Log, listen: o.Listen,
		sql: newPgStatements(o.Prefix, o.Listen != nil), all: migrations("postgres", o.Prefix),
	}
	switch db.(type) {
	case pgx.Tx:
		p.single, p.inTx = true, true
	case *pgx.Conn, interface{ Conn() *pgx.Conn }: // the latter is one of a pool
		p.single = true
	}
	if p.single {
		p.turn = make(chan struct{}, 1)
	}
	return p
}

func (p *postgres) schema() []migration { return p.all }

func (p *postgres) offers(to *Provider) tokencache.Capabilities {
	caps := tokencache.Capabilities{Punctual: true, Toucher: to, Owners: to, Pinger: to, Lister: to}
	if !p.inTx {
		caps.Leaser, caps.Watcher, caps.Sweeper = to, to, to
	}
	return caps
}

const (
	// pgTries bounds how often a statement is tried that was not carried out
	// because of others. One of those who collide gets through each time.
	pgTries = 24
	// pgPause is the pause before the second try; it grows with each.
	pgPause = time.Millisecond
	// pgLongest bounds it.
	pgLongest = 32 * time.Millisecond
)

// repeat tells whether a statement is sent again after a connection was lost.
type repeat int

const (
	repeatable repeat = iota
	once              // only if it cannot have been carried out
	never
)

// row runs a statement of one row, and tells whether there was one. What has not
// been carried out is tried again, and what can be repeated also once after a
// connection was lost. In a transaction of the caller nothing is.
func (p *postgres) row(ctx context.Context, again repeat, sql string, args []any, into ...any) (found bool, err error) {
	err = p.call(ctx, again, func(db PgxDB) error {
		err := db.QueryRow(ctx, sql, args...).Scan(into...)
		found = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return found, err
}

// call makes a call of the driver as often as it takes, see row, and returns its
// error in our words.
func (p *postgres) call(ctx context.Context, again repeat, f func(PgxDB) error) error {
	lost, sent := false, false // sent: an earlier try may have been carried out
	for try := 1; ; try++ {
		err := p.inTurn(ctx, f)
		if err == nil {
			p.health.answered()
			return nil
		}
		kind := kindOf(ctx, err)
		p.note(kind)
		switch {
		case p.inTx || ctx.Err() != nil:
			return p.mapped(ctx, err, sent)
		case kind == pgCollided && try < pgTries:
			if !background.Sleep(ctx, pause(try)) {
				return p.mapped(ctx, err, sent)
			}
		case kind == pgLost && !lost && (again == repeatable || again == once && undone(err)):
			lost, sent = true, sent || !undone(err)
		default:
			return p.mapped(ctx, err, sent)
		}
	}
}

// inTurn has the calls through one connection wait for each other.
func (p *postgres) inTurn(ctx context.Context, f func(PgxDB) error) error {
	if pool, ok := p.db.(*pgxpool.Pool); ok { // what embeds one has methods of its own
		return onConn(ctx, pool, f)
	}
	if p.turn == nil {
		return f(p.db)
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return &failure{text: "the connection is busy with other calls", err: ctx.Err(), undone: true}
	}
	defer func() { <-p.turn }()
	return f(p.db)
}

func pause(try int) time.Duration {
	longest := min(pgPause<<min(try, 10), pgLongest)
	return longest/2 + rand.N(longest) // #nosec G404 -- jitter, not a secret
}

func (p *postgres) ping(ctx context.Context) error {
	var one int
	_, err := p.row(ctx, repeatable, "SELECT 1", nil, &one)
	return err
}

// server is what is known of the server.
type server struct {
	mu      sync.Mutex
	started int64     // when it was, in microseconds since 1970
	noticed time.Time // when that was found to have changed
}

// leaseQuiet is how long no lease is granted after the server was found to have
// been started anew: it may be another one, which has not all that the former had
// acknowledged. Other machines get time to notice, and to put it back.
const leaseQuiet = 500 * time.Millisecond

// seen notes when the server was started.
func (s *server) seen(started int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started != 0 && s.started != started {
		s.noticed = time.Now()
	}
	s.started = started
}

// quiet tells whether it is too early for leases.
func (s *server) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.noticed.IsZero() && time.Since(s.noticed) < leaseQuiet
}
