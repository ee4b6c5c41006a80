package redis

import (
	"context"
	"errors"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/background"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Provider keeps records in Redis. It is safe for concurrent use. It offers every
// capability of [tokencache.Capabilities] but InProcess and Sweeper: Redis drops
// what has expired by itself. It is Punctual if its client is.
type Provider struct {
	client  redis.UniversalClient
	prefix  string
	channel string // of changes
	log     *slog.Logger
	// punctual tells that the client's calls end with their contexts.
	punctual bool

	work   *background.Work
	doubts *background.Doubts
	idle   idle
	reads  reads
}

var (
	_ tokencache.Provider   = (*Provider)(nil)
	_ tokencache.Leaser     = (*Provider)(nil)
	_ tokencache.Toucher    = (*Provider)(nil)
	_ tokencache.OwnerIndex = (*Provider)(nil)
	_ tokencache.Watcher    = (*Provider)(nil)
	_ tokencache.Pinger     = (*Provider)(nil)
	_ tokencache.Lister     = (*Provider)(nil)
)

// New returns a provider on the client, which stays the caller's: close it after
// the provider. New does not connect. It refuses clients that would read from
// replicas, where a moment old records are, and rings, which move keys to another
// server when one is down. It warns of a client that does not look at contexts
// (see [RecommendedOptions]).
func New(client redis.UniversalClient, o *Options) (*Provider, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	punctual, known, err := check(client)
	if err != nil {
		return nil, err
	}
	p := &Provider{client: client, prefix: opts.Prefix, channel: opts.Prefix + "changes", log: opts.Log, punctual: punctual}
	p.work = background.NewWork()
	p.doubts = background.NewDoubts(p.work)
	_, oneServer := client.(*redis.Client)
	p.reads.client, p.reads.scattered = client, !oneServer
	if known && !punctual {
		p.log.Warn("coatcheck: " + "the client has ContextTimeoutEnabled off: a call whose deadline has passed goes on in the background, " +
			"and keeps a connection, until the client's own timeouts end it; see RecommendedOptions")
	}
	return p, nil
}

// check refuses clients that cannot keep the contract, and tells whether the
// client ends calls with their contexts, and whether that is known.
func check(client redis.UniversalClient) (punctual, known bool, err error) {
	switch c := client.(type) {
	case nil:
		return false, false, errors.New("redis: a client is required")
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled, true, nil
	case *redis.ClusterClient:
		o := c.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return false, true, errors.New("redis: the client reads from replicas: ReadOnly, RouteByLatency and RouteRandomly must be off")
		}
		return o.ContextTimeoutEnabled, true, nil
	case *redis.Ring:
		return false, true, errors.New("redis: a Ring loses records when a server leaves it: use a Cluster")
	}
	return false, false, nil
}

// Close ends every Watch and the provider's own work in the background, and waits
// for that work until ctx ends, but not for the Watches. The client stays open.
// Closing again does nothing.
func (p *Provider) Close(ctx context.Context) error { return p.work.Close(ctx) }

// Capabilities returns those that [Provider] names. See [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{Punctual: p.punctual, Leaser: p, Toucher: p, Owners: p, Watcher: p, Pinger: p, Lister: p}
}

// Ping asks the server whether it is there: of a Cluster, one of its nodes. See
// [tokencache.Pinger].
func (p *Provider) Ping(ctx context.Context) error {
	stop := p.overdue(ctx)
	defer stop()
	return p.answered(p.client.Ping(ctx).Err())
}
