package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Merge stores what another library, such as MSAL, has made of the partition's tokens:
// before is what [Partition.Reload] had returned and the library was given, after what
// the library has now. The difference is made entry by entry to what is stored by now, so
// that nothing is lost which others have stored meanwhile:
//
//   - a refresh token replaces the one that was in before, and no other: so read before
//     anew for each Merge, or the library's next refresh token is not stored;
//   - of access tokens and the rest, the newer one stays;
//   - what is missing in after stays, and so does what is another client's;
//   - entries of on-behalf-of flows are left out: they belong to an incoming token.
//
// An entry of another account is an error, and nothing is stored. So is a partition that
// has no tokens yet, unless it is the application's: only a sign-in begins one
// ([Grant].Tokens).
//
// The end of ctx does not stop it. While the provider does not answer, the difference
// is kept, as that of a refresh is: this process answers with it, and stores it later
// ([EventUnsaved]).
//
// Errors: [ErrRemoved] if the user has signed out since before was read, or may have: if
// nothing is stored any more, and before is older than 4 minutes. Other errors of
// [Partition.Token] that say that there are no tokens, [ErrTooLarge], a hook's, or
// [ErrUnavailable] if too much is kept already.
func (p *Partition) Merge(ctx context.Context, before, after *Tokens) (err error) {
	if before == nil {
		before = &Tokens{}
	}
	d, err := p.difference(before, after)
	if err != nil || !d.changes(p.cache.writer(p.key)) {
		return err
	}
	if err := p.cache.begin(); err != nil {
		return err
	}
	defer p.cache.work.Done()
	began := time.Now()
	ctx, access, err := p.begin(context.WithoutCancel(ctx), nil)
	var saved *state
	defer func() { p.end(ctx, access, saved.snapshot(), SourceServer, err) }()
	if err != nil {
		return err
	}
	st, err := p.currentPatiently(ctx)
	if err != nil {
		return err
	}
	base := st
	if before.snap != nil {
		base = &state{name: st.name, found: true, mark: before.snap.mark, snap: before.snap}
	}
	switch {
	case base.snap != nil || p.renewable(base):
	case base.partial:
		return errPartial
	default:
		return base.err
	}
	f := &flight{p: p, began: began}
	if before.snap != nil && !p.key.application() {
		f.began = before.read // a removal since then may have left no trace by now
	}
	next := func(now *state) (meta, *document, error) { return f.apply(base, now, &change{tokens: d}) }
	saved, err = p.commit(ctx, flightSaveTimeout, access, st, next)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrConflict) {
		saved, err = p.keepLater(ctx, base, next, err)
	}
	return err
}

// difference checks what another library has made of before.
func (p *Partition) difference(before, after *Tokens) (*difference, error) {
	if p.key.id.kind == kindAssertion {
		return nil, fmt.Errorf("tokencache: tokens on behalf of an incoming token are not merged: %w", errors.ErrUnsupported)
	}
	d := &difference{}
	var err error
	if d.before, err = before.view(); err != nil {
		return nil, ErrUnreadable
	}
	if d.after, err = after.view(); err != nil {
		return nil, ErrUnreadable
	}
	if d.foreign(p.cache.writer(p.key)) {
		return nil, errOtherAccount
	}
	snap := before.snap
	if snap == nil { // a copy: what else it was is not known, but the refresh token is
		was, err := advance(&state{}, func(*state) (meta, *document, error) { return meta{}, d.before, nil }, time.Now())
		if err != nil {
			return nil, err
		}
		snap = was.snap
	}
	d.used, _, err = snap.refreshToken(p.cache.ns.ClientID, p.key.id.account)
	return d, err
}

// keepLater keeps what could not be saved, because of err.
func (p *Partition) keepLater(ctx context.Context, base *state, next changeFunc, err error) (*state, error) {
	ctx, cancel := context.WithTimeout(ctx, flightSaveTimeout)
	defer cancel()
	unlock, lerr := p.cache.locks.lock(ctx, base.name.Partition)
	if lerr != nil {
		return nil, err
	}
	defer unlock()
	kept, kerr := p.keep(ctx, base, next, &held{end: func() {}})
	if kerr != nil {
		return nil, errors.Join(err, kerr)
	}
	return kept, nil
}
