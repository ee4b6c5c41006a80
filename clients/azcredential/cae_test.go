package azcredential_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/azcredential"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// capable tells whether the authorization server was told that the token's client can
// handle challenges.
func capable(t *testing.T, token string) bool {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("the access token is no JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	return strings.Contains(string(b), `"xms_cc":["cp1"]`)
}

// SDK clients get tokens of continuous access evaluation, also after a challenge, and what
// the application obtains besides are ordinary ones: of the user and of its own.
func TestCAE(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ordinary, err := xoauth2.New(t.Context(), w.cache, &xoauth2.Options{
		ClientSecret: "marker-app-secret", RedirectURL: callbackURL, Scopes: []string{vaultScope}, HTTPClient: w.http,
	})
	must(t, err)
	w.client = ordinary
	anna := w.signIn(t, "anna")
	plain := w.token(t, anna)
	before := w.asked()
	for range 3 {
		_, err := w.sdk(azcredential.New(anna, w.client)).do(t, anna, "anna")
		must(t, err)
	}
	seen := slices.Compact(w.service.seen("anna"))
	if len(seen) != 1 || !capable(t, seen[0]) || capable(t, plain) || w.token(t, anna) != plain {
		t.Errorf("%d tokens, or one of the other kind", len(seen))
	}
	if n := w.asked() - before; n != 1 {
		t.Errorf("the authorization server was asked %d times, want 1", n)
	}

	time.Sleep(1100 * time.Millisecond) // the newer of two tokens is the answer, by the second
	w.service.challenging(func(token string) string {
		if token == seen[0] || token == plain {
			return challengeOf(wanted)
		}
		return ""
	})
	for range 2 {
		status, err := w.sdk(azcredential.New(anna, w.client)).do(t, anna, "challenged")
		if err != nil || status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	}
	for _, token := range w.service.seen("challenged") {
		if !capable(t, token) {
			t.Error("an ordinary token answers the challenge")
		}
	}
	if w.token(t, anna) != plain {
		t.Error("the ordinary token is another")
	}

	_, err = w.sdk(azcredential.NewApp(w.client)).do(t, t.Context(), "app")
	must(t, err)
	own, err := w.client.AppToken(t.Context(), tokencache.Request{Scopes: []string{vaultScope}})
	must(t, err)
	if app := w.service.seen("app"); len(app) != 1 || !capable(t, app[0]) || capable(t, string(own.AccessToken)) {
		t.Error("the application's own tokens are of the other kinds")
	}
}
