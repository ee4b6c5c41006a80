package sql

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// goodbye is how long a server has to end a connection on which it was late.
const goodbye = time.Second

// onConn makes a call of the driver on a connection of the pool.
func onConn(ctx context.Context, pool *pgxpool.Pool, f func(PgxDB) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = f(conn)
	if err != nil {
		hasten(conn.Conn())
	}
	return err
}

// hasten ends a connection that pgx has closed, as it does after a late answer. By
// itself it asks the server to cancel, and waits 15 s for it to hang up; until then
// the pool makes no connection in its place. That is longer than a lease: a few
// connections that a firewall has forgotten would keep a machine from the store
// until others spend the refresh tokens that it has spent already.
func hasten(conn *pgx.Conn) {
	if conn.IsClosed() {
		line := conn.PgConn().Conn()
		time.AfterFunc(goodbye, func() { _ = line.Close() })
	}
}
