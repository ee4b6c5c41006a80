package middleware_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// doorman knows one token.
type doorman struct{ err error }

const goodToken = "marker-good"

func (d doorman) Verify(_ context.Context, token string) (tokencache.AssertionClaims, error) {
	if d.err != nil || token != goodToken {
		return tokencache.AssertionClaims{}, errors.Join(d.err, errors.New("forged"))
	}
	return tokencache.AssertionClaims{Account: "anna", Expires: time.Now().Add(time.Hour), Scopes: []string{"Read", "Write"}}, nil
}

// further is the authorization server, which has a token for whoever is let in.
type further struct{}

func (further) Refresh(context.Context, tokencache.Secret, tokencache.Request) (tokencache.Grant, error) {
	return tokencache.Grant{AccessToken: "marker-further", Expires: time.Now().Add(time.Hour)}, nil
}

func (further) Revoke(context.Context, tokencache.Secret) error { return nil }

// Only a verified token lets a request in, and only then anything is loaded or
// stored.
func TestRequireBearer(t *testing.T) {
	t.Parallel()
	bearer := func(token string) []string { return []string{"Bearer " + token} }
	down := fmt.Errorf("keys: %w", &tokencache.ServerError{Err: errors.New("down")})
	for name, tt := range map[string]struct {
		headers   []string
		o         *middleware.BearerOptions
		err       error
		status    int
		challenge string
	}{
		"good":                {headers: bearer(goodToken), status: 200},
		"in another case":     {headers: []string{"bearer  " + goodToken}, status: 200},
		"with the scopes":     {headers: bearer(goodToken), o: &middleware.BearerOptions{Scopes: []string{"Read", "Write"}}, status: 200},
		"none":                {status: 401, challenge: `Bearer`},
		"none, with a realm":  {o: &middleware.BearerOptions{Realm: "tasks"}, status: 401, challenge: `Bearer realm="tasks"`},
		"another scheme":      {headers: []string{"Basic bWFya2Vy"}, status: 401, challenge: `Bearer`},
		"forged":              {headers: bearer("marker-forged"), status: 401, challenge: `Bearer error="invalid_token"`},
		"alg none":            {headers: bearer("eyJhbGciOiJub25lIn0.e30."), status: 401, challenge: `Bearer error="invalid_token"`},
		"huge":                {headers: bearer(strings.Repeat("a", 16<<10+1)), status: 401, challenge: `Bearer error="invalid_token"`},
		"empty":               {headers: bearer(""), status: 400, challenge: `Bearer error="invalid_request"`},
		"two in one header":   {headers: bearer(goodToken + ", Bearer " + goodToken), status: 400, challenge: `Bearer error="invalid_request"`},
		"two headers":         {headers: []string{"Bearer " + goodToken, "Bearer " + goodToken}, status: 400, challenge: `Bearer error="invalid_request"`},
		"strange characters":  {headers: bearer("a\"b"), status: 400, challenge: `Bearer error="invalid_request"`},
		"without a scope":     {headers: bearer(goodToken), o: &middleware.BearerOptions{Scopes: []string{"Read", "Delete"}}, status: 403, challenge: `Bearer error="insufficient_scope", scope="Read Delete"`},
		"the keys are away":   {headers: bearer(goodToken), err: down, status: 503},
		"the caller has left": {headers: bearer(goodToken), err: context.Canceled, status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider := newStore(t)
			cache := newCache(t, provider, "https://login.example")
			h := middleware.RequireBearer(cache, doorman{tt.err}, tt.o)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				p, ok := cache.FromContext(r.Context())
				a, also := tokencache.AssertionFromContext(r.Context())
				if !ok || !also || a.Token() != goodToken || p.Key() != tokencache.AssertionKey(a) || p.Key().Account() != "anna" {
					t.Error("the handler does not know its caller")
					return
				}
				if _, err := p.Token(r.Context(), tokencache.Request{Scopes: []string{"Further"}}, further{}); err != nil {
					t.Error(err)
				}
			}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header["Authorization"] = tt.headers
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Header().Get("WWW-Authenticate"), tt.status, tt.challenge)
			}
			if w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), "marker") {
				t.Errorf("the answer may be stored, or repeats the token: %v", w.Header())
			}
			if in := tt.status == 200; (provider.saves.Load() > 0) != in || (provider.loads.Load() > 0) != in {
				t.Errorf("%d loads and %d saves", provider.loads.Load(), provider.saves.Load())
			}
		})
	}
}

// An API that cannot go on without its caller says what it needs.
func TestChallenge(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"acrs":{"value":"c1"}}}`
	for name, tt := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"claims": {
			fmt.Errorf("token: %w", &tokencache.InteractionRequiredError{Claims: claims}), 401,
			`Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`,
		},
		"consent":      {&tokencache.InteractionRequiredError{Code: "consent_required"}, 403, `Bearer error="insufficient_scope"`},
		"refused":      {tokencache.ErrInvalidGrant, 401, `Bearer error="invalid_token"`},
		"an outage":    {tokencache.ErrUnavailable, 0, ""},
		"nothing":      {nil, 0, ""},
		"its own bugs": {errors.New("bug"), 0, ""},
	} {
		w := httptest.NewRecorder()
		if done := middleware.Challenge(w, tt.err); done != (tt.status != 0) {
			t.Errorf("%s: answered: %v", name, done)
		}
		if got := w.Header().Get("WWW-Authenticate"); got != tt.says || tt.status != 0 && w.Code != tt.status {
			t.Errorf("%s: got %d %q", name, w.Code, got)
		}
	}
}
