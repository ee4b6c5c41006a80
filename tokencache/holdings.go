package tokencache

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Kind tells what a partition is for.
type Kind string

const (
	// KindAccount is the account's own, which the user's browsers share.
	KindAccount Kind = "account"
	// KindSession is that of one web session or long-running process ([SessionKey]).
	KindSession Kind = "session"
	// KindAssertion is what was obtained on behalf of the bearer of one token.
	KindAssertion Kind = "assertion"
	// KindUnknown is one that does not open: its key is lost, or it was altered.
	KindUnknown Kind = "unknown"
)

// Holding is a partition in which an account has tokens, as somebody sees it who
// would like to know where they are signed in. It holds no token.
type Holding struct {
	// ID names the partition, for [Partition.SignOutOf]. It tells nothing about the
	// account.
	ID string
	// Kind tells what it is for.
	Kind Kind
	// Current is true for the partition that was asked.
	Current bool
	// Obtained is when its newest token was obtained from the authorization server,
	// zero if there is none.
	Obtained time.Time
	// Expires is when it ends if it is not used; zero: never.
	Expires time.Time
	// Ends is when it ends although it is used; zero: when its last token does.
	Ends time.Time
}

var errNoIndex = fmt.Errorf("tokencache: the provider cannot list what an account owns: %w", errors.ErrUnsupported)

// Holdings lists the partitions in which the account has tokens, its own first, then
// from the newest on. Each is loaded, all of them within 2 seconds.
//
// Errors: those of Token, also [ErrNoTokens] if this partition's own sign-in has
// ended, and one that is [errors.ErrUnsupported] where the provider has no
// [OwnerIndex].
func (p *Partition) Holdings(ctx context.Context) ([]Holding, error) {
	if _, err := p.snapshot(ctx); err != nil {
		return nil, err
	}
	names, err := p.listOwned(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	states := make([]*state, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreAtOnce)
	for i, name := range names {
		group.Go(func() (err error) {
			states[i], err = p.owned(name).loadRecord(ctx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, ownDeadline(err)
	}
	own := p.cache.names.names(AccountKey(p.key.id.account).id)
	current, _ := p.storageName()
	var list []Holding
	for _, st := range states {
		if h, ok := holding(st); ok {
			if st.name == own {
				h.Kind = KindAccount
			}
			h.Current = st.name == current
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Holding) int {
		if (a.Kind == KindAccount) != (b.Kind == KindAccount) {
			return map[bool]int{true: -1, false: 1}[a.Kind == KindAccount]
		}
		return b.Obtained.Compare(a.Obtained)
	})
	return list, nil
}

// holding describes a partition, and tells whether there is anything in it.
func holding(st *state) (h Holding, ok bool) {
	h = Holding{ID: st.name.Partition, Kind: KindUnknown, Expires: st.expires}
	switch {
	case errors.Is(st.err, ErrUnreadable):
		return h, true
	case st.snap == nil || len(st.snap.entries) == 0:
		return h, false
	}
	h.Kind, h.Ends = KindSession, st.snap.end
	for i := range st.snap.entries {
		e := &st.snap.entries[i]
		if e.assertion != "" {
			h.Kind = KindAssertion
		}
		if at := time.Unix(e.cachedAt, 0); e.cachedAt != 0 && at.After(h.Obtained) {
			h.Obtained = at
		}
	}
	return h, true
}

// SignOutOf is SignOut for another partition of the same account, by the ID that
// [Partition.Holdings] tells. One that is not there, or is another account's, is no
// error: nothing is asked of the provider but the list. Errors are those of SignOut and
// of Holdings, and one for an ID that is none.
func (p *Partition) SignOutOf(ctx context.Context, id string, server Server) error {
	if _, err := p.snapshot(ctx); err != nil {
		return err
	}
	if b, err := base64.RawURLEncoding.Strict().DecodeString(id); err != nil || len(b) != 32 || len(id) != 43 {
		return errors.New("tokencache: not the ID of a partition")
	}
	own, err := p.storageName()
	if err != nil {
		return err
	}
	name := Name{Owner: own.Owner, Partition: id}
	for _, e := range p.cache.unsaved.ofOwner(own.Owner) {
		if e.st.name == name {
			err = errors.Join(err, e.store(ctx)) // or it would go on to be served
		}
	}
	names, listed := p.listOwned(ctx)
	if err = errors.Join(err, listed); err != nil || !slices.Contains(names, name) {
		return err
	}
	return p.owned(name).SignOut(ctx, server)
}

// listOwned returns the names of the account's partitions.
func (p *Partition) listOwned(ctx context.Context) ([]Name, error) {
	owners := p.cache.store.caps.Owners
	if owners == nil || p.key.application() {
		return nil, errNoIndex
	}
	own := p.cache.names.names(AccountKey(p.key.id.account).id)
	return call(ctx, p.cache.store.calls, "list", func(ctx context.Context) ([]Name, error) {
		return owners.List(ctx, own.Owner)
	})
}
