package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// begin returns a context with the session of the cookie's token, as LoadAndSave
// makes it.
func begin(t testing.TB, m *scs.SessionManager, token string) context.Context {
	t.Helper()
	ctx, err := m.Load(t.Context(), token)
	must(t, err)
	return ctx
}

// signedIn is an app of ours without HTTP, and a context in which somebody is signed in.
func signedIn(t testing.TB, m *scs.SessionManager, o *session.Options) (*ours, context.Context) {
	t.Helper()
	p := newProvider(t, m, o)
	app := newApp(t, p)
	ctx := begin(t, m, "")
	must(t, app.signIn(ctx))
	return app, ctx
}

func inMemory(t testing.TB) *scs.SessionManager {
	t.Helper()
	return newManager(stores()[0].open(t)(t))
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*scs.SessionManager{
		"no manager": nil,
		"no store":   {Codec: scs.GobCodec{}},
		"no codec":   {Store: inMemory(t).Store},
	} {
		if _, err := session.New(m, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := session.New(&scs.SessionManager{}, &session.Options{Provider: newMemory(t)}); err != nil {
		t.Error("the manager's store is not needed:", err)
	}
}

// Where scs panics, there is an error.
func TestOutsideOfRequest(t *testing.T) {
	t.Parallel()
	app, _ := signedIn(t, inMemory(t), nil)
	ctx := t.Context()
	_, err := app.provider.Reference(ctx)
	wantNoSession(t, "Reference", err)
	_, err = app.provider.Ticket(ctx)
	wantNoSession(t, "Ticket", err)
	_, err = app.provider.SignIn(ctx, func(context.Context) (tokencache.Ticket, error) {
		t.Error("the server was asked")
		return tokencache.Ticket{}, nil
	})
	wantNoSession(t, "SignIn", err)
	wantNoSession(t, "Destroy", app.provider.Destroy(ctx, app.cache, nil))
	if app.provider.IsRecord(ctx) {
		t.Error("a record")
	}
	if _, ok := app.provider.Key(request(t, ctx)); ok {
		t.Error("somebody is signed in")
	}
}

func wantNoSession(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, session.ErrNoSession) || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("%s: error %v", what, err)
	}
}

func request(t testing.TB, ctx context.Context) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	must(t, err)
	return r
}

// Contexts that cannot be compared are contexts.
type odd struct {
	context.Context
	_ []int
}

func TestOddContext(t *testing.T) {
	t.Parallel()
	app, ctx := signedIn(t, inMemory(t), nil)
	if _, err := app.provider.Ticket(odd{Context: ctx}); err != nil {
		t.Error(err)
	}
	_, err := app.provider.Ticket(odd{Context: t.Context()})
	wantNoSession(t, "Ticket", err)
}

// A sign-in gets the session another token, and the reference that its tokens are
// found by stays until the next account.
func TestSignIn(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	p := newProvider(t, m, nil)
	app := newApp(t, p)
	ctx := begin(t, m, "")
	m.Put(ctx, "color", "blue")
	anonymous, _, err := m.Commit(ctx)
	must(t, err)
	ctx = begin(t, m, anonymous)
	if _, err := p.Ticket(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Error("before the sign-in: error", err)
	}
	one, err := p.Reference(ctx)
	must(t, err)
	if another, _ := p.Reference(ctx); one == "" || one == another {
		t.Error("references are not drawn at random")
	}
	must(t, app.signIn(ctx))
	token := m.Token(ctx)
	if _, found := find(t, m.Store, anonymous); found || token == anonymous {
		t.Error("the session is there under the token that it had before")
	}
	reloaded := begin(t, m, token) // it is stored already
	ticket, err := p.Ticket(reloaded)
	must(t, err)
	if key, ok := p.Key(request(t, reloaded)); !ok || key != ticket.Key() {
		t.Error("the request is nobody's")
	}
	if m.GetString(reloaded, "color") != "blue" {
		t.Error("the session's other values are gone")
	}
	joined, err := p.Reference(reloaded)
	must(t, err)
	must(t, app.signIn(reloaded))
	if again, _ := p.Ticket(reloaded); again != ticket {
		t.Error("another sign-in of the account did not join the first")
	}
	if still, _ := p.Reference(reloaded); still != joined {
		t.Error("the reference has changed")
	}
}

// Whatever goes wrong, nobody is signed in.
func TestSignInFails(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	p := newProvider(t, m, nil)
	cache, a := newCache(t, p, newKeys(t)), newAuthority()
	elsewhere := newCache(t, newMemory(t), nil)
	denied := errors.New("denied")
	for name, test := range map[string]struct {
		complete func(context.Context) (tokencache.Ticket, error)
		want     error
	}{
		"denied": {func(context.Context) (tokencache.Ticket, error) { return tokencache.Ticket{}, denied }, denied},
		"not apart": {func(ctx context.Context) (tokencache.Ticket, error) {
			return cache.SignIn(ctx, a.signIn("marker-user"))
		}, nil},
		"another cache": {func(ctx context.Context) (tokencache.Ticket, error) {
			return elsewhere.SignInSession(ctx, "marker-reference", a.signIn("marker-user"))
		}, nil},
		"another context": {func(context.Context) (tokencache.Ticket, error) {
			return cache.SignInSession(t.Context(), "marker-reference", a.signIn("marker-user"))
		}, nil},
		"no ticket": {func(context.Context) (tokencache.Ticket, error) { return tokencache.Ticket{}, nil }, nil},
	} {
		ctx := begin(t, m, "")
		if _, err := p.SignIn(ctx, test.complete); err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := p.Ticket(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: signed in all the same, error %v", name, err)
		}
	}
}

// What is in the session under the key may be anything.
func TestForeignValue(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	p := newProvider(t, m, &session.Options{Key: "mine"})
	for name, value := range map[string]any{
		"number": 7, "text": "marker-text", "space": " ", "empty": "", "half": "1.x y", "long": strings.Repeat("1.", 5000),
	} {
		ctx := begin(t, m, "")
		m.Put(ctx, "mine", value)
		if _, err := p.Ticket(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: error %v", name, err)
		}
		if reference, err := p.Reference(ctx); err != nil || len(reference) != 26 {
			t.Errorf("%s: not a new reference (%v)", name, err)
		}
	}
}

// Two providers share a session.
func TestTwoProviders(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	first, ctx := signedIn(t, m, nil)
	p := newProvider(t, m, &session.Options{Key: "second"})
	second := newApp(t, p)
	must(t, second.signIn(ctx))
	for _, app := range []*ours{first, second} {
		ticket, err := app.provider.Ticket(ctx)
		must(t, err)
		must(t, app.cache.Partition(ticket.Key()).Check(ctx))
	}
}

// Cookie and session stay as they are, however much there is to keep.
func TestSessionDoesNotGrow(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, sessions *scs.SessionManager, o *session.Options) {
		w := newOurs(t, sessions, o)
		w.enter(t)
		before, found := find(t, sessions.Store, w.cookie.Value)
		if !found {
			t.Fatal("the session is not stored")
		}
		w.authority.size = 20_000
		for range 3 {
			a := w.want(t, "/refresh", http.StatusOK)
			if a.cookie != nil && (a.cookie.Value != w.cookie.Value || sessions.IdleTimeout == 0) {
				t.Error("a refresh has changed the cookie")
			}
		}
		after, _ := find(t, sessions.Store, w.cookie.Value)
		if len(after) != len(before) || len(after) > 600 || len(w.cookie.Value) != 43 {
			t.Errorf("the session has %d bytes, and had %d; the cookie %d", len(after), len(before), len(w.cookie.Value))
		}
		for token, b := range all(t, sessions.Store) {
			if s := string(b); strings.Contains(s, "marker-refresh") || strings.Contains(s, "marker-access") {
				t.Errorf("tokens can be read in the store, under %d characters", len(token))
			}
		}
	})
}

// Every record that Iterate finds can be decoded, and told from a session.
func TestIterate(t *testing.T) {
	t.Parallel()
	for _, s := range stores() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := newManager(s.open(t)(t))
			app, ctx := signedIn(t, m, nil)
			gone, out := signedIn(t, m, nil)
			must(t, gone.signOut(out)) // leaves a tombstone
			app.authority.size = 100_000
			var records, sessions int
			must(t, m.Iterate(t.Context(), func(ctx context.Context) error {
				switch keys := m.Keys(ctx); {
				case app.provider.IsRecord(ctx):
					records++
					if len(keys) != 1 || keys[0] != "coatcheck.record" || !m.Deadline(ctx).After(time.Now()) {
						t.Errorf("a record has the values %v until %v", keys, m.Deadline(ctx))
					}
				default:
					sessions++
				}
				if _, ok := app.provider.Key(request(t, ctx)); ok == app.provider.IsRecord(ctx) {
					t.Error("a record is signed in, or a session is not")
				}
				return nil
			}))
			if records != 2 || sessions != 1 {
				t.Errorf("%d records and %d sessions, want 2 and 1", records, sessions)
			}
			must(t, app.cache.Partition(ticketOf(t, ctx, app).Key()).Check(ctx))
		})
	}
}

func ticketOf(t testing.TB, ctx context.Context, app *ours) tokencache.Ticket {
	t.Helper()
	ticket, err := app.provider.Ticket(ctx)
	must(t, err)
	return ticket
}

// Whoever learns under which token a record is stored has no session of it.
func TestRecordIsNoSession(t *testing.T) {
	t.Parallel()
	for _, hash := range []bool{false, true} {
		m := inMemory(t)
		m.HashTokenInStore = hash
		app, ctx := signedIn(t, m, nil)
		sessions := 0
		for token, before := range all(t, m.Store) {
			if !strings.HasPrefix(token, ";") {
				sessions++
				continue
			}
			if len(token) != 43 {
				t.Errorf("a token of %d characters", len(token))
			}
			r := request(t, t.Context())
			r.Header.Set("Cookie", m.Cookie.Name+"="+token)
			if c, err := r.Cookie(m.Cookie.Name); err == nil && c.Value == token {
				t.Error("a cookie may name a record")
			}
			// Another way than a cookie.
			other := begin(t, m, token)
			if hash && m.Token(other) != "" {
				t.Error("with hashed tokens, a record is a session")
			}
			if _, ok := app.provider.Key(request(t, other)); ok {
				t.Error("a record is signed in")
			}
			if after, _ := find(t, m.Store, token); string(after) != string(before) {
				t.Error("the record has changed")
			}
		}
		if sessions != 1 {
			t.Errorf("%d sessions", sessions)
		}
		must(t, app.cache.Partition(ticketOf(t, ctx, app).Key()).Check(ctx))
	}
}

// jsonCodec is one that keeps texts, and changes bytes and times into texts.
type jsonCodec struct{}

type jsonSession struct {
	Deadline time.Time
	Values   map[string]any
}

func (jsonCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	return json.Marshal(jsonSession{deadline, values})
}

func (jsonCodec) Decode(b []byte) (time.Time, map[string]any, error) {
	var s jsonSession
	err := json.Unmarshal(b, &s)
	return s.Deadline, s.Values, err
}

// Every Codec will do.
func TestCodec(t *testing.T) {
	t.Parallel()
	m := inMemory(t)
	m.Codec = jsonCodec{}
	app, ctx := signedIn(t, m, nil)
	reloaded := begin(t, m, m.Token(ctx))
	partition := app.cache.Partition(ticketOf(t, reloaded, app).Key())
	must(t, app.refresh(tokencache.NewContext(reloaded, partition)))
	must(t, newCache(t, app.provider, app.keys).Partition(partition.Key()).Check(t.Context()))
}
