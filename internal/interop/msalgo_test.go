package interop_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// MSAL Go itself.
func TestMSALGo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *world){
		"from": fromGo,
		"to":   toGo,

		"in turns": inTurnsWithGo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, nil))
		})
	}
}

// blob is where a client of MSAL Go has its cache.
type blob struct{ text []byte }

func (b *blob) Replace(_ context.Context, c msalcache.Unmarshaler, _ msalcache.ReplaceHints) error {
	return c.Unmarshal(b.text)
}

func (b *blob) Export(_ context.Context, c msalcache.Marshaler, _ msalcache.ExportHints) (err error) {
	b.text, err = c.Marshal()
	return err
}

// goApp is the web app on MSAL Go.
func (w *world) goApp(t *testing.T, b *blob) confidential.Client {
	t.Helper()
	secret, err := confidential.NewCredFromSecret(clientSecret)
	check(t, err)
	c, err := confidential.New(w.authority(), clientID, secret,
		confidential.WithCache(b), confidential.WithHTTPClient(w.client(t)), confidential.WithInstanceDiscovery(false))
	check(t, err)
	return c
}

// silentGo asks MSAL Go for a token of the account. As with any client of it, the next one
// begins with what this one has left.
func (w *world) silentGo(t *testing.T, b *blob, account, scope string) tokencache.Secret {
	t.Helper()
	c := w.goApp(t, b)
	who, err := c.Account(t.Context(), account)
	check(t, err)
	r, err := c.AcquireTokenSilent(t.Context(), []string{scope}, confidential.WithSilentAccount(who))
	check(t, err)
	return tokencache.Secret(r.AccessToken)
}

// fromGo moves a user.
func fromGo(t *testing.T, w *world) {
	b := &blob{}
	c := w.goApp(t, b)
	authURL, err := c.AuthCodeURL(t.Context(), clientID, callbackURL, []string{readScope})
	check(t, err)
	u, err := url.Parse(authURL)
	check(t, err)
	verifier := oauth2.GenerateVerifier()
	q := u.Query()
	q.Set("scope", "openid profile offline_access "+readScope) // it asks for less than it redeems
	q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
	q.Set("code_challenge_method", "S256")
	q.Set("state", "state")
	q.Set("nonce", "nonce")
	u.RawQuery = q.Encode()
	code := w.browse(t, u.String(), "anna").Get("code")
	r, err := c.AcquireTokenByAuthCode(t.Context(), code, callbackURL, []string{readScope}, confidential.WithChallenge(verifier))
	check(t, err)
	second := w.silentGo(t, b, r.Account.HomeAccountID, mailScope)

	a := w.app(t)
	var ticket tokencache.Ticket
	w.refreshes(t, 0, func() {
		ticket = takeOver(t, a.cache, tokens(t, b.text))
		for scope, want := range map[string]tokencache.Secret{readScope: tokencache.Secret(r.AccessToken), mailScope: second} {
			if tok := a.token(t, ticket, scope); tok.AccessToken != want {
				t.Errorf("%s: another token, from the %s", scope, tok.Source)
			}
		}
	})
	if ticket.Account() != r.Account.HomeAccountID {
		t.Error("another account was signed in")
	}
	for range 2 {
		check(t, a.cache.Partition(ticket.Key()).Expire(t.Context()))
		w.refreshes(t, 1, func() { a.token(t, ticket, mailScope) })
	}
}

// inTurnsWithGo has both work with a user's tokens, one after the other. MSAL Go leaves
// the refresh token that it was given under another key beside its own.
func inTurnsWithGo(t *testing.T, w *world) {
	a := w.app(t)
	ticket := w.signIn(t, a, "anna")
	p := a.cache.Partition(ticket.Key())
	for _, scope := range []string{mailScope, "api://third/Read"} {
		before, text := a.export(t, ticket)
		b := &blob{text}
		var got tokencache.Secret
		w.refreshes(t, 1, func() { got = w.silentGo(t, b, ticket.Account(), scope) })
		if n := len(names(t, b.text)); n != 2 {
			t.Errorf("MSAL Go has %d refresh tokens", n)
		}
		check(t, p.Merge(t.Context(), before, tokens(t, b.text)))
		w.refreshes(t, 0, func() {
			if a.token(t, ticket, scope).AccessToken != got {
				t.Error("it is not the token that MSAL Go has obtained")
			}
		})
		check(t, p.Expire(t.Context()))
		w.refreshes(t, 1, func() { a.token(t, ticket, readScope) })
	}
}

// toGo moves a user back. MSAL Go has keys without dashes at their end; given others, it
// would keep a refresh token that it has used beside the new one, and use any of them.
func toGo(t *testing.T, w *world) {
	a := w.app(t)
	ticket := w.signIn(t, a, "anna")
	want := a.token(t, ticket, readScope).AccessToken
	_, text := a.export(t, ticket)
	b := &blob{rename(t, text, func(key string) string { return strings.TrimRight(key, "-") })}
	w.refreshes(t, 0, func() {
		if w.silentGo(t, b, ticket.Account(), readScope) != want {
			t.Error("it is another token")
		}
	})
	for _, scope := range []string{mailScope, "api://third/Read", "api://fourth/Read"} {
		w.refreshes(t, 1, func() { w.silentGo(t, b, ticket.Account(), scope) })
	}
	if n := len(names(t, b.text)); n != 1 {
		t.Errorf("MSAL Go has %d refresh tokens", n)
	}
}
