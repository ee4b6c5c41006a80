package sql

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ear is a connection that hears of changes, and is made again when it is lost.
// Until then, there are only the polls.
type ear struct {
	p     *postgres
	conn  *pgx.Conn       // nil while there is none
	dials chan dialed     // of the goroutine that makes one; nil if none does
	life  context.Context // ends with close
	end   context.CancelFunc
	next  time.Time // when to make the next connection
	deaf  bool      // the last wait has heard nothing
	told  bool      // that there is no connection
}

type dialed struct {
	conn *pgx.Conn
	err  error
}

const (
	// earInterval is how often changes are looked for where one hears of them.
	earInterval = time.Second
	// earPause is the pause between two attempts to make a connection.
	earPause = time.Second
	// earLimit bounds such an attempt, and the end of a connection.
	earLimit = 5 * time.Second
	// earBurst is how long after a change others are awaited, to be looked for
	// with it.
	earBurst = 2 * time.Millisecond
	// earCheck is how long a connection has to answer that has perhaps gone silent.
	earCheck = 500 * time.Millisecond
)

// newEar waits for its first connection for a moment, so that nothing that is
// saved after the first poll is heard of late.
func newEar(ctx context.Context, p *postgres) *ear {
	e := &ear{p: p}
	e.life, e.end = context.WithCancel(ctx)
	e.dial() //nolint:contextcheck // it ends with the Watch
	first, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	e.await(first)
	return e
}

// dial makes a connection in the background.
func (e *ear) dial() {
	dials := make(chan dialed, 1)
	e.dials, e.next = dials, time.Now().Add(earPause)
	go func() {
		ctx, cancel := context.WithTimeout(e.life, earLimit)
		defer cancel()
		conn, err := e.p.listen(ctx)
		if err == nil && conn == nil {
			err = errors.New("sql: Options.Listen made no connection")
		}
		if err == nil {
			if _, err = conn.Exec(ctx, "LISTEN "+e.p.prefix+"changed"); err != nil {
				hangUp(ctx, conn)
			}
		}
		dials <- dialed{conn, err}
	}()
}

// hangUp closes a connection politely, also after the end of the Watch.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), earCheck)
	defer cancel()
	_ = conn.Close(ctx)
}

// await takes the connection that is being made, or waits until ctx ends.
func (e *ear) await(ctx context.Context) {
	select {
	case <-ctx.Done():
	case d := <-e.dials:
		e.dials = nil
		if d.err != nil {
			e.lost(ctx, d.err)
			return
		}
		e.conn, e.told = d.conn, false
	}
}

// lost tells of the first of several failures.
func (e *ear) lost(ctx context.Context, err error) {
	if !e.told && e.life.Err() == nil {
		e.told = true
		e.p.log.Warn("coatcheck: there is no connection that listens: changes are heard of later until there is one again",
			"error", e.p.mapped(ctx, err, false))
	}
}

// wait returns when there was a change, or it is time to look for one.
func (e *ear) wait(ctx context.Context) {
	e.deaf = false
	if e.conn == nil {
		if e.dials == nil && !time.Now().Before(e.next) {
			e.dial() //nolint:contextcheck // it outlives the wait
		}
		ctx, cancel := context.WithTimeout(ctx, watchInterval)
		defer cancel()
		if e.dials == nil {
			<-ctx.Done()
			return
		}
		e.await(ctx) // and then look at once: what was before is not heard of
		if e.conn == nil {
			<-ctx.Done()
		}
		return
	}
	e.deaf = !e.hear(ctx, earInterval)
	end := time.Now().Add(earBurst)
	for more := !e.deaf; more && e.conn != nil; {
		more = e.hear(ctx, time.Until(end))
	}
}

// hear waits for one message, and tells whether there was one.
func (e *ear) hear(ctx context.Context, limit time.Duration) bool {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := e.conn.WaitForNotification(waiting)
	if err != nil && waiting.Err() == nil {
		e.drop(ctx, err)
	}
	return err == nil
}

func (e *ear) drop(ctx context.Context, err error) {
	hangUp(ctx, e.conn)
	e.conn = nil
	e.lost(ctx, err)
}

// check is called when there were changes. If nothing was heard of them, the
// connection may have gone silent.
func (e *ear) check(ctx context.Context) {
	if !e.deaf || e.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, earCheck)
	defer cancel()
	if err := e.conn.Ping(ctx); err != nil {
		e.drop(ctx, err)
	}
}

func (e *ear) close() {
	e.end()
	if e.dials != nil {
		e.conn = (<-e.dials).conn
	}
	if e.conn != nil {
		hangUp(e.life, e.conn)
	}
}
