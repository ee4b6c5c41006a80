package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// failure is an error of the driver in words that say what to do. The driver's
// own text is not in it, since that may have addresses and user names in it.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return "redis: " + f.text }

// Unwrap returns the driver's error.
func (f *failure) Unwrap() error { return f.err }

// replies are the error codes with which Redis begins a reply, and what they mean
// to an operator (Redis documentation, "Redis serialization protocol
// specification", simple errors).
var replies = []struct{ code, text string }{
	{"OOM", "the server's memory is full (OOM): raise maxmemory, and keep the policy noeviction"},
	{"READONLY", "the server is a read-only replica (READONLY): connect to the primary, through Sentinel if it moves"},
	{"LOADING", "the server is still loading its data (LOADING)"},
	{"MASTERDOWN", "the replica has lost its primary (MASTERDOWN)"},
	{"CLUSTERDOWN", "the cluster does not serve this slot (CLUSTERDOWN): nodes are down or slots are not assigned"},
	{"TRYAGAIN", "the cluster is moving this slot (TRYAGAIN)"},
	{"MOVED", "the server is a node of a cluster (MOVED): use redis.NewClusterClient, or IsClusterMode of UniversalOptions"},
	{"ASK", "the server is a node of a cluster (ASK): use redis.NewClusterClient, or IsClusterMode of UniversalOptions"},
	{"CROSSSLOT", "the keys of an owner are in several slots (CROSSSLOT): something between here and the server does not honour hash tags"},
	{"NOAUTH", "the server wants a password (NOAUTH)"},
	{"ERR Protocol error: unauthenticated", "the server wants a password (NOAUTH)"}, // to a large command
	{"WRONGPASS", "the server refuses the user name or the password (WRONGPASS)"},
	{"NOPERM", "the server's access list forbids this (NOPERM): see the package comment for what is needed"},
	{"ERR The user executing the script", "the server's access list forbids this (NOPERM): see the package comment for what is needed"}, // in a script
	{"WRONGTYPE", "a key holds something else (WRONGTYPE): another application writes under this prefix; give each its own"},
	{"MISCONF", "the server cannot save to its disk and refuses to write (MISCONF)"},
	{"NOREPLICAS", "the server has too few replicas and refuses to write (NOREPLICAS)"},
	{"BUSY", "the server is held up by a script (BUSY)"},
	{"ERR max number of clients", "the server has too many clients: raise maxclients, or make the pools smaller"},
}

// mapped returns the driver's error in our words, nil as nil, and the end of the
// caller's context as it is.
func mapped(err error) error {
	var reply redis.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reply):
		return &failure{replyText(reply.Error()), err}
	case errors.Is(err, context.Canceled):
		return &failure{"the caller has left", err}
	}
	return &failure{connectionText(err), err}
}

// replyText finds the meaning of an error reply.
func replyText(reply string) string {
	for _, r := range replies {
		// Before version 7, a script's errors have their code in the middle.
		if strings.HasPrefix(reply, r.code+" ") || reply == r.code || strings.Contains(reply, ": -"+r.code+" ") {
			return r.text
		}
	}
	code, _, _ := strings.Cut(reply, " ")
	if len(code) > 20 || strings.ToUpper(code) != code {
		code = "ERR"
	}
	return "the server refuses the command (" + code + ")"
}

// connectionText tells why there was no reply.
func connectionText(err error) string {
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return "no connection of the pool is free: its calls are slow, or PoolSize is too small"
	case errors.Is(err, redis.ErrClosed):
		return "the client is closed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server listens at the address"
	case isTimeout(err):
		if dialing {
			return "the server cannot be reached in time"
		}
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was cut"
	case dialing:
		return "the server cannot be reached"
	}
	return "no answer"
}

// isTimeout tells whether there was no answer in time, and not even a refusal.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// notDone tells whether the server cannot have carried out a command that was
// sent once at most: it has refused it, or was not reached.
func notDone(err error) bool {
	var reply redis.Error
	var op *net.OpError
	return errors.As(err, &reply) || errors.As(err, &op) && op.Op == "dial" ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed)
}

func isWrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
