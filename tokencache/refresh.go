package tokencache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// flight is one refresh, on its own goroutine and context. Its order is: the
// lock of this process, the lease among machines, read again, spend, save.
// Reading again matters: whoever held the lock or the lease before has usually
// done the work.
type flight struct {
	p      *Partition
	name   Name
	req    Request
	id     string // what distinguishes the request; see flightID
	server Server
	began  time.Time
	access *Access
	state  *state // what the refresh starts from, nil until it is known
}

// outcome is what a flight brings to everyone who waits for it.
type outcome struct {
	token    Token
	stored   bool   // the token is in the provider
	loaded   loaded // as the flight left it
	panicked any
}

// refresh obtains a token through the flight for this request, joining the one
// that is under way. A stale token, which is still valid, is the answer if the
// server cannot give a new one now. It tells whether the partition has changed
// since: whoever joined a flight must not be answered with what was there before
// the own question.
func (p *Partition) refresh(ctx context.Context, req Request, server Server, stale Token) (tok Token, overtaken bool, err error) {
	name, err := p.storageName()
	if err != nil {
		return Token{}, false, err
	}
	req.Scopes = slices.Clone(req.Scopes) // the flight may outlive the caller's slice
	id := flightID(&req)
	key := name.Partition + string(p.key.generation[:]) + id
	result := p.cache.flights.DoChan(key, func() (any, error) {
		if err := p.cache.begin(); err != nil {
			return outcome{}, err
		}
		defer p.cache.work.Done()
		return p.fly(ctx, &flight{p: p, name: name, req: req, id: id, server: server})
	})
	select {
	case r := <-result:
		out := r.Val.(outcome) // put there above
		if out.panicked != nil {
			panic(out.panicked) // a Server or a hook panicked: in its caller, where it can be recovered
		}
		if r.Err != nil {
			tok, err = p.fallback(stale, r.Err)
			return tok, false, err
		}
		p.remember(out.loaded)
		return out.token, out.stored && out.loaded.epoch != p.cache.l1.epoch(name), nil
	case <-ctx.Done():
		return Token{}, false, ctx.Err()
	}
}

// fallback answers with a token that is about to expire where the failure says
// nothing about the user.
func (p *Partition) fallback(stale Token, err error) (Token, error) {
	var interaction *InteractionRequiredError
	final := errors.Is(err, ErrNoTokens) && !errors.Is(err, errNoRefreshToken) || errors.As(err, &interaction)
	if final || stale.AccessToken == "" || !time.Now().Before(stale.Expires) {
		return Token{}, err
	}
	return stale, nil
}

// fly runs the flight with its hooks.
func (p *Partition) fly(ctx context.Context, f *flight) (out outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			out.panicked = r
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	f.began = time.Now()
	if f.access, err = p.cache.hooks.begin(ctx, p, &f.req); err == nil {
		out.token, err = f.run(ctx)
	}
	failed := err
	var notStored *notStoredError
	if errors.As(err, &notStored) && out.token.AccessToken != "" {
		err = nil // the token was obtained; nothing withdraws it
	}
	p.cache.hooks.end(ctx, f.access, f.state.snapshot(), out.token.Source, failed)
	out.stored, out.loaded = failed == nil, p.viewed()
	return out, err
}

// notStoredError says that a token was obtained and could not be saved.
type notStoredError struct{ err error }

func (e *notStoredError) Error() string {
	return "tokencache: the new tokens are not stored: " + e.err.Error()
}
func (e *notStoredError) Unwrap() error { return e.err }

func (f *flight) run(ctx context.Context) (Token, error) {
	unlock, err := f.p.cache.locks.lock(ctx, f.name.Partition)
	if err != nil {
		return Token{}, busy(err)
	}
	defer unlock()
	release, err := f.acquire(ctx)
	if err != nil {
		return Token{}, err
	}
	defer release()
	// Twice: if the server refuses a refresh token that was replaced meanwhile,
	// by a machine that had no lease to wait for, the newer one is used.
	for range 2 {
		tok, done, err := f.read(ctx)
		if err != nil || done {
			return tok, err
		}
		tok, err = f.spend(ctx)
		if !errors.Is(err, errReplaced) {
			return tok, err
		}
	}
	return Token{}, ErrInvalidGrant
}

// read loads the partition from the provider, never from L1, and tells whether
// the answer is there already.
func (f *flight) read(ctx context.Context) (Token, bool, error) {
	epoch := f.p.cache.l1.epoch(f.name)
	st, err := f.p.cache.store.load(ctx, f.name)
	if err != nil {
		return Token{}, false, err
	}
	f.p.cache.l1.keep(f.p.key.id, st, epoch)
	f.p.remember(loaded{state: st, epoch: epoch})
	f.state = f.p.guard(st)
	if f.state.err != nil {
		if f.p.renewable(f.state) {
			return Token{}, false, nil
		}
		return Token{}, false, f.state.err
	}
	q := f.p.query(&f.req)
	tok, fresh, err := f.state.snap.find(&q, time.Now())
	if err != nil {
		return Token{}, false, ErrUnreadable
	}
	tok.Source = SourceProvider
	return tok, fresh == isFresh, nil
}

// errReplaced says that the refresh token which the server refused is no longer
// the one that is stored.
var errReplaced = errors.New("tokencache: the refresh token was replaced meanwhile")

// spend asks the server and stores its answer.
func (f *flight) spend(ctx context.Context) (Token, error) {
	refreshToken, err := f.refreshToken()
	if err != nil {
		return Token{}, err
	}
	if err := f.p.cache.refusals.get(refreshToken, f.id); err != nil {
		return Token{}, err
	}
	// The time it took to get here must not cut the server off after it has
	// rotated the refresh token.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	grant, err := f.server.Refresh(ctx, refreshToken, f.req)
	f.p.cache.down.report(err, time.Now())
	if err == nil {
		err = f.check(&grant)
	}
	if err != nil {
		return Token{}, f.refused(ctx, refreshToken, grant, err)
	}
	f.fillIn(&grant)
	serr := f.save(ctx, grant, refreshToken)
	if errors.Is(serr, ErrNoTokens) {
		return Token{}, serr
	}
	if missing := missingScopes(f.req.Scopes, grant.Scopes); len(missing) > 0 {
		err := &InteractionRequiredError{Code: "insufficient_scope", Scopes: f.req.Scopes}
		f.p.cache.refusals.put(cmp.Or(grant.RefreshToken, refreshToken), f.id, err)
		return Token{}, err
	}
	return f.token(&grant), serr
}

// errNoRefreshToken says that there is nothing to refresh with, which is no
// reason to withhold a token that is valid for a little longer.
var errNoRefreshToken = fmt.Errorf("%w: there is no refresh token", ErrNoTokens)

func (f *flight) refreshToken() (Secret, error) {
	if f.p.key.selfRenewing() {
		return "", nil
	}
	rt, ok, err := f.state.snap.refreshToken(f.p.cache.ns.ClientID, f.p.key.id.account)
	switch {
	case err != nil:
		return "", ErrUnreadable
	case !ok:
		return "", errNoRefreshToken
	}
	return rt, nil
}

// check refuses an answer that is incomplete or somebody else's.
func (f *flight) check(g *Grant) error {
	if id := g.Account.ID; id != "" && !strings.EqualFold(id, f.p.key.id.account) {
		*g = Grant{} // nothing of it may be stored
		return &ServerError{Err: errors.New("the answer to a refresh names another account")}
	}
	if g.AccessToken == "" {
		return &ServerError{Err: errors.New("the token response has no access token")}
	}
	return nil
}

// fillIn sets what RFC 6749 §5.1 leaves to the client.
func (f *flight) fillIn(g *Grant) {
	if g.Scopes == nil {
		g.Scopes = f.req.Scopes
	}
	if g.TokenType == "" {
		g.TokenType = "Bearer"
	}
	if g.Expires.IsZero() {
		g.Expires = time.Now().Add(unknownLifetime)
	}
	g.Expires = g.Expires.Truncate(time.Second) // as it is stored
}

// refused stores what must not be lost of a failed refresh, and sorts its error.
func (f *flight) refused(ctx context.Context, spent Secret, g Grant, err error) error {
	if g.RefreshToken != "" {
		if serr := f.save(ctx, Grant{RefreshToken: g.RefreshToken}, spent); serr != nil {
			return errors.Join(err, serr)
		}
	}
	var interaction *InteractionRequiredError
	switch {
	case errors.As(err, &interaction):
		f.p.cache.refusals.put(cmp.Or(g.RefreshToken, spent), f.id, err)
	case errors.Is(err, ErrInvalidGrant) && spent != "":
		switch replaced, rerr := f.replaced(context.WithoutCancel(ctx), spent); {
		case rerr != nil:
			return rerr
		case replaced:
			return errReplaced
		}
		f.p.cache.refusals.put(spent, "", err)
	}
	return err
}

// replaced tells whether another refresh token is stored by now.
func (f *flight) replaced(ctx context.Context, spent Secret) (bool, error) {
	st, err := f.p.cache.store.load(ctx, f.name)
	if err != nil || st.snap == nil {
		return false, err
	}
	rt, ok, err := st.snap.refreshToken(f.p.cache.ns.ClientID, f.p.key.id.account)
	return err == nil && ok && rt != spent, nil
}

// save stores the grant at once. An error that says nothing about the user is a
// notStoredError.
func (f *flight) save(ctx context.Context, g Grant, spent Secret) error {
	base := f.state
	saved, err := f.p.commit(ctx, f.access, base, func(now *state) (meta, *document, error) {
		return f.apply(base, now, &change{grant: g, req: f.p.request(&f.req), used: spent})
	})
	switch {
	case err == nil:
		f.state = saved
		return nil
	case errors.Is(err, ErrNoTokens):
		return err // signed out meanwhile
	}
	return &notStoredError{err: err}
}

// apply makes the change to what is stored now. A refresh never brings back
// what was removed since it began, nor replaces what it cannot read.
func (f *flight) apply(base, now *state, c *change) (meta, *document, error) {
	if now.mark != base.mark && now.mark != (Version{}) {
		return meta{}, nil, ErrRemoved
	}
	m, doc, err := f.content(base, now)
	if err != nil {
		return meta{}, nil, err
	}
	return m, doc, doc.apply(c, f.p.cache.writer(f.p.key), time.Now())
}

func (f *flight) content(base, now *state) (meta, *document, error) {
	switch {
	case now.snap != nil:
		if base.snap != nil && now.snap.generation != base.snap.generation {
			return meta{}, nil, ErrRemoved // signed out, and in again
		}
		return contentOf(now.snap)
	case now.found && !f.p.renewable(now):
		return meta{}, nil, now.err
	case base.snap != nil && time.Since(f.began) < tombstoneLife:
		// Evicted while the server was asked. It was not removed: a tombstone
		// outlives a flight.
		return contentOf(base.snap)
	}
	return f.p.freshMeta(time.Now()), &document{}, nil
}

func contentOf(s *snapshot) (meta, *document, error) {
	doc, err := s.document()
	if err != nil {
		return meta{}, nil, ErrUnreadable
	}
	return s.meta, doc, nil
}

// token is the grant as an answer.
func (f *flight) token(g *Grant) Token {
	return Token{
		AccessToken: g.AccessToken,
		Type:        g.TokenType,
		Scopes:      g.Scopes,
		Expires:     g.Expires,
		Tenant:      g.Account.Tenant,
		Resource:    f.req.Resource,
		Source:      SourceServer,
	}
}

// flightID is every parameter that changes the server's answer. Sharing a
// flight among requests that differ would hand one audience's token to another.
func flightID(r *Request) string {
	scopes := make([]string, len(r.Scopes))
	for i, s := range r.Scopes {
		scopes[i] = strings.ToLower(s)
	}
	slices.Sort(scopes)
	var b []byte
	for _, s := range slices.Compact(scopes) {
		b = appendPart(b, s)
	}
	id := appendPart(nil, string(b))
	id = appendPart(id, r.Tenant)
	id = appendPart(id, r.Resource)
	id = appendPart(id, r.Claims)
	if r.Refused != "" {
		sum := sha256.Sum256([]byte(r.Refused))
		id = append(id, sum[:]...)
	}
	return string(id)
}

// busy turns the end of a flight's own time into ErrBusy.
func busy(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrBusy
	}
	return err
}
