package sql

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	// watchInterval is how often changes are looked for.
	watchInterval = 250 * time.Millisecond
	// watchPause is how long after a failure that is tried again, from half to one
	// and a half times it.
	watchPause = 250 * time.Millisecond
	// watchMost bounds the changes that are told one by one. When there are more,
	// Missed is told: copies in memory are then all loaded anew.
	watchMost = 2000
)

var errClosed = &failure{text: "the provider is closed"}

// Watch asks the database for changes, four times a second unless Options.Listen
// has it hear of them. See [tokencache.Watcher]. Missed comes first, and when the
// database did not answer, has been started anew, or has had very many changes at
// once. Of a record that was saved several times in between, the last save is told.
// What expires is not told. Watch also ends, with an error, when the provider is
// closed.
func (p *Provider) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := context.AfterFunc(p.work.Life, cancel) //nolint:contextcheck // Close ends it as well as its caller
	defer closed()
	for failed := false; watching.Err() == nil; {
		told, err := p.follow(watching, notify)
		if watching.Err() != nil {
			break
		}
		if failed = failed && !told; !failed {
			failed = true
			p.log.Warn("coatcheck: changes of other machines are not heard of until the database answers again", "error", err)
		}
		background.Sleep(watching, watchPause/2+rand.N(watchPause)) // #nosec G404 -- jitter, not a secret
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errClosed
}

// follow tells changes until the database does not answer, and whether it has.
func (p *Provider) follow(ctx context.Context, notify func(tokencache.Change)) (told bool, err error) {
	poller, err := p.db.poller(ctx)
	if err != nil {
		return false, err
	}
	defer poller.close()
	for {
		changes, missed, err := poller.poll(ctx)
		if err != nil {
			return told, err
		}
		if ctx.Err() != nil {
			return told, ctx.Err()
		}
		if missed || !told {
			notify(tokencache.Change{Missed: true})
		} else {
			for _, c := range changes {
				notify(c)
			}
		}
		told = true
		poller.wait(ctx)
		if ctx.Err() != nil {
			return told, errors.New("sql: the Watch has ended")
		}
	}
}
