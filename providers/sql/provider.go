package sql

import (
	"context"
	"errors"
	"log/slog"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Provider keeps records in a database. It is safe for concurrent use. It offers
// every capability of [tokencache.Capabilities] but InProcess, and in a
// transaction no Leaser, Watcher and Sweeper. On PostgreSQL it is Punctual.
type Provider struct {
	db  dialect
	log *slog.Logger

	work   *background.Work
	doubts *background.Doubts
}

var (
	_ tokencache.Provider   = (*Provider)(nil)
	_ tokencache.Leaser     = (*Provider)(nil)
	_ tokencache.Toucher    = (*Provider)(nil)
	_ tokencache.OwnerIndex = (*Provider)(nil)
	_ tokencache.Watcher    = (*Provider)(nil)
	_ tokencache.Sweeper    = (*Provider)(nil)
	_ tokencache.Pinger     = (*Provider)(nil)
	_ tokencache.Lister     = (*Provider)(nil)
)

// New returns a provider on the database, which stays the caller's: close it after
// the provider. New looks at the schema, with one query, and changes nothing: where
// there is none, or an older one, the error says to call [Database.Migrate].
func New(ctx context.Context, db *Database) (*Provider, error) {
	if db == nil {
		return nil, errors.New("sql: a Database is required")
	}
	if db.err != nil {
		return nil, db.err
	}
	state, err := db.dialect.check(ctx)
	if err == nil {
		err = state.usable(latest(db.dialect.schema()))
	}
	if err != nil {
		return nil, err
	}
	work := background.NewWork()
	return &Provider{db: db.dialect, log: db.options.Log, work: work, doubts: background.NewDoubts(work)}, nil
}

// Close ends every Watch and the provider's own work in the background, and waits
// for that work until ctx ends, but not for the Watches. The database stays open.
// Closing again does nothing.
func (p *Provider) Close(ctx context.Context) error { return p.work.Close(ctx) }

// Capabilities returns those that [Provider] names. See [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities { return p.db.offers(p) }

// Ping asks the database whether it is there. See [tokencache.Pinger].
func (p *Provider) Ping(ctx context.Context) error { return p.db.ping(ctx) }
