package tokencache

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"
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
// from the newest on. Each is loaded.
//
// Errors: those of Token, also [ErrNoTokens] if this partition's own sign-in has
// ended, and one that is [errors.ErrUnsupported] where the provider has no
// [OwnerIndex].
func (p *Partition) Holdings(ctx context.Context) ([]Holding, error) {
	if _, err := p.snapshot(ctx); err != nil {
		return nil, err
	}
	own, owners := p.cache.names.names(AccountKey(p.key.id.account).id), p.cache.store.caps.Owners
	if owners == nil || p.key.application() {
		return nil, errNoIndex
	}
	names, err := call(ctx, p.cache.store.calls, "list", func(ctx context.Context) ([]Name, error) {
		return owners.List(ctx, own.Owner)
	})
	if err != nil {
		return nil, err
	}
	var list []Holding
	for _, name := range names {
		st, err := p.owned(name).loadRecord(ctx, name)
		if err != nil {
			return nil, err
		}
		if h, ok := holding(st); ok {
			if name == own {
				h.Kind = KindAccount
			}
			current, _ := p.storageName()
			h.Current = name == current
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
	case st.snap == nil:
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
// error: nothing is removed. Errors are those of SignOut, [ErrNoTokens] if this
// partition's own sign-in has ended, and one for an ID that is none.
func (p *Partition) SignOutOf(ctx context.Context, id string, server Server) error {
	if _, err := p.snapshot(ctx); err != nil {
		return err
	}
	if b, err := base64.RawURLEncoding.Strict().DecodeString(id); err != nil || len(b) != 32 || len(id) != 43 {
		return errors.New("tokencache: not the ID of a partition")
	}
	name, err := p.storageName()
	if err != nil {
		return err
	}
	other := p.owned(Name{Owner: name.Owner, Partition: id})
	return other.SignOut(ctx, server)
}
