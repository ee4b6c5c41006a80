package idp_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestAPIRefusesTokens(t *testing.T) {
	t.Parallel()
	s, stranger := listen(t, nil), listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	parts := strings.Split(tok.AccessToken, ".")
	tests := map[string]struct{ header, reason string }{
		"no header":       {"", ""},
		"basic":           {"Basic eDp5", ""},
		"no token":        {"Bearer ", ""},
		"not a JWT":       {"Bearer x", "not an access token"},
		"ID token":        {"Bearer " + tok.IDToken, "not an access token"},
		"refresh token":   {"Bearer " + tok.RefreshToken, "not an access token"},
		"other server":    {"Bearer " + signIn(t, plain(stranger), "anna").AccessToken, "not an access token"},
		"other audience":  {"Bearer " + signIn(t, plain(s), "anna", "openid", "api://mail/Read").AccessToken, "audience"},
		"other payload":   {"Bearer " + parts[0] + "." + strings.Split(tok.IDToken, ".")[1] + "." + parts[2], "not an access token"},
		"no signature":    {"Bearer " + parts[0] + "." + parts[1] + ".", "not an access token"},
		"algorithm none":  {"Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + ".", "not an access token"},
		"hostile garbage": {"Bearer " + strings.Repeat("\"\\", 100), "not an access token"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, a := range []answer{
				get(t, s.URL()+"/api/me", "Authorization", tt.header),
				do(t, request(t, http.MethodPost, s.URL()+"/api/echo", "body", "Authorization", tt.header)),
			} {
				got := a.header.Get("WWW-Authenticate")
				if a.status != http.StatusUnauthorized || !strings.HasPrefix(got, "Bearer ") {
					t.Fatalf("got %d with WWW-Authenticate %q, want 401", a.status, got)
				}
				// RFC 6750 §3.1: an error code only if there was a token.
				if wantCode := tt.reason != ""; strings.Contains(got, `error="invalid_token"`) != wantCode || !strings.Contains(got, tt.reason) {
					t.Errorf("WWW-Authenticate %q, want reason %q", got, tt.reason)
				}
			}
		})
	}
	if a := get(t, s.URL()+"/api/me", "Authorization", "bearer "+tok.AccessToken); a.status != http.StatusOK {
		t.Errorf("scheme in lower case: %d", a.status)
	}
}

func TestAccessTokensExpire(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{TokenLifetime: time.Second})
	tok := signIn(t, plain(s), "anna")
	time.Sleep(2100 * time.Millisecond) // exp is in whole seconds, rounded up
	a := callAPI(t, s, tok.AccessToken)
	if a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), "expired") {
		t.Errorf("got %d %q, want 401", a.status, a.header.Get("WWW-Authenticate"))
	}
	mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)))
}

// TestAPIAccount checks that both issuers name the same account.
func TestAPIAccount(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	a := callAPI(t, s, signIn(t, plain(s), "anna").AccessToken)
	b := callAPI(t, s, signIn(t, entra(s), "anna").AccessToken)
	if a.status != http.StatusOK || a.body != b.body {
		t.Errorf("got %s and %s", a.body, b.body)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	auth := "Bearer " + signIn(t, plain(s), "anna").AccessToken
	for size, want := range map[int]int{0: 200, 1 << 20: 200, 1<<20 + 1: 413} {
		body := strings.Repeat("<", size)
		a := do(t, request(t, http.MethodPost, s.URL()+"/api/echo", body, "Authorization", auth, "Content-Type", "text/html"))
		if a.status != want || (want == 200 && a.body != body) {
			t.Errorf("%d bytes: got %d with %d bytes, want %d", size, a.status, len(a.body), want)
		}
		if typ := a.header.Get("Content-Type"); want == 200 && typ != "application/octet-stream" {
			t.Errorf("Content-Type %q", typ)
		}
	}
}
