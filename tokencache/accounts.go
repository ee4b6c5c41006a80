package tokencache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var errNoLister = fmt.Errorf("tokencache: the provider cannot list what it has: %w", errors.ErrUnsupported)

// Accounts lists who is signed in, by user name: those of this cache's client whose own
// partition ([AccountKey]) has a refresh token, or an access token that has not expired.
// It loads everything that the provider stores, one after the other: it is for a
// program on somebody's machine, which asks its user for which account to work, and not
// for a server with many users. No [Hook] is called. What it tells is personal data.
//
// Errors: [ErrUnavailable], ctx's, and one that is [errors.ErrUnsupported] where the
// provider has no [Lister]. What does not open is left out: it may be another client's.
func (c *Cache) Accounts(ctx context.Context) ([]Account, error) {
	lister := c.store.caps.Lister
	if lister == nil {
		return nil, errNoLister
	}
	seen := map[Name]bool{} // a name may be told twice
	var accounts []Account
	for cursor := ""; ; {
		var next string
		names, err := call(ctx, c.store.calls, "names", func(ctx context.Context) (names []Name, err error) {
			names, next, err = lister.Names(ctx, cursor)
			return names, err
		})
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			account, ok, err := c.signedIn(ctx, name)
			if err != nil {
				return nil, err
			}
			if ok {
				accounts = append(accounts, account)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	slices.SortFunc(accounts, func(a, b Account) int {
		return cmp.Or(cmp.Compare(a.Username, b.Username), cmp.Compare(a.ID, b.ID))
	})
	return accounts, nil
}

// signedIn returns the account whose own partition has this name, if it has tokens. Of
// one that has signed in to several directories, it is as the home directory has it.
func (c *Cache) signedIn(ctx context.Context, name Name) (account Account, ok bool, err error) {
	st, err := c.store.load(ctx, name)
	if err != nil || st.snap == nil {
		return Account{}, false, err
	}
	for _, a := range tokensOf(st.snap).Accounts() {
		if a.ID == "" || c.names.names(AccountKey(a.ID).id) != name {
			continue
		}
		if home := a.LocalID + "." + a.Tenant; !ok || strings.EqualFold(a.ID, home) {
			account, ok = a, true
		}
	}
	return account, ok && st.snap.usable(c.ns.ClientID, account.ID, time.Now()), nil
}
