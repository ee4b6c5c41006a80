package tokencache

import (
	"context"
	"errors"
	"time"
)

// SignOut removes the partition from the store and from every machine, and then
// has the server revoke its refresh token; a nil server revokes nothing. Other
// sessions of the same account are then without tokens. A session whose own
// sign-in has ended already removes nothing, and that is no error.
//
// The errors of the two steps are joined: with [ErrUnavailable] the partition may
// still be there, with *[ServerError] it is gone but the server was not told.
// It can be repeated.
func (p *Partition) SignOut(ctx context.Context, server Server) error {
	st, err := p.current(ctx)
	if err != nil {
		return err
	}
	if errors.Is(st.err, errOtherSignIn) {
		return nil
	}
	spent, err := p.remove(ctx, st)
	if err != nil {
		return err
	}
	return revoke(ctx, server, spent)
}

// SignOutEverywhere removes every partition that the account owns, whatever its
// kind, on every machine: the user's own, those of assertions and those of
// long-running sessions. What is being created or refreshed at the moment is
// refused when it comes to be stored. Then it has the server revoke the refresh
// tokens that were found.
//
// A session whose own sign-in has ended gets [ErrNoTokens], and removes nothing.
// Other errors are those of SignOut, joined. It can be repeated. Where the
// provider has no [OwnerIndex], only the account's own partition is removed.
func (p *Partition) SignOutEverywhere(ctx context.Context, server Server) error {
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
		found, err := p.removeName(ctx, name)
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

// removeName removes one partition of the owner, whose key is not known.
func (p *Partition) removeName(ctx context.Context, name Name) ([]Secret, error) {
	st, err := p.cache.store.load(ctx, name)
	if err != nil {
		return nil, err
	}
	anyGeneration := &Partition{cache: p.cache, key: Key{id: p.key.id}}
	return anyGeneration.remove(ctx, st)
}

// remove puts a tombstone in the place of the state, and returns the refresh
// token it held.
func (p *Partition) remove(ctx context.Context, st *state) (spent []Secret, err error) {
	access, err := p.cache.hooks.begin(ctx, p, nil)
	defer func() { p.cache.hooks.end(ctx, access, nil, SourceNone, err) }()
	if err != nil {
		return nil, err
	}
	if err := p.cache.hooks.writing(ctx, access, nil, time.Time{}); err != nil {
		return nil, err
	}
	defer p.cache.l1.drop(st.name)
	for range saveAttempts {
		now := time.Now()
		tomb := Record{Version: newRemoval(now), Mark: st.mark, Expires: now.Add(tombstoneLife)}
		err := p.cache.store.save(ctx, st.name, tomb, st.condition())
		if !errors.Is(err, ErrConflict) {
			return p.refreshTokens(st), err
		}
		if st, err = p.cache.store.load(ctx, st.name); err != nil {
			return nil, err
		}
		if st = p.guard(st); errors.Is(st.err, errOtherSignIn) || st.version == tomb.Version {
			return nil, nil // a later sign-in's; or our own, whose reply was lost
		}
	}
	return nil, ErrConflict
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	var errs []error
	for _, token := range tokens {
		errs = append(errs, server.Revoke(ctx, token))
	}
	return errors.Join(errs...)
}
