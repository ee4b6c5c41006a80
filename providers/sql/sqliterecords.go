package sql

import (
	"context"
	"database/sql"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func (s *sqlite) load(ctx context.Context, n tokencache.Name) (stored, error) {
	var r stored
	_, err := s.read(ctx, s.sql.load, []any{n.Owner, n.Partition, tokencache.MaxSealedSize},
		&r.mark, &r.found, &r.version, &r.size, &r.sealed, &r.left)
	if err != nil {
		return stored{}, err
	}
	return r, nil
}

// save chooses the statement. When it changes nothing, another tells why; and if
// that has gone meanwhile, the save is tried again.
func (s *sqlite) save(ctx context.Context, n tokencache.Name, r *tokencache.Record, life int64, c tokencache.Condition) (outcome, error) {
	args := []any{n.Owner, n.Partition, r.Version[:], life}
	query, seen := s.sql.removeAbsent, any(nil)
	if !r.Removed() {
		if r.Mark != (tokencache.Version{}) {
			seen = r.Mark[:]
		}
		args = append(args, r.Sealed, seen)
		query = s.sql.saveAbsent
	}
	old, byVersion := c.Version()
	switch {
	case byVersion:
		args = append(args, old[:])
		if query = s.sql.saveVersion; r.Removed() {
			query = s.sql.removeVersion
		}
	case c.Unconditional():
		if query = s.sql.saveAlways; r.Removed() {
			query = s.sql.removeAlways
		}
	}
	for {
		saved, err := s.write(ctx, query, args...)
		if err != nil || saved {
			return done, err
		}
		refused, found, version, err := s.state(ctx, n, seen)
		switch {
		case err != nil:
			return done, err
		case refused && !r.Removed():
			return removed, nil
		case byVersion && (!found || version != old), !byVersion && !c.Unconditional() && found:
			return conflict, nil
		}
	}
}

// state tells what may have been in the way of a save: whether the owner's mark is
// not the one that was seen, and which version is stored.
func (s *sqlite) state(ctx context.Context, n tokencache.Name, seen any) (refused, found bool, v tokencache.Version, err error) {
	var version []byte
	_, err = s.read(ctx, s.sql.state, []any{n.Owner, n.Partition, seen}, &refused, &found, &version)
	if len(version) == len(v) {
		v = tokencache.Version(version)
	}
	return refused, found, v, err
}

func (s *sqlite) touch(ctx context.Context, n tokencache.Name, v tokencache.Version, life int64) (outcome, error) {
	for {
		touched, err := s.write(ctx, s.sql.touch, n.Owner, n.Partition, v[:], life)
		if err != nil || touched {
			return done, err
		}
		_, found, version, err := s.state(ctx, n, nil)
		switch {
		case err != nil:
			return done, err
		case !found:
			return notFound, nil
		case version != v || v == (tokencache.Version{}):
			return conflict, nil
		}
	}
}

func (s *sqlite) setMark(ctx context.Context, owner string, mark tokencache.Version, life int64) error {
	_, err := s.write(ctx, s.sql.setMark, owner, mark[:], life)
	return err
}

func (s *sqlite) list(ctx context.Context, owner string) (partitions []string, err error) {
	err = s.call(ctx, func() error {
		partitions = nil
		return sqliteRows(ctx, s, s.sql.list, []any{owner}, func(rows *sql.Rows) error {
			var partition string
			err := rows.Scan(&partition)
			partitions = append(partitions, partition)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return partitions, nil
}

func (s *sqlite) acquire(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error) {
	return s.write(ctx, s.sql.acquire, n.Owner, n.Partition, holder, life)
}

func (s *sqlite) renew(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error) {
	return s.write(ctx, s.sql.renew, n.Owner, n.Partition, holder, life)
}

func (s *sqlite) release(ctx context.Context, n tokencache.Name, holder []byte) (bool, error) {
	return s.write(ctx, s.sql.release, n.Owner, n.Partition, holder)
}

// sweep leaves the lock to others for as long as it has held it, if it will need it
// again.
func (s *sqlite) sweep(ctx context.Context) (count int, more bool, err error) {
	start := time.Now()
	for i, query := range s.sql.sweep {
		var swept int64
		err := s.inTurn(ctx, func() error {
			result, err := s.db.ExecContext(ctx, query, sweepStep)
			if err == nil {
				swept, err = result.RowsAffected()
			}
			return err
		})
		if err != nil {
			return count, false, err
		}
		if i < 2 { // not the leases
			count += int(swept)
		}
		more = more || swept == sweepStep
	}
	if more {
		background.Sleep(ctx, time.Since(start))
	}
	return count, more, nil
}
