package sql

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// pgPoller looks for the records whose last save was not visible to the snapshot
// of the poll before. That is exact in whichever order transactions commit: a long
// one in front of others holds nothing up, and has nothing told twice.
type pgPoller struct {
	p        *postgres
	snapshot string // of the last poll, "" before the first
	started  int64  // when the server was
	ear      *ear   // nil without Options.Listen
}

// watchCall bounds a poll. Others who use the same connection bound it too.
const watchCall = 2 * time.Second

func (p *postgres) poller(ctx context.Context) (poller, error) {
	w := &pgPoller{p: p}
	if p.listen != nil {
		w.ear = newEar(ctx, p)
	}
	return w, nil
}

// errStandby is what a standby answers to who writes. Its snapshots do not tell
// which transactions are under way, so that what these save would not be heard of.
// And it is not yet the server that everyone goes on with: when it is, that has to
// be noticed, see [server].
var errStandby = &pgconn.PgError{Severity: "ERROR", Code: "25006"}

// poll is not repeated after a lost connection: the server may have crashed, and
// lost transactions that the snapshot had seen.
func (w *pgPoller) poll(ctx context.Context) (changes []tokencache.Change, missed bool, err error) {
	if w.p.single {
		ctx = context.WithoutCancel(ctx) // whose end would close the connection
	}
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	next, first := *w, w.snapshot == ""
	sql, args := w.p.sql.poll, []any{w.snapshot, int32(watchMost + 1)}
	if first {
		sql, args = w.p.sql.begin, nil
	}
	err = w.p.call(ctx, never, func(db PgxDB) error {
		rows, err := db.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		changes, err = next.collect(rows)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	missed = first || next.started != w.started || len(changes) > watchMost
	w.p.server.seen(next.started)
	w.snapshot, w.started = next.snapshot, next.started
	if w.ear != nil && len(changes) > 0 {
		w.ear.check(ctx)
	}
	return changes, missed, nil
}

// collect reads the answer of a poll: the new snapshot, and changes in any order.
func (w *pgPoller) collect(rows pgx.Rows) (changes []tokencache.Change, err error) {
	defer rows.Close()
	for rows.Next() {
		var snapshot, owner, partition *string
		var started *int64
		var standby *bool
		var version, replaced []byte
		if err := rows.Scan(&snapshot, &started, &standby, &owner, &partition, &version, &replaced); err != nil {
			return nil, err
		}
		if snapshot != nil {
			if *standby {
				return nil, errStandby
			}
			w.snapshot, w.started = *snapshot, *started
			continue
		}
		c := tokencache.Change{Name: tokencache.Name{Owner: *owner, Partition: *partition}}
		copy(c.Version[:], version)
		copy(c.Replaced[:], replaced)
		changes = append(changes, c)
	}
	return changes, rows.Err()
}

func (w *pgPoller) wait(ctx context.Context) {
	if w.ear == nil {
		background.Sleep(ctx, watchInterval)
		return
	}
	w.ear.wait(ctx)
}

func (w *pgPoller) close() {
	if w.ear != nil {
		w.ear.close()
	}
}
