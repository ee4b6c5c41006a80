package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

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
	asked := time.Now()
	grant, err := f.server.Refresh(ctx, refreshToken, f.req)
	f.p.cache.down.report(err, time.Now())
	if err == nil {
		err = f.check(&grant)
	}
	f.p.tell(ctx, Event{Kind: EventRefresh, Source: SourceServer, Duration: time.Since(asked), Err: err})
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
	st, err := f.p.loadRecord(ctx, f.name)
	if err != nil || st.snap == nil {
		return false, err
	}
	rt, ok, err := st.snap.refreshToken(f.p.cache.ns.ClientID, f.p.key.id.account)
	return err == nil && ok && rt != spent, nil
}

// save stores the grant at once, or keeps it to be stored later. An error that
// says nothing about the user is a notStoredError.
func (f *flight) save(ctx context.Context, g Grant, spent Secret) error {
	base := f.state
	if f.alone {
		base = &state{name: f.name, err: ErrNoTokens, partial: true} // nobody knows what is stored
	}
	next := func(now *state) (meta, *document, error) {
		return f.apply(base, now, &change{grant: g, req: f.p.request(&f.req), used: spent})
	}
	defer func() {
		if r := recover(); r != nil { // in what is plugged in: the tokens are not lost by it
			_ = f.keep(ctx, base, next)
			panic(r)
		}
	}()
	err := ErrUnavailable
	if !f.alone {
		var saved *state
		saved, err = f.p.commit(ctx, flightSaveTimeout, f.access, base, next)
		switch {
		case err == nil:
			f.state = saved
			return nil
		case errors.Is(err, ErrNoTokens):
			return err // signed out meanwhile
		}
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrConflict) {
		err = errors.Join(err, f.keep(ctx, base, next))
	}
	return &notStoredError{err: err}
}

// keep keeps the change, with the lease, to be saved later.
func (f *flight) keep(ctx context.Context, base *state, next changeFunc) error {
	kept, err := f.p.keep(ctx, base, next, f.lease)
	if err == nil {
		f.state, f.kept = kept, true
	}
	return err
}

// apply makes the change to what is stored now. A refresh never brings back
// what was removed since it began, nor replaces what it cannot read.
func (f *flight) apply(base, now *state, c *change) (meta, *document, error) {
	if now.mark != base.mark && now.mark != (Version{}) && (!base.partial || !removalTime(now.mark).Before(f.began)) {
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
	case time.Since(f.began) >= tombstoneLife:
		return meta{}, nil, ErrRemoved // perhaps: a tombstone would be gone by now
	case base.snap != nil:
		// Evicted while the server was asked. It was not removed: a tombstone
		// is still there.
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
