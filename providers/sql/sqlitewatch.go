package sql

import (
	"context"
	"database/sql"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// sqlitePoller looks for saves with a greater number than the last one. Saves are
// numbered in the order of their commits, so that is exact. To ask the index costs
// no more than to ask SQLite whether the file has changed, which besides needs a
// connection that is kept for it, and is not told of changes through the same one.
type sqlitePoller struct {
	s     *sqlite
	last  int64
	begun bool
}

func (s *sqlite) poller(context.Context) (poller, error) { return &sqlitePoller{s: s}, nil }

func (w *sqlitePoller) poll(ctx context.Context) (changes []tokencache.Change, missed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	if !w.begun {
		_, err = w.s.read(ctx, w.s.sql.begin, nil, &w.last)
		w.begun = err == nil
		return nil, true, err
	}
	var greatest int64
	err = w.s.call(ctx, func() error {
		changes = nil
		return sqliteRows(ctx, w.s, w.s.sql.poll, []any{w.last, watchMost + 1}, func(rows *sql.Rows) error {
			var change int64
			var owner, partition sql.NullString
			var version, replaced []byte
			if err := rows.Scan(&change, &owner, &partition, &version, &replaced); err != nil {
				return err
			}
			if !owner.Valid {
				greatest = change
				return nil
			}
			c := tokencache.Change{Name: tokencache.Name{Owner: owner.String, Partition: partition.String}}
			copy(c.Version[:], version)
			copy(c.Replaced[:], replaced)
			changes = append(changes, c)
			return nil
		})
	})
	if err != nil {
		return nil, false, err
	}
	missed = greatest < w.last || len(changes) > watchMost
	w.last = greatest
	return changes, missed, nil
}

func (w *sqlitePoller) wait(ctx context.Context) { background.Sleep(ctx, watchInterval) }

func (w *sqlitePoller) close() {}
