package tokencache

import (
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
// It can be repeated.
func (p *Partition) SignOut(ctx context.Context, server Server) error {
	spent, err := p.remove(ctx)
	return errors.Join(err, revoke(ctx, server, spent))
}

// SignOutEverywhere removes every partition that the account owns, whatever its
// kind: the user's own, those of assertions and those of long-running sessions.
// What is being created or refreshed at the moment is refused when it comes to
// be stored. Then it has the server revoke the refresh tokens that were found.
//
// A session whose own sign-in has ended gets [ErrNoTokens], and removes nothing.
// The key of an application is an error, since others work with its tokens.
// Other errors are those of SignOut, joined. It can be repeated. Where the
// provider has no [OwnerIndex], only the account's own partition is removed.
func (p *Partition) SignOutEverywhere(ctx context.Context, server Server) error {
	if p.key.application() {
		return errors.New("tokencache: an application key cannot be signed out everywhere")
	}
	st, err := p.current(ctx)
	if err != nil {
		return err
	}
	if errors.Is(st.err, errOtherSignIn) {
		return st.err
	}
	names, err := p.disown(ctx, st.name)
	if err != nil {
		return err
	}
	var spent []Secret
	var errs []error
	for _, name := range names {
		found, err := p.owned(name).remove(ctx)
		spent, errs = append(spent, found...), append(errs, err)
	}
	return errors.Join(append(errs, revoke(ctx, server, spent))...)
}

// current loads the partition from the provider.
func (p *Partition) current(ctx context.Context) (*state, error) {
	name, err := p.storageName()
	if err != nil {
		return nil, err
	}
	st, err := p.cache.store.load(ctx, name)
	if err != nil {
		return nil, err
	}
	return p.guard(st), nil
}

// disown marks the owner as removed and lists what there is to remove. The mark
// comes first: whatever is created afterwards is refused, and whatever was
// created before is listed.
func (p *Partition) disown(ctx context.Context, own Name) ([]Name, error) {
	store := &p.cache.store
	owners := store.caps.Owners
	names := []Name{own}
	if owners == nil {
		return names, nil
	}
	now := time.Now()
	err := store.call(ctx, "mark", func(ctx context.Context) error {
		return owners.SetMark(ctx, own.Owner, newRemoval(now), now.Add(tombstoneLife))
	})
	if err != nil {
		return nil, err
	}
	var owned []Name
	err = store.call(ctx, "list", func(ctx context.Context) (err error) {
		owned, err = owners.List(ctx, own.Owner)
		return err
	})
	for _, name := range owned {
		if name != own {
			names = append(names, name)
		}
	}
	return names, err
}

// owned is a partition of the same owner, of which the name is known and the key
// is not.
func (p *Partition) owned(name Name) *Partition {
	return &Partition{cache: p.cache, key: Key{id: p.key.id}, memo: &memo{name: name, corr: p.correlation()}}
}

// remove puts a tombstone in the place of what is stored, and returns the refresh
// token that it held, also if the store did not answer: whoever signs out wants
// it revoked.
func (p *Partition) remove(ctx context.Context) (spent []Secret, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	access, err := p.cache.hooks.begin(ctx, p, nil)
	var st *state
	defer func() {
		left := st.snapshot()
		if err == nil {
			left = nil
		}
		p.cache.hooks.end(ctx, access, left, SourceNone, err)
	}()
	if err != nil {
		return nil, err
	}
	st, err = p.current(ctx)
	if err != nil {
		return nil, err
	}
	if errors.Is(st.err, errOtherSignIn) {
		return nil, nil
	}
	if err := p.cache.hooks.writing(ctx, access, nil, time.Time{}); err != nil {
		return nil, err
	}
	defer p.cache.l1.drop(st.name)
	return p.bury(ctx, st)
}

// bury saves the tombstone over the state, or over what has come in its place.
func (p *Partition) bury(ctx context.Context, st *state) (spent []Secret, err error) {
	for range saveAttempts {
		spent = append(spent, p.refreshTokens(st)...)
		now := time.Now()
		tomb := Record{Version: newRemoval(now), Mark: st.mark, Expires: now.Add(tombstoneLife)}
		err := patiently(ctx, func() error { return p.cache.store.swap(ctx, st, tomb) })
		var moved *errMoved
		if !errors.As(err, &moved) {
			return spent, ownDeadline(err)
		}
		if st = p.guard(moved.now); errors.Is(st.err, errOtherSignIn) {
			return spent, nil // a later sign-in's
		}
	}
	return spent, ErrConflict
}

func (p *Partition) refreshTokens(st *state) []Secret {
	if st.snap == nil {
		return nil
	}
	rt, ok, err := st.snap.refreshToken(p.cache.ns.ClientID, p.key.id.account)
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
