package xoauth2_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"net/url"
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

// noting makes the fake say that its logout tokens name sessions.
func noting(t *testing.T, tenant string) *fake {
	t.Helper()
	f := newFake(t, tenant)
	f.metadata["backchannel_logout_session_supported"] = true
	return f
}

// arrive signs in from a session at the server, and returns a context of a request.
func (f *fake) arrive(t *testing.T, cache *tokencache.Cache, c *xoauth2.Client, session string, claims, members map[string]any) context.Context {
	t.Helper()
	authURL, s, err := c.BeginSignIn(&xoauth2.SignInOptions{Session: session})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"nonce": u.Query().Get("nonce")}
	maps.Copy(all, claims)
	body := tokens(map[string]any{"id_token": f.idToken(t, all)})
	maps.Copy(body, members)
	f.answer(reply{body: body})
	ticket, err := c.CompleteSignIn(t.Context(), s, url.Values{"state": {u.Query().Get("state")}, "code": {"marker-code"}})
	if err != nil {
		t.Fatal(err)
	}
	return tokencache.NewContext(t.Context(), cache.Partition(ticket.Key()))
}

// What a logout token ends: the session that it names, on another machine than that of
// the sign-in, or else everything of the user that it names.
func TestLogoutOfASession(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	const of1, of2, shared, bert = 1, 2, 4, 8 // sign-ins: anna's of two sessions, apart, and one that is shared
	for name, tt := range map[string]struct {
		claims m
		ends   int
	}{
		"sub and sid":               {claims: m{"sid": "1"}, ends: of1},
		"sid alone":                 {claims: m{"sub": nil, "sid": "2"}, ends: of2},
		"of the shared tokens":      {claims: m{"sub": nil, "sid": "3"}, ends: shared},
		"that joined them":          {claims: m{"sid": "4"}, ends: shared},
		"sub alone":                 {claims: m{"sid": nil}, ends: of1 | of2 | shared},
		"an unknown sid, with sub":  {claims: m{"sid": "9"}, ends: of1 | of2 | shared},
		"an unknown sid alone":      {claims: m{"sub": nil, "sid": "9"}},
		"an empty sid":              {claims: m{"sid": ""}, ends: of1 | of2 | shared},
		"of somebody else's":        {claims: m{"sub": "bert", "sid": "5"}, ends: bert},
		"another spelling of a sid": {claims: m{"sub": nil, "sid": "1 "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := noting(t, "")
			provider, err := memory.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = provider.Close(context.Background()) })
			machine := func() (*tokencache.Cache, *xoauth2.Client) {
				cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: f.issuer(), ClientID: idp.DefaultClientID}, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cache.Close(context.Background()) })
				return cache, newClient(t, cache, &xoauth2.Options{
					RedirectURL: callbackURL, HTTPClient: httpClient(t), ClientSecret: "marker", Scopes: []string{"read"},
				})
			}
			cache, c := machine()
			all := map[int]context.Context{
				of1:    f.arrive(t, cache, c, "marker-first", m{"sid": "1"}, nil),
				of2:    f.arrive(t, cache, c, "marker-second", m{"sid": "2"}, nil),
				shared: f.arrive(t, cache, c, "", m{"sid": "3"}, nil),
				bert:   f.arrive(t, cache, c, "", m{"sub": "bert", "sid": "5"}, nil),
			}
			f.arrive(t, cache, c, "", m{"sid": "4"}, nil)
			_, other := machine()
			f.answer(reply{}) // to revocations
			claims := m{"jti": name}
			maps.Copy(claims, tt.claims)
			if err := other.BackChannelLogout(t.Context(), f.logoutToken(t, "logout+jwt", claims)); err != nil {
				t.Error(err)
			}
			for which, user := range all {
				_, err := c.Token(user)
				if ended := errors.Is(err, tokencache.ErrRemoved); ended != (tt.ends&which != 0) || !ended && err != nil {
					t.Errorf("the sign-in %d: %v", which, err)
				}
			}
		})
	}
}

// Entra ID's logout tokens have no sub: the session tells, or else oid and tid.
func TestLogoutOfASessionAtEntra(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	const tenant = "11111111-2222-3333-4444-555555555555"
	f := noting(t, tenant)
	cache, c := f.client(t, nil)
	user := m{"oid": "o-1", "tid": tenant, "sid": "1"}
	info := m{"client_info": clientInfo("o-1", tenant)}
	logout := func(claims m) error {
		all := m{"sub": nil, "sid": nil}
		maps.Copy(all, claims)
		return c.BackChannelLogout(t.Context(), f.logoutToken(t, "", all))
	}
	signedIn := func(ctx context.Context, want bool) {
		t.Helper()
		if _, err := c.Token(ctx); (err == nil) != want || err != nil && !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("signed in: %v, want %v", err, want)
		}
	}
	first, second := f.arrive(t, cache, c, "marker-1", user, info), f.arrive(t, cache, c, "", user, info)
	for name, claims := range map[string]m{
		"whose?":                       {"jti": "1", "sub": "subject-1"},
		"whose, of an unknown session": {"jti": "2", "sub": "subject-1", "sid": "9"},
	} {
		if err := logout(claims); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	signedIn(first, true)
	if err := logout(m{"jti": "3", "tid": tenant, "sid": "1"}); err != nil {
		t.Error(err)
	}
	signedIn(first, false)
	signedIn(second, false)
	third := f.arrive(t, cache, c, "", user, info)
	if err := logout(m{"jti": "4", "sub": "x", "oid": "o-1", "tid": tenant}); err != nil {
		t.Error(err)
	}
	signedIn(third, false)
}

// Where the server does not say that it names sessions, nothing is noted, a token with
// sub signs its user out everywhere, and an ID token may have any sid.
func TestLogoutOfASessionThatIsNotNoted(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	apart := f.arrive(t, cache, c, "marker-1", map[string]any{"sid": "1"}, nil)
	odd := f.arrive(t, cache, c, "marker-2", map[string]any{"sid": 5}, nil)
	err := c.BackChannelLogout(t.Context(), f.logoutToken(t, "", map[string]any{"jti": "1", "sub": nil, "sid": "1"}))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a session alone: %v", err)
	}
	if err := c.BackChannelLogout(t.Context(), f.logoutToken(t, "", map[string]any{"jti": "2", "sid": "1"})); err != nil {
		t.Error(err)
	}
	for _, user := range []context.Context{apart, odd} {
		if _, err := c.Token(user); !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("the user has tokens still: %v", err)
		}
	}
}

// The local server tells of sessions alone: each browser ends with its own.
func TestBackChannelLogoutOfABrowser(t *testing.T) {
	t.Parallel()
	for name, entra := range map[string]bool{"plain": false, "entra": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var client *xoauth2.Client
			endpoint := httptest.NewServer(middleware.BackChannelLogout(func(ctx context.Context, token string) error {
				return client.BackChannelLogout(ctx, token)
			}))
			t.Cleanup(endpoint.Close)
			f := newFixture(t, config{entra: entra, idp: idp.Options{Clients: []idp.Client{{
				ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{"http://127.0.0.1/callback"},
				BackChannelLogoutURI: endpoint.URL, BackChannelLogoutSessionOnly: true,
			}}}})
			client = f.client
			first := f.ticket(t, "anna", &xoauth2.SignInOptions{Session: "marker-1"})
			second := f.ticket(t, "anna", &xoauth2.SignInOptions{Session: "marker-2"})
			tokens, err := f.cache.Partition(first.Key()).Tokens(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			doc, err := tokens.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var cached struct {
				IDToken map[string]struct {
					Secret string `json:"secret"`
				} `json:"IdToken"`
			}
			if err := json.Unmarshal(doc, &cached); err != nil || len(cached.IDToken) != 1 {
				t.Fatalf("%d ID tokens, %v", len(cached.IDToken), err)
			}
			for _, id := range cached.IDToken { // of the first browser, which signs out there
				end := f.client.EndSessionURL("") + "&id_token_hint=" + url.QueryEscape(id.Secret)
				resp, err := httpClient(t).Get(end)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			if s := f.idp.Stats(); s.BackChannelLogouts != 1 || s.BackChannelLogoutsFailed != 0 {
				t.Errorf("%d logouts, %d failed", s.BackChannelLogouts, s.BackChannelLogoutsFailed)
			}
			for ticket, want := range map[tokencache.Ticket]error{first: tokencache.ErrRemoved, second: nil} {
				_, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())))
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
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
