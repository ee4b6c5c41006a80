package sql

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgCodes are the error codes of PostgreSQL that have a meaning to an operator
// (PostgreSQL documentation, appendix A).
var pgCodes = map[string]string{
	"25006": "the server takes no writes (25006): it is a standby, or read-only; connect to the primary (target_session_attrs=read-write)",
	"25P02": "the transaction has failed before (25P02): roll it back",
	"26000": "prepared statements are not kept (26000): behind PgBouncer, use QueryExecModeExec or QueryExecModeSimpleProtocol",
	"28000": "the server refuses the user (28000): see pg_hba.conf",
	"28P01": "the server refuses the user name or the password (28P01)",
	"3D000": "there is no such database (3D000)",
	"3F000": "there is no such schema (3F000): see the connection's search_path",
	"40001": "too many others changed the same at once (40001)",
	"40P01": "too many others changed the same at once (40P01)",
	"42501": "the user lacks a right (42501): it needs SELECT, INSERT, UPDATE and DELETE on the tables",
	"42703": "a column is missing (42703): call Database.Migrate",
	"42P01": "a table is missing (42P01): call Database.Migrate, with the same Prefix and search_path",
	"42P05": "prepared statements are not kept (42P05): behind PgBouncer, use QueryExecModeExec or QueryExecModeSimpleProtocol",
	"42P07": "a table of that name is there already (42P07): choose another Prefix, or drop what was left of another attempt",
	"53100": "the server's disk is full (53100)",
	"53200": "the server is out of memory (53200)",
	"53300": "the server has too many connections (53300): raise max_connections, or make the pools smaller",
	"55P03": "others hold a lock for longer than lock_timeout (55P03)",
	"57014": "the server has cancelled the statement (57014): statement_timeout is too short, or somebody did",
	"57P01": "the server is shutting down, or somebody ended the connection (57P01)",
	"57P02": "the server has crashed, and recovers (57P02)",
	"57P03": "the server is starting up or shutting down (57P03)",
	"57P04": "the database was dropped (57P04)",
	"57P05": "the connection was idle for too long (57P05)",
}

// pgKind is what is to be done about an error.
type pgKind int

const (
	pgOther    pgKind = iota
	pgCollided        // with others, and was not carried out
	pgLost            // the connection
	pgReadOnly        // the server
	pgLate            // no answer in time
)

// kindOf tells what an error of the driver is.
func kindOf(ctx context.Context, err error) pgKind {
	var reply *pgconn.PgError
	switch {
	case errors.As(err, &reply):
		switch reply.Code {
		case "40001", "40P01":
			return pgCollided
		case "25006":
			return pgReadOnly
		case "57P01", "57P02", "57P05":
			return pgLost
		}
		return pgOther
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && unanswered(err) {
			return pgLate
		}
		return pgOther
	case isCut(err):
		return pgLost
	}
	return pgOther
}

// unanswered tells whether it was the server that did not answer, and not a call
// of ours that was waited for.
func unanswered(err error) bool {
	var f *failure
	return !errors.As(err, &f)
}

func isCut(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.As(err, &op) && op.Op != "dial" || pgconn.SafeToRetry(err)
}

// undone tells whether a statement that was sent once at most cannot have been
// carried out: the server has refused it, or was not reached. A server that shuts
// down may have committed before it says so.
func undone(err error) bool {
	var reply *pgconn.PgError
	var connect *pgconn.ConnectError
	var f *failure
	switch {
	case errors.As(err, &f):
		return f.undone
	case errors.As(err, &connect):
		return true
	case errors.As(err, &reply):
		return reply.Code != "57P01" && reply.Code != "57P02" && reply.Code != "57P05"
	}
	return pgconn.SafeToRetry(err)
}

// mapped returns the driver's error in our words. What it wraps is the end of the
// caller's context, or the server's error code without the rest of its reply. With
// sent, an earlier try may have been carried out.
func (p *postgres) mapped(ctx context.Context, err error, sent bool) error {
	var f *failure
	if err == nil {
		return nil
	}
	if errors.As(err, &f) {
		return &failure{text: f.text, err: f.err, undone: f.undone && !sent}
	}
	f = &failure{undone: undone(err) && !sent}
	var reply *pgconn.PgError
	switch {
	case errors.As(err, &reply) && (reply.Code != "57014" || ctx.Err() == nil): // which pgx may ask for at the end
		f.text, f.err = pgCodes[reply.Code], &pgconn.PgError{Severity: "ERROR", Code: code(reply.Code)}
		if f.text == "" {
			f.text = "the server refuses the statement (" + code(reply.Code) + ")"
		}
	case errors.Is(ctx.Err(), context.Canceled):
		f.text, f.err = "the caller has left", context.Canceled
	case ctx.Err() != nil:
		f.text, f.err = p.lateText(err), context.DeadlineExceeded
	default:
		f.text = connectionText(err)
	}
	return f
}

// code is an error code, which something else than PostgreSQL may have sent.
func code(s string) string {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') {
			return "?"
		}
	}
	return s[:min(len(s), 5)]
}

// lateText tells what was waited for until the deadline.
func (p *postgres) lateText(err error) string {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return "the server cannot be reached in time"
	}
	if p.single {
		return "no answer in time"
	}
	return "no answer in time, or no connection of the pool is free"
}

// connectionText tells why there was no reply.
func connectionText(err error) string {
	var connect *pgconn.ConnectError
	var timeout net.Error
	dialing := errors.As(err, &connect)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "no server listens at the address"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		if dialing {
			return "the server cannot be reached in time"
		}
		return "no answer in time"
	case dialing:
		return "the server cannot be reached"
	case errors.Is(err, pgconn.ErrConnClosed):
		return "the connection is closed: use a pool, which makes new ones"
	case isCut(err):
		return "the connection was cut"
	}
	return "no answer that makes sense"
}

// health tells when the pool should be emptied.
type health struct {
	last  atomic.Int64 // when the server answered, in milliseconds since 1970
	reset atomic.Int64 // when the pool was emptied
}

// healthPause is how long after the pool was emptied it is not, and how long no
// answer may have come before it is because of late ones: a slow server needs its
// connections.
const healthPause = time.Second

func (h *health) answered() { h.last.Store(time.Now().UnixMilli()) }

// note empties the pool when its connections cannot be used any more: those to a
// server that went away, that has become a standby, or that a firewall has made
// silent. Otherwise each of them would cost a call that fails.
func (p *postgres) note(kind pgKind) {
	now := time.Now().UnixMilli()
	switch kind {
	case pgLost, pgReadOnly:
	case pgLate:
		if now-p.health.last.Load() < healthPause.Milliseconds() {
			return
		}
	default:
		return
	}
	pool, ok := p.db.(interface{ Reset() })
	before := p.health.reset.Load()
	if ok && now-before >= healthPause.Milliseconds() && p.health.reset.CompareAndSwap(before, now) {
		pool.Reset()
	}
}
