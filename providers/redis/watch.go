package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	// watchSilence is how long nothing may come before the server is asked
	// whether it is still there. A link that is silent for twice as long is dead.
	watchSilence = time.Second
	// watchPause is how long after a failure the next connection is tried, from
	// half to one and a half times it.
	watchPause = 100 * time.Millisecond
)

// Watch subscribes to the channel on which every save tells its change. See
// [tokencache.Watcher]. Missed follows each subscription, the first and those
// after a lost connection, which are made without end; a link that went dead
// without a word is noticed within 2 s. What expires or is evicted is not told.
// Watch also ends, with an error, when the provider is closed. With a client that
// does not look at contexts it ends some seconds later while a server hangs.
func (p *Provider) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := context.AfterFunc(p.work.Life, cancel) //nolint:contextcheck // Close ends it as well as its caller
	defer closed()
	for failed := false; watching.Err() == nil; {
		heard, err := p.listen(watching, notify)
		failed = failed && !heard
		if watching.Err() != nil {
			break
		}
		err = p.answered(err)
		if !failed {
			failed = true
			p.log.Warn("coatcheck: changes of other machines are not heard of until there is a connection again", "error", err)
		}
		background.Sleep(watching, watchPause/2+rand.N(watchPause)) // #nosec G404 -- jitter, not a secret
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.New("redis: the provider is closed")
}

var errOutOfStep = errors.New("redis: a message came in pieces, and is lost")

// listen tells changes until the connection fails, and whether it was heard of
// any.
func (p *Provider) listen(ctx context.Context, notify func(tokencache.Change)) (heard bool, err error) {
	sub := p.client.Subscribe(ctx)
	defer func() { _ = sub.Close() }()
	// A read does not end with its context.
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer stop()
	if err := sub.Subscribe(ctx, p.channel); err != nil {
		return false, err
	}
	for asked := false; ; {
		message, err := sub.ReceiveTimeout(ctx, watchSilence)
		var timeout net.Error
		switch {
		case err == nil:
			asked = false
		case ctx.Err() == nil && !asked && errors.As(err, &timeout) && timeout.Timeout():
			asked = true
			if err := sub.Ping(ctx); err != nil {
				return heard, err
			}
			continue
		default:
			return heard, err
		}
		switch m := message.(type) {
		case *redis.Subscription:
			heard = true
			notify(tokencache.Change{Missed: true})
		case *redis.Message:
			if c, ok := decodeChange(m.Payload); ok {
				notify(c)
			}
		case *redis.Pong:
			// A read that timed out within a message leaves the rest of it, which
			// the driver takes for such an answer.
			if m.Payload != "" && m.Payload != "PONG" {
				return heard, errOutOfStep
			}
		}
	}
}
