package tokencache

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// SignOut removes the partition, and then has the server revoke its refresh
// token; a nil server revokes nothing. Other sessions of the same account are
// then without tokens, on other machines as soon as their copies end (see
// [Options.L1MaxAge]). A session whose own sign-in has ended already removes
// nothing, and that is no error. Once it has begun, SignOut goes on when ctx ends.
//
// The errors of the two steps are joined: with [ErrUnavailable] the partition may
// still be there, with *[ServerError] it is gone but the server was not told.
// Other errors are [ErrConflict] when others kept writing, and a hook's. It can be
// repeated. A provider that does not answer is tried for 2 seconds, and the server
// has 5.
func (p *Partition) SignOut(ctx context.Context, server Server) error {
	spent, err := p.removing(ctx, removeTimeout, p.bury)
	if errors.Is(err, errOtherSignIn) {
		return nil
	}
	p.tell(ctx, Event{Kind: EventSignOut, Err: err})
	return errors.Join(err, revoke(ctx, server, spent))
}

// SignOutEverywhere removes every partition that the account owns, whatever its
// kind: the user's own, those of assertions and those of long-running sessions.
// What is being created or refreshed at the moment is refused when it comes to
// be stored. Then it has the server revoke the refresh tokens that were found.
//
// A session whose own sign-in has ended gets [ErrNoTokens], and removes nothing.
// The key of an application is an error, since others work with its tokens.
// Other errors are those of SignOut, joined. It can be repeated: after
// [ErrUnavailable] perhaps nothing is removed. But once a part of it is, the rest
// is of no use to anybody, and vanishes when it would for not being used. Where
// the provider has no [OwnerIndex], only the account's own partition is removed.
func (p *Partition) SignOutEverywhere(ctx context.Context, server Server) error {
	if p.key.application() {
		return errors.New("tokencache: an application key cannot be signed out everywhere")
	}
	spent, err := p.removing(ctx, removeTimeout, p.removeOwner)
	p.tell(ctx, Event{Kind: EventSignOut, Detail: detailEverywhere, Err: err})
	return errors.Join(err, revoke(ctx, server, spent))
}

// SignOutAccount is [Partition.SignOutEverywhere] for an account of which no session is
// at hand: the authorization server has said that its user signed out, or an
// administrator has. Where the provider has no [OwnerIndex] it is an error
// ([errors.ErrUnsupported]), and nothing is removed: partitions of sessions would stay.
func (c *Cache) SignOutAccount(ctx context.Context, account string, server Server) error {
	if c.store.caps.Owners == nil {
		return errNoIndex
	}
	return c.Partition(AccountKey(account)).SignOutEverywhere(ctx, server)
}

// current loads the partition from the provider.
func (p *Partition) current(ctx context.Context) (*state, error) {
	name, err := p.storageName()
	if err != nil {
		return nil, err
	}
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	st, err := p.loadRecord(ctx, name)
	if err != nil {
		return nil, err
	}
	return p.guard(st), nil
}

// toRemove is current, but does not wait for another machine to restore what it
// wrote: over a tombstone it restores nothing. That goes for what came back of the
// session's own sign-in; of all else bury could not tell whether what is restored
// just before it is a later one.
func (p *Partition) toRemove(ctx context.Context) (*state, error) {
	st, awaited := p.current(ctx)
	if !errors.Is(awaited, errAwaited) {
		return st, awaited
	}
	name, err := p.storageName()
	if err != nil {
		return nil, err
	}
	if st, err = p.loadStored(ctx, name); err != nil {
		return nil, err
	}
	if st.snap == nil || p.key.generation != st.snap.generation {
		return nil, awaited
	}
	return st, nil
}

// removing calls remove with what is stored, with the hooks around it, on a
// context that outlives the request, for at most the patience given. It returns
// the refresh tokens that were removed, also along with an error: whoever signs
// out wants them revoked. The error is errOtherSignIn if there is nothing that
// this partition may remove.
func (p *Partition) removing(
	ctx context.Context, patience time.Duration, remove func(context.Context, *Access, *state) ([]Secret, error),
) (spent []Secret, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	ctx, access, err := p.begin(ctx, nil)
	var st *state
	defer func() {
		left := st.snapshot()
		if err == nil || access != nil && access.saved {
			left = nil
		}
		p.end(ctx, access, left, SourceNone, err)
	}()
	if err != nil {
		return nil, err
	}
	err = patiently(ctx, func() error {
		st, err = p.toRemove(ctx)
		return err
	})
	if err != nil {
		return nil, ownDeadline(err)
	}
	if errors.Is(st.err, errOtherSignIn) {
		return nil, st.err
	}
	if err := p.cache.hooks.writing(ctx, access, nil, time.Time{}); err != nil {
		return nil, err
	}
	return remove(ctx, access, st)
}

// removeOwner marks the owner as removed, which ends all of its partitions, and
// then removes them one by one. The mark comes first: whatever is created
// afterwards is refused, and whatever was created before is listed.
func (p *Partition) removeOwner(ctx context.Context, a *Access, own *state) (spent []Secret, err error) {
	owners := p.cache.store.caps.Owners
	if owners == nil {
		return p.bury(ctx, a, own)
	}
	var errs []error
	for _, e := range p.cache.unsaved.ofOwner(own.name.Owner) {
		errs = append(errs, e.store(ctx)) // to be found, removed and revoked like the others
	}
	now := time.Now()
	mark := newRemoval(now)
	err = p.cache.store.calls.do(ctx, "mark", func(ctx context.Context) error {
		return owners.SetMark(ctx, own.name.Owner, mark, now.Add(p.cache.opts.markLife()))
	})
	if err != nil {
		return nil, err
	}
	names, listed := call(ctx, p.cache.store.calls, "list", func(ctx context.Context) ([]Name, error) {
		return owners.List(ctx, own.name.Owner)
	})
	spent, err = p.bury(ctx, a, own)
	errs = append(errs, listed, err)
	for _, name := range names {
		if name == own.name {
			continue
		}
		patience := removeTimeout
		if errors.Is(errors.Join(errs...), ErrUnavailable) { // all are tried, but an outage is waited for once
			patience = min(patience, p.cache.opts.ProviderTimeout)
		}
		found, err := p.owned(name).removing(ctx, patience, p.bury)
		spent, errs = append(spent, found...), append(errs, err)
	}
	return spent, errors.Join(errs...)
}

// owned is a partition of the same owner, of which the name is known and the key
// is not.
func (p *Partition) owned(name Name) *Partition {
	other := &Partition{cache: p.cache, key: Key{id: p.key.id}}
	other.memo.Store(&memo{name: name, corr: p.correlation()})
	return other
}

// bury saves a tombstone over the state, or over what has come in its place, but
// for a later sign-in.
func (p *Partition) bury(ctx context.Context, a *Access, st *state) (spent []Secret, err error) {
	defer p.cache.l1.drop(st.name)
	for range saveAttempts {
		spent = append(spent, p.refreshTokens(st)...)
		now := time.Now()
		tomb := Record{Version: newRemoval(now), Mark: st.mark, Expires: now.Add(tombstoneLife)}
		over := p.cache.l1.own(tomb.Version)
		err := patiently(ctx, func() error { return p.swap(ctx, st, tomb) })
		over()
		var moved *errMoved
		if !errors.As(err, &moved) {
			if err == nil {
				a.done()
				p.cache.l1.drop(st.name)
				p.cache.forgetSIDs(ctx, st)
				p.tell(ctx, Event{Kind: EventSave, Detail: detailRemoved, Duration: time.Since(now)})
			}
			return spent, ownDeadline(err)
		}
		before := st.generation()
		st = moved.now
		if st.snap != nil && st.snap.generation != before {
			return spent, nil // somebody has signed in anew
		}
	}
	return spent, ErrConflict
}

func (p *Partition) refreshTokens(st *state) []Secret {
	held := cmp.Or(st.snap, st.lost)
	if held == nil {
		return nil
	}
	rt, ok, err := held.refreshToken(p.cache.ns.ClientID, p.key.id.account)
	if err != nil || !ok {
		return nil
	}
	return []Secret{rt}
}

// revoke tells the server. It goes on after ctx has ended: the partition is
// gone, and nobody will ask for this again.
func revoke(ctx context.Context, server Server, tokens []Secret) error {
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	var errs []error
	for _, token := range tokens {
		errs = append(errs, server.Revoke(ctx, token))
	}
	return errors.Join(errs...)
}
