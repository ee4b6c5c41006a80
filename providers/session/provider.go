package session

import (
	"context"
	"errors"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Options are the options of [New].
type Options struct {
	// Provider is where tokens are stored. It stays the caller's, who closes it
	// after the Cache. Defaults to the session manager's store; see the package
	// comment for what that cannot promise.
	Provider tokencache.Provider
	// Key is the name of the session's value that holds the ticket. Providers that
	// share a session, as for two authorization servers, need one each. Defaults to
	// "coatcheck".
	Key string
}

const defaultKey = "coatcheck"

// Provider keeps the tokens of sessions. It is safe for concurrent use. It starts
// nothing, and needs no closing.
type Provider struct {
	manager *scs.SessionManager
	key     string
	inner   tokencache.Provider
	caps    tokencache.Capabilities // of inner
	seen    notes
}

var (
	_ tokencache.Provider = (*Provider)(nil)
	_ tokencache.Toucher  = (*Provider)(nil)
)

// New returns a provider for the sessions of the manager, whose settings are the
// application's and must be complete by the first request; nil options are the
// defaults.
func New(manager *scs.SessionManager, o *Options) (*Provider, error) {
	if manager == nil {
		return nil, errors.New("session: the session manager is nil")
	}
	if o == nil {
		o = &Options{}
	}
	p := &Provider{manager: manager, key: o.Key, inner: o.Provider}
	if p.key == "" {
		p.key = defaultKey
	}
	if p.inner == nil {
		if manager.Store == nil || manager.Codec == nil {
			return nil, errors.New("session: the session manager has no Store or no Codec; scs.New sets both")
		}
		p.inner = &records{manager: manager, key: p.recordKey()}
	}
	p.caps = p.inner.Capabilities()
	return p, nil
}

// Load returns the record stored under name. See [tokencache.Provider].
func (p *Provider) Load(ctx context.Context, name tokencache.Name) (tokencache.Record, error) {
	r, err := p.inner.Load(ctx, name)
	if err == nil && !r.Removed() {
		p.seen.loaded(name, r, p.deadline(ctx, name))
	}
	return r, err
}

// Save stores the record under name if the condition holds. See
// [tokencache.Provider]. The tokens of a session vanish no later than it does.
func (p *Provider) Save(ctx context.Context, name tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if r.Removed() {
		return p.inner.Save(ctx, name, r, c)
	}
	// Noted before it is known to be stored: when a reply is lost, the Cache finds
	// out by loading that it was.
	if s, ok := ctx.Value(signInKey{p}).(*signIn); ok {
		s.name.Store(&name)
	}
	deadline := p.deadline(ctx, name)
	r.Expires = earlier(r.Expires, p.seen.end(name, deadline))
	err := p.inner.Save(ctx, name, r, c)
	if err == nil {
		p.seen.saved(name, r, deadline)
	}
	return err
}

// Touch sets the expiry of the record under name, no later than its session's
// deadline. See [tokencache.Toucher]. A record that lasts as long as its session
// already is left alone, without asking.
func (p *Provider) Touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	deadline := p.deadline(ctx, name)
	if end := p.seen.end(name, deadline); !end.IsZero() {
		expires = earlier(expires, end)
		if expires.Equal(end) && p.seen.lasts(name, v, end) {
			return ctx.Err()
		}
	}
	err := p.touch(ctx, name, v, expires)
	if err == nil {
		p.seen.saved(name, tokencache.Record{Version: v, Expires: expires}, deadline)
	}
	return err
}

// touch saves the record again, as it is, where the other provider has no Toucher.
// A Cache would do the same each time that it loads one which cannot live longer.
func (p *Provider) touch(ctx context.Context, name tokencache.Name, v tokencache.Version, expires time.Time) error {
	if p.caps.Toucher != nil {
		return p.caps.Toucher.Touch(ctx, name, v, expires)
	}
	r, err := p.inner.Load(ctx, name)
	switch {
	case err != nil:
		return err
	case r.Version != v:
		return tokencache.ErrConflict
	}
	r.Expires = expires
	return p.inner.Save(ctx, name, r, tokencache.IfVersion(v))
}

// Capabilities returns those of [Options.Provider], and a Toucher in any case. For
// records in the manager's store that and a Pinger are all there are: nothing is
// promised beyond this process. See [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities {
	caps := p.caps
	caps.Toucher = p
	return caps
}

// earlier returns the earlier of two expiries, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
