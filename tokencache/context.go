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

type assertionContextKey struct{}

// NewAssertionContext returns a context that carries the incoming token, for clients
// that obtain tokens on behalf of its bearer. The middleware does this for each
// request of a web API.
func NewAssertionContext(ctx context.Context, a Assertion) context.Context {
	return context.WithValue(ctx, assertionContextKey{}, a)
}

// AssertionFromContext returns the incoming token that the context carries.
func AssertionFromContext(ctx context.Context) (Assertion, bool) {
	a, ok := ctx.Value(assertionContextKey{}).(Assertion)
	return a, ok
}
