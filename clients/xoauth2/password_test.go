package xoauth2_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const annasPassword = "marker-password\tü&=+%"

var passwords = map[string]string{"anna": annasPassword}

// withPassword is a client and a server where anna has a password.
func (p proof) withPassword(t *testing.T, entra bool) *fixture {
	t.Helper()
	p.client.ID, p.client.RedirectURIs = idp.DefaultClientID, []string{callbackURL}
	f := &fixture{idp: listen(t, &idp.Options{Clients: []idp.Client{p.client}, Passwords: passwords})}
	issuer := f.idp.URL()
	if entra {
		issuer = f.idp.TenantURL()
	}
	o := p.options
	o.RedirectURL, o.Scopes, o.HTTPClient = callbackURL, []string{"profile", apiScope}, httpClient(t)
	o.HTTPClient.Transport = announcing{o.HTTPClient.Transport, p.methods}
	f.cache = newCache(t, issuer, nil)
	f.client = newClient(t, f.cache, &o)
	return f
}

// TestPassword: the tokens are those of a sign-in like any other, whatever proves who
// the client is.
func TestPassword(t *testing.T) {
	t.Parallel()
	for name, p := range proofs(t) {
		for issuer, entra := range map[string]bool{"plain": false, "entra": true} {
			t.Run(name+"/"+issuer, func(t *testing.T) {
				t.Parallel()
				f := p.withPassword(t, entra)
				ticket, err := f.client.SignInWithPassword(t.Context(), "Anna@contoso.test", annasPassword, nil)
				if err != nil {
					t.Fatal(err)
				}
				if inBrowser := f.ticket(t, "anna", nil); ticket.Account() != inBrowser.Account() {
					t.Error("it is another account than in the browser")
				}
				f.refreshAndSignOut(t, tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())))
				s := f.idp.Stats()
				if s.TokenRequests.Password != 1 || s.TokenRequests.RefreshToken != 1 || s.RefreshReused != 0 || s.SignIns != 2 {
					t.Errorf("stats %+v", s)
				}
			})
		}
	}
}

// TestPasswordIsNotEnough: what the server wants the user to do is said, and once that
// is done in a browser, the password is enough.
func TestPasswordIsNotEnough(t *testing.T) {
	t.Parallel()
	for name, entra := range map[string]bool{"plain": false, "entra": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{entra: entra, idp: idp.Options{Passwords: passwords, Consent: true}})
			refused := func(code, claims string) {
				t.Helper()
				before := f.writes.Load()
				_, err := f.client.SignInWithPassword(t.Context(), "anna", annasPassword, &xoauth2.PasswordOptions{Scopes: []string{"api://coatcheck-example/More"}})
				clean(t, err, "marker", "anna")
				var interaction *tokencache.InteractionRequiredError
				if !errors.As(err, &interaction) || errors.Is(err, xoauth2.ErrPassword) {
					t.Fatalf("got %v, want an InteractionRequiredError", err)
				}
				want := &tokencache.InteractionRequiredError{
					Code: code, Claims: claims, Scopes: []string{"api://coatcheck-example/More", "profile", apiScope},
				}
				if diff := cmp.Diff(want, interaction); diff != "" || f.writes.Load() != before {
					t.Errorf("(-want +got):\n%s, or something was stored", diff)
				}
			}
			refused("consent_required", "")
			if err := f.idp.Consent("anna", idp.DefaultClientID, apiScope, "api://coatcheck-example/More"); err != nil {
				t.Fatal(err)
			}
			const claims = `{"access_token":{"acrs":{"value":"c1"}}}`
			if err := f.idp.RequireInteraction("anna", claims); err != nil {
				t.Fatal(err)
			}
			refused("interaction_required", claims)
			f.ticket(t, "anna", &xoauth2.SignInOptions{Claims: claims})
			if _, err := f.client.SignInWithPassword(t.Context(), "anna", annasPassword, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPasswordRefused: the wrong password, and another's. The server is asked once,
// nothing is stored, and who is signed in stays so.
func TestPasswordRefused(t *testing.T) {
	t.Parallel()
	for name, entra := range map[string]bool{"plain": false, "entra": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{entra: entra, idp: idp.Options{Passwords: passwords}})
			ctx := f.signIn(t, "anna")
			writes := f.writes.Load()
			for _, c := range [][2]string{
				{"anna", "marker-wrong"}, {"anna", annasPassword + " "}, {"marker-nobody", annasPassword},
				{"anna", strings.Repeat("é", 8000)}, {strings.Repeat("marker", 2000), annasPassword},
			} {
				_, err := f.client.SignInWithPassword(t.Context(), c[0], c[1], nil)
				clean(t, err, "marker", "anna", "é")
				if !errors.Is(err, xoauth2.ErrPassword) {
					t.Errorf("got %v, want ErrPassword", err)
				}
			}
			if n := f.idp.Stats().TokenRequests.Password; n != 5 || f.writes.Load() != writes {
				t.Errorf("the server was asked %d times, want 5, or something was stored", n)
			}
			if _, err := f.client.Token(ctx); err != nil {
				t.Errorf("who is signed in: %v", err)
			}
		})
	}
}

// TestPasswordNotSent: what no server can accept is not sent to one.
func TestPasswordNotSent(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	f.answer(oauthFailure("invalid_grant"))
	for name, tt := range map[string][2]string{
		"no name": {"", "marker-password"}, "no password": {"marker-anna", ""}, "neither": {"", ""},
		"huge name": {strings.Repeat("marker", 1<<20), "x"}, "huge password": {"x", strings.Repeat("marker", 1<<20)},
		"too long together": {strings.Repeat("a", 8<<10), strings.Repeat("b", 8<<10+1)},
		"newline in name":   {"marker-anna\ngrant_type=x", "x"}, "newline in password": {"x", "marker\r\n"},
		"NUL": {"marker\x00", "x"}, "DEL": {"x", "marker\x7f"}, "not UTF-8": {"marker\xff", "x"}, "surrogate": {"x", "marker\xed\xa0\x80"},
		"noncharacter": {"marker\uffff", "x"},
	} {
		_, err := c.SignInWithPassword(t.Context(), tt[0], tt[1], nil)
		if !errors.Is(err, xoauth2.ErrPassword) {
			t.Errorf("%s: got %v, want ErrPassword", name, err)
		}
		clean(t, err, "marker")
	}
	for name, o := range map[string]*xoauth2.PasswordOptions{
		"two scopes in one": {Scopes: []string{"a b"}}, "claims": {Claims: "marker"}, "session": {Session: strings.Repeat("marker", 100)},
	} {
		_, err := c.SignInWithPassword(t.Context(), "anna", "marker-password", o)
		if err == nil || errors.Is(err, xoauth2.ErrPassword) {
			t.Errorf("%s: got %v", name, err)
		}
		clean(t, err, "marker", "anna")
	}
	f.metadata["grant_types_supported"] = []string{"authorization_code"}
	_, c = f.client(t, nil)
	if _, err := c.SignInWithPassword(t.Context(), "anna", "marker-password", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("not offered: got %v, want ErrUnsupported", err)
	}
	if len(f.requests) != 0 {
		t.Errorf("%d requests", len(f.requests))
	}
	f.metadata["grant_types_supported"] = []string{"password"}
	_, c = f.client(t, nil)
	if _, err := c.SignInWithPassword(t.Context(), strings.Repeat("a", 8<<10), strings.Repeat("b", 8<<10), nil); !errors.Is(err, xoauth2.ErrPassword) || len(f.requests) != 1 {
		t.Errorf("16 KiB: got %v after %d requests", err, len(f.requests))
	}
}

// TestPasswordRequest: what is sent.
func TestPasswordRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, &xoauth2.Options{Scopes: []string{"read"}})
	f.answer(reply{body: tokens(map[string]any{"id_token": f.idToken(t, nil)})})
	ticket, err := c.SignInWithPassword(t.Context(), "anna ü", annasPassword, &xoauth2.PasswordOptions{
		Scopes: []string{"write", "read"}, Claims: `{"a":null}`, Session: "session-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"grant_type": {"password"}, "username": {"anna ü"}, "password": {annasPassword}, "client_id": {idp.DefaultClientID},
		"scope": {"openid offline_access write read"}, "claims": {`{"a":null}`},
	}
	r := f.last(t)
	if !cmp.Equal(want, map[string][]string(r.PostForm)) || r.URL.RawQuery != "" {
		t.Errorf("sent the parameters of %d names, or others", len(r.PostForm)) // whose values are not for the output
	}
	if err := cache.Partition(tokencache.SessionKey("subject-1", "session-1")).Check(t.Context()); err != nil {
		t.Errorf("the session's partition: %v", err)
	}
	tok, err := c.Token(tokencache.NewContext(t.Context(), cache.Partition(ticket.Key())), "write", "read")
	if err != nil || tok.AccessToken != "marker-access-token" || len(f.requests) != 1 {
		t.Errorf("got %v after %d requests, or another token", err, len(f.requests))
	}
	if err := cache.Partition(tokencache.AccountKey("subject-1")).Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("the account's partition: got %v, want ErrNoTokens", err)
	}
}

// TestPasswordAnswers: each kind of answer has its error.
func TestPasswordAnswers(t *testing.T) {
	t.Parallel()
	entra := func(code, suberror, claims string) reply {
		return reply{status: 400, body: map[string]any{"error": code, "suberror": suberror, "claims": claims, "error_description": "marker"}}
	}
	const (
		password, denied, idToken, interaction, protocol, server = "password", "denied", "ID token", "interaction", "protocol", "server"
	)
	for name, tt := range map[string]struct {
		reply reply
		want  string
	}{
		"refused":            {oauthFailure("invalid_grant"), password},
		"refused, Auth0":     {reply{403, nil, map[string]any{"error": "invalid_grant"}}, password},
		"refused, suberror":  {entra("invalid_grant", "bad_token", ""), password},
		"second factor":      {entra("invalid_grant", "basic_action", ""), interaction},
		"claims":             {entra("invalid_grant", "", `{"a":null}`), interaction},
		"password expired":   {entra("invalid_grant", "user_password_expired", ""), interaction},
		"interaction":        {oauthFailure("interaction_required"), interaction},
		"consent":            {oauthFailure("consent_required"), interaction},
		"Auth0":              {reply{403, nil, map[string]any{"error": "mfa_required", "mfa_token": "marker"}}, interaction},
		"denied":             {oauthFailure("access_denied"), denied},
		"not for the client": {oauthFailure("unauthorized_client"), protocol},
		"not supported":      {oauthFailure("unsupported_grant_type"), protocol},
		"unreadable code":    {oauthFailure("marker ü"), protocol},
		"too many":           {reply{429, nil, map[string]any{"error": "invalid_grant"}}, server},
		"down":               {reply{status: 503}, server},
		"redirect":           {reply{307, http.Header{"Location": {"/elsewhere"}}, ""}, server},
		"garbage":            {reply{200, nil, "marker <html>"}, server},
		"no ID token":        {reply{body: tokens(nil)}, idToken},
		"not a JWT":          {reply{body: tokens(map[string]any{"id_token": "marker"})}, idToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "")
			cache, c := f.client(t, nil)
			f.answer(tt.reply)
			_, err := c.SignInWithPassword(t.Context(), "anna", "marker-password", nil)
			var i *tokencache.InteractionRequiredError
			var p *xoauth2.ProtocolError
			var s *tokencache.ServerError
			var got []string
			for kind, is := range map[string]bool{
				password: errors.Is(err, xoauth2.ErrPassword), denied: errors.Is(err, xoauth2.ErrDenied), idToken: errors.Is(err, xoauth2.ErrIDToken),
				interaction: errors.As(err, &i), protocol: errors.As(err, &p), server: errors.As(err, &s),
			} {
				if is {
					got = append(got, kind)
				}
			}
			if !slices.Equal(got, []string{tt.want}) || len(f.requests) != 1 {
				t.Errorf("got %v, which is %v, after %d requests, want %s", err, got, len(f.requests), tt.want)
			}
			clean(t, err, "marker", "anna")
			if err := cache.Partition(tokencache.AccountKey("subject-1")).Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("there are tokens, or %v", err)
			}
		})
	}
}

// TestPasswordTokensRefused: an answer about somebody else, or for somebody else, is
// not used.
func TestPasswordTokensRefused(t *testing.T) {
	t.Parallel()
	for name, claims := range map[string]map[string]any{
		"another's": {"aud": "another"}, "another issuer": {"iss": "https://evil.example"}, "expired": {"exp": 1}, "no subject": {"sub": ""},
		"another user": {"oid": "o-1", "tid": home},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, home)
			_, c := f.client(t, nil)
			all := map[string]any{"oid": "o-2", "tid": home}
			for k, v := range claims {
				all[k] = v
			}
			f.answer(reply{body: tokens(map[string]any{"id_token": f.idToken(t, all), "client_info": clientInfo("o-2", home)})})
			_, err := c.SignInWithPassword(t.Context(), "anna", "marker-password", nil)
			if !errors.Is(err, xoauth2.ErrIDToken) {
				t.Errorf("got %v, want ErrIDToken", err)
			}
			clean(t, err, "marker", "evil", "o-1", "o-2")
		})
	}
}

// TestPasswordWaits: a server that hangs is waited for as long as the context says.
func TestPasswordWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{idp: idp.Options{Passwords: passwords}})
	f.fault(t, idp.Fault{Endpoint: "token", Kind: "hang"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.client.SignInWithPassword(ctx, "anna", annasPassword, nil)
		done <- err
	}()
	for f.idp.Stats().TokenRequests.Password == 0 {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
	}
	cancel()
	err := <-done
	var down *tokencache.ServerError
	if !errors.Is(err, context.Canceled) || errors.As(err, &down) || f.writes.Load() != 0 {
		t.Errorf("got %v, or something was stored", err)
	}
	clean(t, err, "marker", "anna")
	if _, err := f.client.SignInWithPassword(t.Context(), "anna", annasPassword, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestPasswordExchange: whoever makes the token requests finds all of it in the form,
// and no proof of who the client is.
func TestPasswordExchange(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{idp: idp.Options{Passwords: passwords}})
	e := &exchanger{endpoint: f.idp.URL() + "/token"}
	var form map[string][]string
	f.client = newClient(t, f.cache, &xoauth2.Options{
		Scopes: []string{apiScope}, HTTPClient: httpClient(t),
		Exchange: func(ctx context.Context, r *xoauth2.TokenRequest) (*http.Response, error) {
			form = map[string][]string(r.Form)
			return e.exchange(ctx, r)
		},
	})
	ticket, err := f.client.SignInWithPassword(t.Context(), "anna", annasPassword, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"grant_type": {"password"}, "username": {"anna"}, "password": {annasPassword}, "scope": {"openid offline_access " + apiScope},
	}
	if !cmp.Equal(want, form) || !slices.Equal(e.requests[0].Scopes, []string{apiScope}) {
		t.Error("the form or the request has something else")
	}
	if _, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))); err != nil || e.asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, e.asked.Load())
	}
}
