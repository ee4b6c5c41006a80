package tokencache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Partition is one user's tokens, or one incoming assertion's, or the
// application's own for one resource. [Cache.Partition] makes one without
// asking anything of the backend. It is safe for concurrent use.
type Partition struct {
	// There is one for each request, and it is the only allocation of a hit in
	// L1: what only others need is in the memo.
	cache *Cache
	key   Key
	memo  atomic.Pointer[memo] // nil until there is something to remember
}

// memo is what a Partition remembers of its work.
type memo struct {
	mu    sync.Mutex
	name  Name      // empty until it is needed
	corr  string    // likewise
	view  loaded    // what was loaded last
	since time.Time // when
}

// remembering returns the memo, locked.
func (p *Partition) remembering() *memo {
	m := p.memo.Load()
	if m == nil {
		p.memo.CompareAndSwap(nil, &memo{})
		m = p.memo.Load()
	}
	m.mu.Lock()
	return m
}

// Key returns the key that the partition was made with.
func (p *Partition) Key() Key { return p.key }

// Token returns an access token for the request: a cached one if it is good for
// longer than the refresh margin, else a new one from the server. However many
// callers ask at once, on however many machines, the server is asked once. With
// a nil server only cached tokens are returned.
//
// For a token of the application's own ([ApplicationKey]) nobody waits while the
// cached one is valid for more than 30 seconds: within the margin it is the answer,
// and refreshed behind the request. Should that fail, whoever asks after 5 seconds has
// it tried again; see [EventUpkeep].
//
// Errors: [ErrNoTokens] and those that wrap it if the user must sign in again,
// *[InteractionRequiredError] if the user must act, *[ServerError] if the
// authorization server is down, [ErrUnavailable] if the token store is,
// [ErrBusy] if another machine took too long, the context's error, or another one
// for a mistake of the program: a bad key, or a cache that is closed. When ctx
// ends, a refresh that has begun goes on, and its outcome is stored.
func (p *Partition) Token(ctx context.Context, req Request, server Server) (Token, error) {
	if !p.cache.hooks.any() {
		if e := p.hit(ctx, &req); e != nil {
			return e.token(SourceL1), nil
		}
	}
	req.Scopes = splitScopes(req.Scopes)
	for attempt := 0; ; attempt++ {
		tok, fresh, err := p.lookup(ctx, &req)
		switch {
		case err != nil && (server == nil || !p.selfSufficient(err)):
			return Token{}, err
		case fresh == isFresh, fresh == isStale && server == nil:
			return tok, nil
		case fresh == isStale && p.cache.down.lasts(time.Now()):
			p.tell(ctx, Event{Kind: EventDegraded, Detail: detailStale, Source: tok.Source})
			return tok, nil
		case server == nil:
			return Token{}, fmt.Errorf("%w: none is cached for the request", ErrNoTokens)
		}
		if fresh == isStale && p.lasts(&req, tok) {
			p.refreshAhead(ctx, req, server)
			return tok, nil
		}
		tok, overtaken, err := p.refresh(ctx, req, server, tok)
		if !overtaken || attempt == 2 {
			return tok, err
		}
	}
}

// hit finds a fresh token in L1, nil if there is none, and touches nothing else.
// It finds none for scopes that are joined by spaces: no token has such a one,
// and lookup splits them.
func (p *Partition) hit(ctx context.Context, req *Request) *entry {
	st := p.cache.l1.get(&p.key.id)
	if st == nil || !p.opens(st) {
		return nil
	}
	q := p.query(req)
	e, fresh, err := st.snap.best(&q, time.Now())
	if err != nil || fresh != isFresh {
		return nil
	}
	if p.cache.opts.Events != nil {
		p.tell(ctx, Event{Kind: EventHit, Source: SourceL1, Partition: shortName(st.name)})
	}
	return e
}

// lookup finds a cached token, with the hooks around it. Finding none is not an
// error where the server may still be asked.
func (p *Partition) lookup(ctx context.Context, req *Request) (tok Token, fresh freshness, err error) {
	ctx, access, err := p.begin(ctx, req)
	var st *state
	defer func() { p.end(ctx, access, st.snapshot(), tok.Source, err) }()
	if err != nil {
		return Token{}, isNone, err
	}
	st, source, err := p.load(ctx)
	if err != nil {
		return Token{}, isNone, err
	}
	if st.err != nil {
		if p.renewable(st) {
			return Token{}, isNone, nil
		}
		return Token{}, isNone, st.err
	}
	q := p.query(req)
	tok, fresh, err = st.snap.find(&q, time.Now())
	if err != nil {
		return Token{}, isNone, ErrUnreadable
	}
	if fresh != isNone {
		tok.Source = source
	} else if st.partial {
		return Token{}, isNone, errPartial
	}
	p.tell(ctx, found(tok, fresh))
	return tok, fresh, nil
}

// found is the event of a lookup.
func found(tok Token, fresh freshness) Event {
	switch fresh {
	case isFresh:
		return Event{Kind: EventHit, Source: tok.Source}
	case isStale:
		return Event{Kind: EventMiss, Detail: detailStale, Source: tok.Source}
	}
	return Event{Kind: EventMiss, Detail: detailNone}
}

// renewable tells whether a refresh may fill a partition without tokens: one
// that renews itself, unless it was removed. An application's unreadable
// partition is replaced, because its credentials are proof enough.
func (p *Partition) renewable(st *state) bool {
	if !p.key.selfRenewing() || errors.Is(st.err, ErrRemoved) {
		return false
	}
	return !errors.Is(st.err, ErrUnreadable) || p.key.application()
}

// Check returns nil if the partition has tokens to work with: a refresh token, or
// an access token that has not expired. Otherwise the error is one of Token's.
// It does not ask the authorization server.
func (p *Partition) Check(ctx context.Context) error {
	st, err := p.snapshot(ctx)
	if err != nil {
		return err
	}
	if !st.usable(p.cache.ns.ClientID, p.key.id.account, time.Now()) {
		return ErrNoTokens
	}
	return nil
}

// Tokens returns the contents of the partition, for a page that shows what is
// cached or for an export. Errors are those of Token.
func (p *Partition) Tokens(ctx context.Context) (*Tokens, error) {
	read := time.Now().Add(-p.cache.opts.L1MaxAge)
	s, err := p.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &Tokens{snap: s, read: read}, nil
}

// Reload is Tokens as the provider has them, past the copies of this process: for
// another library that is going to spend the refresh token in them. Another machine may
// have spent the one in a copy. Errors are those of Token; while tokens of the partition
// wait to be stored, [ErrUnavailable].
func (p *Partition) Reload(ctx context.Context) (tokens *Tokens, err error) {
	ctx, access, err := p.begin(ctx, nil)
	var st *state
	defer func() { p.end(ctx, access, st.snapshot(), SourceProvider, err) }()
	if err != nil {
		return nil, err
	}
	read := time.Now()
	if st, err = p.current(ctx); err != nil {
		return nil, err
	}
	if st.err != nil {
		return nil, st.err
	}
	return &Tokens{snap: st.snap, read: read}, nil
}

// snapshot loads the partition, with the hooks around it.
func (p *Partition) snapshot(ctx context.Context) (s *snapshot, err error) {
	ctx, access, err := p.begin(ctx, nil)
	source := SourceNone
	defer func() { p.end(ctx, access, s, source, err) }()
	if err != nil {
		return nil, err
	}
	st, source, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	return st.snap, st.err
}

func (p *Partition) query(req *Request) query {
	q := query{
		Request:  *req,
		clientID: p.cache.ns.ClientID,
		account:  p.key.id.account,
		margin:   p.cache.opts.RefreshMargin,
	}
	q.Tenant = p.tenant(req)
	if p.key.id.kind == kindAssertion {
		q.assertion = p.key.id.part
	}
	return q
}

// tenant is what the request's tenant means in this partition: none means that
// of the incoming token or of the application.
func (p *Partition) tenant(req *Request) string {
	if req.Tenant == "" && p.key.selfRenewing() {
		return p.key.id.tenant
	}
	return req.Tenant
}

// request is what the request means in this partition.
func (p *Partition) request(req *Request) Request {
	r := *req
	r.Tenant = p.tenant(req)
	return r
}

func (p *Partition) storageName() (Name, error) {
	m := p.remembering()
	defer m.mu.Unlock()
	if m.name.Partition != "" {
		return m.name, nil
	}
	var err error
	m.name, err = p.cache.names.name(p.key.id)
	return m.name, err
}

func (p *Partition) correlation() string {
	m := p.remembering()
	defer m.mu.Unlock()
	if m.corr == "" {
		m.corr = newCorrelationID()
	}
	return m.corr
}
