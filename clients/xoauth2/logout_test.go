package xoauth2_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// logoutToken is what the server would send; claims override what is usual.
func (f *fake) logoutToken(t *testing.T, typ string, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"aud": idp.DefaultClientID, "scp": nil, "jti": "marker-id", "sid": "marker-session",
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	for name, value := range claims {
		all[name] = value
	}
	return f.accessToken(t, typ, f.key, all)
}

func TestLogoutToken(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	type m = map[string]any
	now := time.Now()
	for name, tt := range map[string]struct {
		typ    string
		claims m
		raw    string
		says   string
	}{
		"of no type":        {claims: m{"jti": "1"}},
		"JWT":               {typ: "JWT", claims: m{"jti": "2"}},
		"logout+jwt":        {typ: "logout+jwt", claims: m{"jti": "3"}},
		"without a session": {claims: m{"jti": "4", "sid": nil}},
		"an access token":   {typ: "at+jwt", says: "type"},
		"issuer":            {claims: m{"iss": "https://evil.example"}, says: "issuer"},
		"audience":          {claims: m{"aud": "marker-other"}, says: "audience"},
		"old":               {claims: m{"iat": now.Add(-10 * time.Minute).Unix()}, says: "time"},
		"of tomorrow":       {claims: m{"iat": now.Add(24 * time.Hour).Unix()}, says: "time"},
		"expired":           {claims: m{"exp": now.Add(-time.Minute).Unix()}, says: "expiry"},
		"no time":           {claims: m{"iat": nil}, says: "form"},
		"no event":          {claims: m{"events": nil}, says: "event"},
		"another event":     {claims: m{"events": m{"other": m{}}}, says: "event"},
		"no object":         {claims: m{"events": m{"http://schemas.openid.net/event/backchannel-logout": "x"}}, says: "event"},
		"a nonce":           {claims: m{"nonce": "marker-nonce"}, says: "nonce"},
		"no ID":             {claims: m{"jti": ""}, says: "ID"},
		"a long ID":         {claims: m{"jti": strings.Repeat("i", 256)}, says: "ID"},
		"nobody":            {claims: m{"sub": "", "sid": ""}, says: "neither"},
		"huge":              {claims: m{"x": strings.Repeat("x", 16<<10)}, says: "size"},
		"no JWT":            {raw: "marker", says: "form"},
		"alg none":          {raw: "eyJhbGciOiJub25lIn0.e30.", says: "algorithm"},
		"a MAC":             {raw: f.sign(t, jose.HS256, []byte(strings.Repeat("marker secret", 3)), m{"iss": f.URL}), says: "algorithm"},
	} {
		raw := tt.raw
		if raw == "" {
			raw = f.logoutToken(t, tt.typ, tt.claims)
		}
		err := c.BackChannelLogout(t.Context(), raw)
		if (err != nil) != (tt.says != "") || err != nil && (!errors.Is(err, xoauth2.ErrLogoutToken) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
		clean(t, err, "marker", "evil", "subject-1")
		if again := c.BackChannelLogout(t.Context(), raw); !errors.Is(again, xoauth2.ErrLogoutToken) {
			t.Errorf("%s: accepted for the second time: %v", name, again)
		}
	}
	err := c.BackChannelLogout(t.Context(), f.logoutToken(t, "", m{"sub": "", "jti": "6"}))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a session without a subject: %v", err)
	}
}

// The user signs out at the authorization server, which tells the app: everything of
// that user ends, in every browser and what was begun for them, and of nobody else.
func TestBackChannelLogoutFromTheServer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*idp.Server) error{
		"all of the user's":    func(s *idp.Server) error { _, err := s.RevokeUser("anna"); return err },
		"those of a browser's": func(s *idp.Server) error { _, err := s.EndSessions("anna"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var client *xoauth2.Client
			endpoint := httptest.NewServer(middleware.BackChannelLogout(func(ctx context.Context, token string) error {
				return client.BackChannelLogout(ctx, token)
			}))
			t.Cleanup(endpoint.Close)
			f := newFixture(t, config{idp: idp.Options{Clients: []idp.Client{{
				ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret,
				RedirectURIs: []string{"http://127.0.0.1/callback"}, BackChannelLogoutURI: endpoint.URL,
			}}}})
			client = f.client
			shared, bert := f.ticket(t, "anna", nil), f.ticket(t, "bert", nil)
			apart := f.ticket(t, "anna", &xoauth2.SignInOptions{Session: "marker-session"})
			if err := end(f.idp); err != nil {
				t.Fatal(err)
			}
			if s := f.idp.Stats(); s.BackChannelLogouts == 0 || s.BackChannelLogoutsFailed != 0 {
				t.Errorf("%d logouts, %d failed", s.BackChannelLogouts, s.BackChannelLogoutsFailed)
			}
			for _, ticket := range []tokencache.Ticket{shared, apart} {
				_, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())))
				if !errors.Is(err, tokencache.ErrRemoved) {
					t.Errorf("anna has tokens still: %v", err)
				}
			}
			if _, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(bert.Key()))); err != nil {
				t.Errorf("bert: %v", err)
			}
			again := f.ticket(t, "anna", nil)
			if _, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(again.Key()))); err != nil {
				t.Errorf("signed in anew: %v", err)
			}
		})
	}
}

// A token that could not do its work may come again; one that cannot do it at all is
// refused.
func TestBackChannelLogoutAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	provider, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	faults := providertest.NewFaults(provider)
	cache, err := tokencache.New(faults, tokencache.Namespace{Issuer: f.issuer(), ClientID: idp.DefaultClientID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close(context.Background()); _ = provider.Close(context.Background()) })
	c := newClient(t, cache, &xoauth2.Options{RedirectURL: callbackURL, HTTPClient: httpClient(t), ClientSecret: "marker"})
	user := f.mustSignIn(t, cache, c, nil, nil)
	token := f.logoutToken(t, "logout+jwt", nil)
	faults.Set(providertest.Down(), providertest.OpSetMark)
	if err := c.BackChannelLogout(t.Context(), token); !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("while the store is down: %v", err)
	}
	faults.Clear()
	if err := c.BackChannelLogout(t.Context(), token); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := c.Token(user); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("the user has tokens still: %v", err)
	}
	if err := c.BackChannelLogout(t.Context(), token); !errors.Is(err, xoauth2.ErrLogoutToken) {
		t.Errorf("after it has done its work: %v", err)
	}
}
