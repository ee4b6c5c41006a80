package tokencache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// kept remembers what is stored under each name.
type kept struct {
	tokencache.Provider
	byName map[tokencache.Name]tokencache.Record
}

func (k *kept) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	err := k.Provider.Save(ctx, n, r, c)
	if err == nil {
		k.byName[n] = r
	}
	return err
}

// left counts what is no tombstone.
func (k *kept) left() (n int) {
	for _, r := range k.byName {
		if !r.Removed() {
			n++
		}
	}
	return n
}

// However a user signs out, nothing of them is left in the store but tombstones, and the
// end of the session, of which the server tells later, ends nothing else of theirs.
func TestSignOutForgetsSIDs(t *testing.T) {
	t.Parallel()
	const other = "marker-other"
	for name, signOut := range map[string]func(ctx context.Context, c *tokencache.Cache, t tokencache.Ticket) error{
		"here": func(ctx context.Context, c *tokencache.Cache, t tokencache.Ticket) error {
			return c.Partition(t.Key()).SignOut(ctx, nil)
		},
		"everywhere": func(ctx context.Context, c *tokencache.Cache, t tokencache.Ticket) error {
			return c.Partition(t.Key()).SignOutEverywhere(ctx, nil)
		},
		"by account": func(ctx context.Context, c *tokencache.Cache, t tokencache.Ticket) error {
			return c.SignOutAccount(ctx, t.Account(), nil)
		},
		"at the server": func(ctx context.Context, c *tokencache.Cache, _ tokencache.Ticket) error {
			_, err := c.SignOutSID(ctx, "sid", nil)
			return err
		},
	} {
		for how, session := range map[string]string{"shared": "", "apart": "marker-first"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				k := &kept{newProvider(t), make(map[tokencache.Name]tokencache.Record)}
				c, a := newCache(t, k, nil), newAuthority()
				ticket := arrive(t, c, a, "sid", account, session)
				if got := k.left(); got != 2 {
					t.Fatalf("%d records, want the tokens and the note", got)
				}
				if err := signOut(t.Context(), c, ticket); err != nil {
					t.Fatal(err)
				}
				if got := k.left(); got != 0 {
					t.Errorf("%d records are left", got)
				}
				for n, r := range k.byName {
					if note := n.Owner == n.Partition; note && time.Until(r.Expires) < time.Hour {
						t.Error("it will not be known for long that there is nothing to do")
					}
				}
				time.Sleep(2 * time.Millisecond) // a sign-in at the moment of a sign-out has come before it
				elsewhere := arrive(t, c, a, other, account, "marker-second")
				if known, err := c.SignOutSID(t.Context(), "sid", nil); !known || err != nil {
					t.Errorf("the end of the session: known %v, %v", known, err)
				}
				wantSignedIn(t, c, elsewhere, true)
				time.Sleep(2 * time.Millisecond)
				again := arrive(t, c, a, "sid", account, session)
				wantSignedIn(t, c, again, true)
				if known, err := c.SignOutSID(t.Context(), "sid", nil); !known || err != nil {
					t.Errorf("the end of the session after another sign-in: known %v, %v", known, err)
				}
				wantSignedIn(t, c, again, false)
			})
		}
	}
}

// One of two sign-ins from a session is forgotten, the other is not.
func TestSignOutForgetsOneOfTwo(t *testing.T) {
	t.Parallel()
	c, a := newCache(t, newProvider(t), nil), newAuthority()
	first := arrive(t, c, a, "sid", account, "marker-first")
	second := arrive(t, c, a, "sid", account, "marker-second")
	if err := c.Partition(first.Key()).SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantSignedIn(t, c, second, true)
	if known, err := c.SignOutSID(t.Context(), "sid", nil); !known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
	wantSignedIn(t, c, second, false)
}

// A sign-out that the store forgets nothing for at the moment is a sign-out.
func TestSignOutThatCannotForget(t *testing.T) {
	t.Parallel()
	broken := &noNotes{Provider: newProvider(t)}
	c, a := newCache(t, broken, nil), newAuthority()
	ticket := arrive(t, c, a, "sid", account, "")
	broken.on = true
	if err := c.Partition(ticket.Key()).SignOut(t.Context(), nil); err != nil {
		t.Errorf("signing out: %v", err)
	}
	wantSignedIn(t, c, ticket, false)
	broken.on = false
	if known, err := c.SignOutSID(t.Context(), "sid", nil); !known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
}

// noNotes has notes be refused, while on.
type noNotes struct {
	tokencache.Provider
	on bool
}

func (n *noNotes) Save(ctx context.Context, name tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if n.on && name.Owner == name.Partition {
		return tokencache.ErrConflict
	}
	return n.Provider.Save(ctx, name, r, c)
}

// A name that is too long is none: nothing of it is stored.
func TestLongSID(t *testing.T) {
	t.Parallel()
	k := &kept{newProvider(t), make(map[tokencache.Name]tokencache.Record)}
	c, a := newCache(t, k, nil), newAuthority()
	arrive(t, c, a, strings.Repeat("s", 257), account, "")
	if got := k.left(); got != 1 {
		t.Errorf("%d records, want the tokens alone", got)
	}
	if known, err := c.SignOutSID(t.Context(), strings.Repeat("s", 257), nil); known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
}

// A partition names the latest of its sessions, in the shape of MSAL's schema: members
// are objects of objects.
func TestSIDsInPartition(t *testing.T) {
	t.Parallel()
	c, a := newCache(t, newProvider(t), nil), newAuthority()
	var ticket tokencache.Ticket
	for i := range 34 {
		ticket = arrive(t, c, a, fmt.Sprintf("sid-%02d", i), account, "")
	}
	tokens, err := c.Partition(ticket.Key()).Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := tokens.Serialize(&text); err != nil {
		t.Fatal(err)
	}
	var members map[string]map[string]map[string]any
	if err := json.Unmarshal([]byte(text.String()), &members); err != nil {
		t.Fatal(err)
	}
	seen := members["coatcheck_sessions"]
	if _, ok := seen["sid-33"]; len(seen) != 32 || !ok || seen["sid-01"] != nil {
		t.Errorf("%d sessions, the last one among them: %v", len(seen), ok)
	}
}
