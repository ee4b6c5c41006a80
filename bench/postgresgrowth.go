package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// postgresShop is a server with so many partitions, a cache that loads each token,
// and a saver of about as many partitions as there are active users.
type postgresShop struct {
	*postgresBackend
	loading *tokencache.Cache
	keys    []tokencache.Key // of the active users
	saver   *saver
	disk    int // bytes that a partition takes
}

// measurePostgresGrowth is measureGrowth on two servers. Nothing is sealed, which
// would only add the same to both sides.
func measurePostgresGrowth(rounds int) (figures []figure, err error) {
	few, err := newPostgresShop(fewPartitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, few.close()) }()
	many, err := newPostgresShop(manyPartitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, many.close()) }()

	loads, err := ratio("PostgreSQL, 1 000 000 partitions to 1 000: token", atMost(1.2), rounds,
		side{"few", tokens(few.loading, few.keys, fromProvider)}, side{"many", tokens(many.loading, many.keys, fromProvider)})
	if err != nil {
		return nil, err
	}
	saves, err := ratioOn(1, "the same: conditional save", bar{}, rounds,
		side{"few", few.saver.saves}, side{"many", many.saver.saves})
	if err != nil {
		return nil, err
	}
	sweeping, err := many.whileSwept()
	if err != nil {
		return nil, err
	}
	payload := len(many.saver.records[0].Sealed)
	return []figure{loads, saves, sweeping, {
		"PostgreSQL: disk for a partition and its owner, to the payload", float64(many.disk) / float64(payload), "×", bar{},
		fmt.Sprintf("%d bytes for %d", many.disk, payload),
	}}, nil
}

func newPostgresShop(partitions int) (s *postgresShop, err error) {
	b, err := startPostgres()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	s = &postgresShop{postgresBackend: b}
	copying := &copying{Provider: b.provider, to: b}
	noted := &noting{Provider: copying, most: activeUsers}
	if s.keys, err = stock(noted, partitions, goroutines); err == nil {
		err = copying.flush(context.Background())
	}
	if err != nil {
		return nil, err
	}
	if err := b.settle(); err != nil {
		return nil, err
	}
	if s.disk, err = b.size(partitions); err != nil {
		return nil, err
	}
	if s.saver, err = saverOf(b.provider, noted.names); err != nil {
		return nil, err
	}
	s.loading, err = newCache(b.provider, false)
	return s, err
}

func (s *postgresShop) close() error {
	return errors.Join(s.loading.Close(context.Background()), s.postgresBackend.close())
}

// size is what a partition and its owner take on the disk, indexes included.
func (b *postgresBackend) size(partitions int) (int, error) {
	var rows, owners, bytes int
	err := b.pool.QueryRow(context.Background(), `
		SELECT (SELECT count(*) FROM coatcheck_records), (SELECT count(*) FROM coatcheck_owners),
			pg_total_relation_size('coatcheck_records') + pg_total_relation_size('coatcheck_owners')`).Scan(&rows, &owners, &bytes)
	if err == nil && (rows != partitions || owners != partitions) {
		err = fmt.Errorf("%d records and %d owners of %d partitions", rows, owners, partitions)
	}
	return bytes / partitions, err
}

// expired is how many records a sweep removes while loads are measured.
const expired = 100_000

// whileSwept compares loads during a sweep of very many records with those
// without one.
func (s *postgresShop) whileSwept() (figure, error) {
	load := tokens(s.loading, s.keys, fromProvider)
	began := time.Now()
	calm, err := each(load, func() bool { return time.Since(began) > time.Second })
	if err != nil {
		return figure{}, err
	}
	if err := s.exec(fmt.Sprintf(`
		INSERT INTO coatcheck_records (owner, partition, version, sealed, expires)
		SELECT md5('o' || i), md5('p' || i), decode(md5('v' || i), 'hex'), convert_to(repeat('s', 1600), 'UTF8'), 1
		FROM generate_series(1, %d) AS i`, expired), "ANALYZE coatcheck_records", "CHECKPOINT"); err != nil {
		return figure{}, err
	}
	var swept int
	var failed error
	done := make(chan struct{})
	began = time.Now()
	go func() {
		defer close(done)
		swept, failed = s.provider.Sweep(context.Background())
	}()
	busy, err := each(load, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	took := time.Since(began)
	<-done
	if err = errors.Join(err, failed); err == nil && swept != expired {
		err = fmt.Errorf("%d records were swept of %d", swept, expired)
	}
	return figure{
		what:  "the same: token while 100 000 expired records are swept, to one without",
		value: busy / calm, unit: "×", bar: atMost(2),
		detail: fmt.Sprintf("%v, %v; the sweep took %v", nanoseconds(busy), nanoseconds(calm), took.Round(time.Millisecond)),
	}, err
}

// each is how long one operation takes, in nanoseconds: the median of some at a
// time until it is over.
func each(do batch, over func() bool) (float64, error) {
	const atOnce = 10
	var took []float64
	for i := 0; !over(); i += atOnce {
		began := time.Now()
		if err := do(i, atOnce); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/atOnce)
	}
	return median(took), nil
}

// copying saves new records in bulk, as a million single saves take minutes. Only
// what has been flushed is there.
type copying struct {
	tokencache.Provider
	to *postgresBackend

	mu   sync.Mutex
	rows [][]any
}

const copyAtOnce = 10_000

func (c *copying) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, _ tokencache.Condition) error {
	c.mu.Lock()
	c.rows = append(c.rows, []any{n.Owner, n.Partition, r.Version[:], r.Sealed, r.Expires.UnixMilli()})
	full := len(c.rows) >= copyAtOnce
	c.mu.Unlock()
	if full {
		return c.flush(ctx)
	}
	return nil
}

func (c *copying) flush(ctx context.Context) error {
	c.mu.Lock()
	rows := c.rows
	c.rows = nil
	c.mu.Unlock()
	owners := make([][]any, len(rows))
	for i, row := range rows {
		owners[i] = []any{row[0], 0, row[4]}
	}
	for _, t := range []struct {
		table   string
		columns []string
		rows    [][]any
	}{
		{"coatcheck_owners", []string{"owner", "mark_expires", "expires"}, owners},
		{"coatcheck_records", []string{"owner", "partition", "version", "sealed", "expires"}, rows},
	} {
		if _, err := c.to.pool.CopyFrom(ctx, pgx.Identifier{t.table}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
			return err
		}
	}
	return nil
}
