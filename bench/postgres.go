package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// postgresBackend is a private PostgreSQL server, a pool of connections to it and
// a provider on the pool.
type postgresBackend struct {
	server   *testserver.Postgres
	pool     *pgxpool.Pool
	provider *sqlprovider.Provider
}

// startPostgres fails with exec.ErrNotFound where PostgreSQL is not installed. What
// is committed is on the disk, as it is by default.
func startPostgres() (b *postgresBackend, err error) {
	server, err := testserver.StartPostgres("shared_buffers = 512MB", "max_wal_size = 4GB", "fsync = on")
	if err != nil {
		return nil, err
	}
	b = &postgresBackend{server: server}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	config, err := pgxpool.ParseConfig(server.URL())
	if err != nil {
		return nil, errors.New("the server's URL does not parse")
	}
	config.MaxConns = goroutines
	ctx := context.Background()
	if b.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	db := sqlprovider.Postgres(b.pool, &sqlprovider.Options{Log: slog.New(slog.DiscardHandler)})
	if err := db.Migrate(ctx); err != nil {
		return nil, err
	}
	b.provider, err = sqlprovider.New(ctx, db)
	return b, err
}

func (b *postgresBackend) close() (err error) {
	if b.provider != nil {
		err = b.provider.Close(context.Background())
	}
	if b.pool != nil {
		b.pool.Close()
	}
	return errors.Join(err, b.server.Close())
}

// exec runs statements without parameters.
func (b *postgresBackend) exec(statements ...string) error {
	for _, sql := range statements {
		if _, err := b.pool.Exec(context.Background(), sql); err != nil {
			return err
		}
	}
	return nil
}

// settle has the server do now what it would do behind the measurement.
func (b *postgresBackend) settle() error {
	return b.exec("VACUUM (FREEZE, ANALYZE)", "CHECKPOINT")
}

// measurePostgres measures partitions of 8 KB.
func measurePostgres(rounds int) (figures []figure, err error) {
	b, err := startPostgres()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, measure := range []func(*postgresBackend, int) ([]figure, error){measurePostgresLoads, measurePostgresSaves} {
		some, err := measure(b, rounds)
		if err != nil {
			return nil, err
		}
		figures = append(figures, some...)
	}
	return figures, nil
}

// measurePostgresLoads compares tokens, and the provider's part in them, with a
// SELECT of the very records that they are in, by the primary key.
func measurePostgresLoads(b *postgresBackend, rounds int) (figures []figure, err error) {
	noted := &noting{Provider: b.provider, most: activeUsers}
	cache, err := sealedCache(noted)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	keys, err := eightKB.signIn(cache)
	if err != nil {
		return nil, err
	}
	if err := b.settle(); err != nil {
		return nil, err
	}
	size, err := b.length(noted.names[0])
	if err != nil {
		return nil, err
	}
	sel := side{"SELECT", b.selects(noted.names, size)}
	token, load := side{"token", tokens(cache, keys, fromProvider)}, side{"Load", loads(b.provider, noted.names)}
	for _, c := range []struct {
		what       string
		bar        bar
		goroutines int
		other      side
	}{
		{"PostgreSQL: token of an 8 KB partition, to a bare SELECT, 1 goroutine", atMost(1.2), 1, token},
		{"the same, 16 goroutines", bar{}, goroutines, token},
		{"the provider's Load alone, 1 goroutine", bar{}, 1, load},
		{"the same, 16 goroutines", bar{}, goroutines, load},
	} {
		f, err := ratioOn(c.goroutines, c.what, c.bar, rounds, sel, c.other)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	figures[0].detail += fmt.Sprintf("; %d bytes", size)
	return figures, nil
}

// length is that of a record's contents.
func (b *postgresBackend) length(n tokencache.Name) (size int, err error) {
	err = b.pool.QueryRow(context.Background(),
		"SELECT octet_length(sealed) FROM coatcheck_records WHERE owner = $1 AND partition = $2", n.Owner, n.Partition).Scan(&size)
	return size, err
}

// selects reads contents of about that size. pgx prepares the statement once for
// each connection.
func (b *postgresBackend) selects(names []tokencache.Name, size int) batch {
	const sql = "SELECT sealed FROM coatcheck_records WHERE owner = $1 AND partition = $2"
	return func(first, n int) error {
		for i := range n {
			var value []byte
			name := names[(first+i)%len(names)]
			if err := b.pool.QueryRow(context.Background(), sql, name.Owner, name.Partition).Scan(&value); err != nil {
				return err
			}
			if len(value) < size-100 {
				return errMiss
			}
		}
		return nil
	}
}

// measurePostgresSaves compares conditional saves with an upsert of as many bytes
// under keys as long, into a table without anything else.
func measurePostgresSaves(b *postgresBackend, rounds int) ([]figure, error) {
	const size = 8 << 10
	s, err := newSaver(b.provider, activeUsers, size)
	if err != nil {
		return nil, err
	}
	upserts, err := b.upserts(activeUsers, size)
	if err != nil {
		return nil, err
	}
	upsert, save := side{"upsert", upserts}, side{"save", s.saves}
	alone, err := ratioOn(1, "PostgreSQL: conditional save with all it does, to a bare upsert of 8 KB", atMost(1.4), rounds, upsert, save)
	if err != nil {
		return nil, err
	}
	cache, err := sealedCache(b.provider) // it asks for changes
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	again, err := ratioOn(1, "the cache's own: load, open, merge, seal, save", bar{}, rounds, upsert, side{"sign-in", eightKB.signInAgain(cache)})
	if err != nil {
		return nil, err
	}
	if err := b.exec("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"); err != nil {
		return nil, err
	}
	diskless, err := ratioOn(1, "a conditional save, if neither waits for the disk", bar{}, rounds, upsert, save)
	return []figure{alone, again, diskless}, err
}

// upserts replaces values under keys of the same shape as a record's.
func (b *postgresBackend) upserts(count, size int) (batch, error) {
	if err := b.exec(
		`CREATE TABLE bare (owner text COLLATE "C", partition text COLLATE "C", value bytea, PRIMARY KEY (owner, partition))`,
		"ALTER TABLE bare ALTER COLUMN value SET STORAGE EXTERNAL",
	); err != nil {
		return nil, err
	}
	const sql = "INSERT INTO bare VALUES ($1, $2, $3) ON CONFLICT (owner, partition) DO UPDATE SET value = excluded.value"
	owners, partitions, values := make([]string, count), make([]string, count), make([][]byte, count)
	for i := range count {
		owners[i], partitions[i], values[i] = randomName(), randomName(), random(size)
	}
	upsert := func(first, n int) error {
		for i := range n {
			at := (first + i) % count
			if _, err := b.pool.Exec(context.Background(), sql, owners[at], partitions[at], values[at]); err != nil {
				return err
			}
		}
		return nil
	}
	return upsert, upsert(0, count)
}
