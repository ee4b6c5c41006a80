package tokencache_test

import (
	"context"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ends remembers when what was saved last under each name is to vanish.
type ends struct {
	tokencache.Provider
	byName map[tokencache.Name]time.Time
}

func (e *ends) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	e.byName[n] = r.Expires
	return e.Provider.Save(ctx, n, r, c)
}

// Where tokens end with the web session, the note of a sign-in does not, and is not
// taken for what ends with it: a session at the server may be that of several here.
func TestSIDBesideABoundSession(t *testing.T) {
	t.Parallel()
	manager := &scs.SessionManager{
		Store: memstore.NewWithCleanupInterval(0), Lifetime: 10 * time.Minute, Codec: scs.GobCodec{},
	}
	spy := &ends{newProvider(t), make(map[tokencache.Name]time.Time)}
	provider, err := session.New(manager, &session.Options{Provider: spy})
	if err != nil {
		t.Fatal(err)
	}
	c, a := newCache(t, provider, nil), newAuthority()
	ctx, err := manager.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := provider.SignIn(ctx, func(ctx context.Context) (tokencache.Ticket, error) {
		return c.SignInSession(ctx, "marker-session", a.from("sid", account, "read"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Partition(ticket.Key()).Expire(ctx); err != nil { // saves
		t.Fatal(err)
	}
	if len(spy.byName) != 2 {
		t.Fatalf("%d records, want the tokens and the note", len(spy.byName))
	}
	for name, end := range spy.byName {
		bound := !end.IsZero() && !end.After(manager.Deadline(ctx))
		if note := name.Owner == name.Partition; bound == note {
			t.Errorf("ends with the web session: %v; of the note: %v", bound, note)
		}
	}
}
