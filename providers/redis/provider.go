package redis

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Provider keeps records in Redis. It is safe for concurrent use.
type Provider struct {
	client redis.UniversalClient
	prefix string
}

// New returns a provider on the caller's client, which the caller closes after
// the provider.
func New(client redis.UniversalClient, o *Options) (*Provider, error) {
	if client == nil {
		return nil, errors.New("redis: a client is required")
	}
	p := &Provider{client: client, prefix: defaultPrefix}
	if o != nil && o.Prefix != "" {
		p.prefix = o.Prefix
	}
	return p, nil
}

// Close ends the provider's background work. The client stays open.
func (p *Provider) Close(context.Context) error { return nil }

// Load is that of [tokencache.Provider].
func (p *Provider) Load(context.Context, tokencache.Name) (tokencache.Record, error) {
	return tokencache.Record{}, errors.ErrUnsupported
}

// Save is that of [tokencache.Provider].
func (p *Provider) Save(context.Context, tokencache.Name, tokencache.Record, tokencache.Condition) error {
	return errors.ErrUnsupported
}

// Capabilities is that of [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities { return tokencache.Capabilities{} }
