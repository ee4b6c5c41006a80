package tokencache

import "context"

// contextKey is per cache, so that one request may carry a partition of each.
type contextKey struct{ cache *Cache }

// NewContext returns a context that carries the partition. The middleware does
// this for each request; do it yourself in a job or a webhook.
func NewContext(ctx context.Context, p *Partition) context.Context {
	return context.WithValue(ctx, contextKey{p.cache}, p)
}

// FromContext returns the partition of this cache that the context carries.
func (c *Cache) FromContext(ctx context.Context) (*Partition, bool) {
	p, ok := ctx.Value(contextKey{c}).(*Partition)
	return p, ok
}
