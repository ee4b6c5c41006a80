package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// SignIn completes a sign-in: exchange asks the authorization server, usually
// with an authorization code, and SignIn stores what it returns in the account's
// partition. The ticket is for the web session.
//
// A sign-in may replace what a refresh may not: a removed partition, or one that
// cannot be read. If the user signed out everywhere, or of this account, after
// exchange was called, SignIn fails with [ErrRemoved]. So it does if the session at the
// authorization server has ended since ([Cache.SignOutSID]). That compares the clocks
// of machines: where one is ahead, signing in elsewhere right after signing out
// there fails for as long as the difference. Signing in to a partition that is
// in use joins it: the browsers of one user share their tokens.
//
// Errors: exchange's, [ErrRemoved], [ErrUnavailable], [ErrTooLarge], [ErrConflict]
// when others kept writing, or a hook's. Once exchange has returned, the end of
// ctx no longer stops the sign-in. While the provider does not answer, it is tried
// for some 7 seconds; the tokens are then lost, and ErrUnavailable returned. So it is
// if they are stored and the session that they are from ([Grant].SID) cannot be noted,
// as its end would be missed.
func (c *Cache) SignIn(ctx context.Context, exchange func(context.Context) (Grant, error)) (Ticket, error) {
	return c.signIn(ctx, "", exchange)
}

// SignInSession is SignIn into a partition of its own ([SessionKey]) in place of the
// account's: for tokens that end with one web session, while those of the user's
// other browsers stay, or that a long-running process goes on with after its caller
// has gone. The session is a name that the application chooses, at random unless it
// means to join what is there, of at most 256 bytes. Signing the account out everywhere ends it too.
func (c *Cache) SignInSession(ctx context.Context, session string, exchange func(context.Context) (Grant, error)) (Ticket, error) {
	switch { // before the server has issued anything
	case session == "":
		return Ticket{}, errEmptyPart
	case len(session) > maxSession:
		return Ticket{}, errors.New("tokencache: the name of the session is longer than 256 bytes")
	}
	return c.signIn(ctx, session, exchange)
}

// maxSession leaves room for the account in the ticket.
const maxSession = 256

func (c *Cache) signIn(ctx context.Context, session string, exchange func(context.Context) (Grant, error)) (Ticket, error) {
	started := time.Now()
	grant, err := exchange(ctx)
	if err != nil {
		return Ticket{}, err
	}
	switch {
	case grant.Account.ID == "":
		return Ticket{}, errors.New("tokencache: the grant names no account")
	case grant.AccessToken == "" && grant.Tokens == nil:
		return Ticket{}, errors.New("tokencache: the grant has no access token")
	}
	ctx = context.WithoutCancel(ctx)
	t := Ticket{account: grant.Account.ID, session: session}
	if err := c.checkTokens(t.Key(), grant.Tokens); err != nil {
		return Ticket{}, err
	}
	switch err := c.Partition(t.Key()).signIn(ctx, &t, grant, started); {
	case errors.Is(err, errSIDEnded):
		_ = c.Partition(t.Key()).SignOut(ctx, nil) // or it would outlive the session
		return Ticket{}, err
	case err != nil:
		return Ticket{}, err
	}
	return t, nil
}

// signIn stores the grant, and completes the ticket.
func (p *Partition) signIn(ctx context.Context, t *Ticket, grant Grant, started time.Time) (err error) {
	var saved *state
	ctx, access, err := p.begin(ctx, nil)
	defer func() {
		p.end(ctx, access, saved.snapshot(), SourceServer, err)
		p.tell(ctx, Event{Kind: EventSignIn, Source: SourceServer, Duration: time.Since(started), Err: err})
	}()
	if err != nil {
		return err
	}
	st, err := p.currentPatiently(ctx)
	if err != nil {
		return err
	}
	saved, err = p.commit(ctx, saveTimeout, access, st, func(now *state) (meta, *document, error) {
		return p.signedIn(now, newSignIn(grant), started)
	})
	if err != nil {
		return err
	}
	t.generation = saved.snap.generation
	return p.cache.noteSID(ctx, grant.SID, *t, started, saved.snap.end)
}

// newSignIn is the change that a sign-in makes. Tokens that do not decode were refused
// before.
func newSignIn(g Grant) *change {
	c := &change{grant: g, signIn: true}
	if g.Tokens != nil {
		all, _ := g.Tokens.view()
		c.tokens = &difference{before: &document{}, after: all}
	}
	return c
}

// checkTokens refuses a cache of another library that has nothing for this client.
func (c *Cache) checkTokens(key Key, t *Tokens) error {
	if t == nil {
		return nil
	}
	all, err := t.view()
	if err != nil {
		return ErrUnreadable
	}
	now, d := time.Now(), &document{}
	taken := &change{signIn: true, tokens: &difference{before: &document{}, after: all}}
	if err := d.apply(taken, c.writer(key), now); err != nil {
		return err
	}
	plain, err := encodePlain(meta{}, d, now)
	if err != nil {
		return err
	}
	if s, err := parsePlain(plain); err != nil || !s.usable(c.ns.ClientID, key.id.account, now) {
		return fmt.Errorf("%w: there are none of the account and of this client in what was taken over", ErrNoTokens)
	}
	return nil
}

// currentPatiently loads the partition, and tries again for a while: by now the
// server has issued the tokens.
func (p *Partition) currentPatiently(ctx context.Context) (st *state, err error) {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	err = patiently(ctx, func() error {
		st, err = p.current(ctx)
		return err
	})
	name, nerr := p.storageName()
	if nerr == nil && errors.Is(ownDeadline(err), ErrUnavailable) {
		// A save may still succeed. It then only creates: what it would replace
		// is not known.
		return &state{name: name, err: ErrNoTokens, partial: true}, nil
	}
	return st, ownDeadline(err)
}

// signedIn applies a sign-in to what is stored now.
func (p *Partition) signedIn(now *state, c *change, started time.Time) (meta, *document, error) {
	if removed := now.removal(); !removed.IsZero() && !removed.Before(started) {
		return meta{}, nil, ErrRemoved
	}
	m, doc := p.freshMeta(time.Now()), &document{}
	if now.snap != nil {
		// A document that does not decode is replaced like one that does not open.
		if kept, err := now.snap.document(); err == nil {
			m.generation, doc = cmp.Or(now.snap.generation, m.generation), kept
		}
	}
	if p.cache.notesSIDs() {
		doc.addSID(c.grant.SID, time.Now())
	}
	return m, doc, doc.apply(c, p.cache.writer(p.key), time.Now())
}
