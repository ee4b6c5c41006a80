package sql

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func (p *postgres) load(ctx context.Context, n tokencache.Name) (s stored, err error) {
	err = p.call(ctx, repeatable, func(db PgxDB) error {
		s = stored{}
		rows, err := db.Query(ctx, p.sql.load, n.Owner, n.Partition, int32(tokencache.MaxSealedSize))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := s.add(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return s, err
}

// add takes a row of pgLoad, unless it has expired.
func (s *stored) add(rows pgx.Rows) error {
	var version, sent, sealed []byte
	var expires pgtype.Int8
	var size int
	if err := rows.Scan(&version, &expires, &sent, &size, &sealed); err != nil {
		return err
	}
	left, err := leftOf(expires.Int64, sent)
	switch {
	case err != nil:
		return err
	case left == 0 || !expires.Valid || version == nil:
		// expired, or a row that is not ours, in a table without its constraints
	case size < 0:
		s.mark = version
	default:
		s.found, s.version, s.size, s.sealed, s.left = true, version, size, sealed, left
	}
	return nil
}

// pgYear2000 is the start of 2000, in microseconds since 1970.
const pgYear2000 = 946_684_800_000_000

// leftOf is what is left, at the time that pgSent tells, of a life that ends then.
// It counts milliseconds as pgNow does, which rounds them.
func leftOf(expires int64, sent []byte) (int64, error) {
	if len(sent) != 8 {
		return 0, errors.New("the server's time is not 8 bytes long")
	}
	now := (int64(binary.BigEndian.Uint64(sent)) + pgYear2000 + 500) / 1000 // #nosec G115 -- signed, as sent
	switch {
	case expires <= now:
		return 0, nil
	case expires == math.MaxInt64:
		return forever, nil
	}
	return expires - now, nil
}

// save chooses the statement. One without a condition is sent once: after a lost
// reply it would undo what others have done since.
func (p *postgres) save(ctx context.Context, n tokencache.Name, r *tokencache.Record, life int64, c tokencache.Condition) (outcome, error) {
	args := []any{n.Owner, n.Partition, r.Version[:], life}
	sql, again := p.sql.removeAbsent, repeatable
	if !r.Removed() {
		var seen []byte
		if r.Mark != (tokencache.Version{}) {
			seen = r.Mark[:]
		}
		args = append(args, r.Sealed, seen)
		sql = p.sql.saveAbsent
	}
	old, byVersion := c.Version()
	switch {
	case byVersion:
		args = append(args, old[:])
		if sql = p.sql.saveVersion; r.Removed() {
			sql = p.sql.removeVersion
		}
	case c.Unconditional():
		again = once
		if sql = p.sql.saveAlways; r.Removed() {
			sql = p.sql.removeAlways
		}
	}
	o, indexed, err := p.saveBy(ctx, again, sql, args)
	if err == nil && !indexed {
		// The owner has no row whose lock would keep SetMark out.
		o, _, err = p.saveBy(ctx, again, p.sql.saveUnindexed, args)
	}
	return o, err
}

func (p *postgres) saveBy(ctx context.Context, again repeat, sql string, args []any) (o outcome, indexed bool, err error) {
	var saved bool
	var refused *bool
	_, err = p.row(ctx, again, sql, args, &saved, &refused)
	switch {
	case err != nil || saved:
		return done, true, err
	case refused == nil:
		return conflict, false, nil
	case *refused:
		return removed, true, nil
	}
	return conflict, true, nil
}

func (p *postgres) touch(ctx context.Context, n tokencache.Name, v tokencache.Version, life int64) (outcome, error) {
	var touched, there bool
	_, err := p.row(ctx, repeatable, p.sql.touch, []any{n.Owner, n.Partition, v[:], life}, &touched, &there)
	switch {
	case err != nil || touched:
		return done, err
	case there:
		return conflict, nil
	}
	return notFound, nil
}

func (p *postgres) setMark(ctx context.Context, owner string, mark tokencache.Version, life int64) error {
	return p.call(ctx, once, func(db PgxDB) error {
		_, err := db.Exec(ctx, p.sql.setMark, owner, mark[:], life)
		return err
	})
}

func (p *postgres) list(ctx context.Context, owner string) (partitions []string, err error) {
	err = p.call(ctx, repeatable, func(db PgxDB) error {
		rows, err := db.Query(ctx, p.sql.list, owner)
		if err != nil {
			return err
		}
		partitions, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, err
	}
	return partitions, nil
}

func (p *postgres) acquire(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error) {
	if p.server.quiet() {
		return false, nil
	}
	var started int64
	granted, err := p.row(ctx, repeatable, p.sql.acquire, []any{n.Owner, n.Partition, holder, life}, &started)
	if err != nil || !granted {
		return false, err
	}
	// Others may have noticed while this statement was on its way.
	if p.server.seen(started); p.server.quiet() {
		_, err := p.release(ctx, n, holder)
		return false, inDoubt(err)
	}
	return true, nil
}

func (p *postgres) renew(ctx context.Context, n tokencache.Name, holder []byte, life int64) (bool, error) {
	var one int
	return p.row(ctx, repeatable, p.sql.renew, []any{n.Owner, n.Partition, holder, life}, &one)
}

func (p *postgres) release(ctx context.Context, n tokencache.Name, holder []byte) (bool, error) {
	var one int
	return p.row(ctx, repeatable, p.sql.release, []any{n.Owner, n.Partition, holder}, &one)
}

// sweepStep bounds what one statement removes, and so how long it holds locks.
const sweepStep = 500

func (p *postgres) sweep(ctx context.Context) (count int, more bool, err error) {
	// Owners after records, so that their rows go in the same sweep.
	for i, sql := range []string{p.sql.sweepRecords, p.sql.sweepOwner, p.sql.sweepLeases} {
		var looked, swept int
		if _, err := p.row(ctx, repeatable, sql, []any{int32(sweepStep)}, &looked, &swept); err != nil {
			return count, false, err
		}
		count += swept
		if looked == sweepStep {
			more = true
			if i == 0 {
				return count, true, nil // the records first
			}
		}
	}
	return count, more, nil
}
