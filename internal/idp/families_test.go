package idp_test

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestStrictRotation(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	e := entra(s)
	first := signIn(t, e, "anna")
	other := signIn(t, e, "anna")
	second := mustTokens(t, post(t, e.token(), refreshForm(first.RefreshToken)))
	third := mustTokens(t, post(t, e.token(), refreshForm(second.RefreshToken)))
	if a := callAPI(t, s, first.AccessToken); a.status != http.StatusOK {
		t.Errorf("an access token died of a refresh: %d", a.status)
	}

	a := post(t, e.token(), refreshForm(first.RefreshToken))
	wantError(t, a, http.StatusBadRequest, "invalid_grant")
	if codes, _ := a.json(t)["error_codes"].([]any); len(codes) != 1 || codes[0] != 70043.0 {
		t.Errorf("error_codes %v, want [70043]", codes)
	}
	wantError(t, post(t, e.token(), refreshForm(third.RefreshToken)), http.StatusBadRequest, "invalid_grant")
	for i, tok := range []tokens{first, second, third} {
		if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusUnauthorized {
			t.Errorf("access token %d after reuse: %d, want 401", i+1, a.status)
		}
	}
	if got := s.Stats(); got.RefreshReused != 1 || got.FamiliesRevoked != 1 || got.TokenRequests.RefreshToken != 4 {
		t.Errorf("stats %+v", got)
	}
	mustTokens(t, post(t, e.token(), refreshForm(other.RefreshToken))) // another sign-in is untouched
}

func TestConcurrentRefreshes(t *testing.T) {
	t.Parallel()
	const n = 16
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	var (
		wg      sync.WaitGroup
		answers [n]answer
	)
	for i := range n {
		wg.Go(func() { answers[i] = post(t, plain(s).token(), refreshForm(tok.RefreshToken)) })
	}
	wg.Wait()
	var winners []tokens
	for _, a := range answers {
		if a.status == http.StatusOK {
			winners = append(winners, mustTokens(t, a))
			continue
		}
		wantError(t, a, http.StatusBadRequest, "invalid_grant")
	}
	if len(winners) != 1 {
		t.Fatalf("%d refreshes succeeded, want 1", len(winners))
	}
	wantError(t, post(t, plain(s).token(), refreshForm(winners[0].RefreshToken)), http.StatusBadRequest, "invalid_grant")
	if got := s.Stats(); got.RefreshReused != n-1 || got.FamiliesRevoked != 1 || got.TokenRequests.RefreshToken != n+1 {
		t.Errorf("stats %+v", got)
	}
}

func TestConcurrentRedemptions(t *testing.T) {
	t.Parallel()
	const n = 16
	s := listen(t, nil)
	form := codeForm(getCode(t, plain(s), "anna", authorizeQuery()))
	var (
		wg      sync.WaitGroup
		answers [n]answer
	)
	for i := range n {
		wg.Go(func() { answers[i] = post(t, plain(s).token(), form) })
	}
	wg.Wait()
	ok := 0
	for _, a := range answers {
		if a.status == http.StatusOK {
			ok++
		}
	}
	if got := s.Stats(); ok != 1 || got.FamiliesRevoked != 1 {
		t.Errorf("%d redemptions succeeded and %d families were revoked, want 1 and 1", ok, got.FamiliesRevoked)
	}
}

func TestRefreshTokenBelongsToItsClient(t *testing.T) {
	t.Parallel()
	s := listen(t, twoClients())
	tok := signIn(t, plain(s), "anna")
	form := refreshForm(tok.RefreshToken)
	form.Set("client_id", "other")
	form.Set("client_secret", "other-secret")
	wantError(t, post(t, plain(s).token(), form), http.StatusBadRequest, "invalid_grant")

	tampered := []byte(tok.RefreshToken)
	tampered[0] ^= 1
	wantError(t, post(t, plain(s).token(), refreshForm(string(tampered))), http.StatusBadRequest, "invalid_grant")

	mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken))) // neither has spent it
}

func twoClients() *idp.Options {
	return &idp.Options{Clients: []idp.Client{
		{ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{"http://127.0.0.1/callback"}},
		{ID: "other", Secret: "other-secret", RedirectURIs: []string{"http://127.0.0.1/callback"}},
	}}
}

func TestRevocationEndpoint(t *testing.T) {
	t.Parallel()
	s := listen(t, twoClients())
	used := signIn(t, plain(s), "anna")
	mustTokens(t, post(t, plain(s).token(), refreshForm(used.RefreshToken)))
	tests := []struct {
		name string
		e    endpoints
		pick func(tokens) string
	}{
		{"refresh token", plain(s), func(v tokens) string { return v.RefreshToken }},
		{"access token", entra(s), func(v tokens) string { return v.AccessToken }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tok := signIn(t, tt.e, "anna")
			before := s.Stats()
			form := url.Values{"token": {tt.pick(tok)}, "client_id": {"other"}, "client_secret": {"other-secret"}}
			wantError(t, post(t, tt.e.base+"/revoke", form), http.StatusBadRequest, "invalid_grant")
			if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusOK {
				t.Fatalf("another client's revocation was obeyed: %d", a.status)
			}
			for range 2 { // revoking twice is no error
				if a := post(t, tt.e.base+"/revoke", withClient(form)); a.status != http.StatusOK {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusUnauthorized {
				t.Errorf("API after revocation: %d, want 401", a.status)
			}
			wantError(t, post(t, tt.e.token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "invalid_grant")
			got := s.Stats()
			if got.Revocations != before.Revocations+2 || got.FamiliesRevoked != before.FamiliesRevoked+1 || got.RefreshReused != 0 {
				t.Errorf("stats %+v after %+v", got, before)
			}
		})
	}
	for _, token := range []string{"unknown", "a.b.c", used.IDToken} {
		if a := post(t, s.URL()+"/revoke", withClient(url.Values{"token": {token}})); a.status != http.StatusOK {
			t.Errorf("unknown token: %d, want 200", a.status)
		}
	}
	wantError(t, post(t, s.URL()+"/revoke", withClient(url.Values{})), http.StatusBadRequest, "invalid_request")
	wantError(t, post(t, s.URL()+"/revoke", url.Values{"token": {"x"}}), http.StatusUnauthorized, "invalid_client")
}

func TestRevokeUser(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	one, two, other := signIn(t, plain(s), "anna"), signIn(t, entra(s), "Anna"), signIn(t, plain(s), "bert")
	if n, err := s.RevokeUser("ANNA"); n != 2 || err != nil {
		t.Errorf("got %d, %v, want 2 families", n, err)
	}
	for _, tok := range []tokens{one, two} {
		wantError(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "invalid_grant")
	}
	mustTokens(t, post(t, plain(s).token(), refreshForm(other.RefreshToken)))
	mustTokens(t, post(t, plain(s).token(), refreshForm(signIn(t, plain(s), "anna").RefreshToken)))
	if n, err := s.RevokeUser("ANNA"); n != 1 || err != nil {
		t.Errorf("second time: got %d, %v, want 1 family", n, err)
	}
	if got := s.Stats(); got.FamiliesRevoked != 3 || got.RefreshReused != 0 {
		t.Errorf("stats %+v", got)
	}
	if _, err := s.RevokeUser(""); err == nil {
		t.Error("no error for an empty name")
	}
}

func TestInteractionRequired(t *testing.T) {
	t.Parallel()
	const demanded = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	s := listen(t, nil)
	e := entra(s)
	tok, other := signIn(t, e, "anna"), signIn(t, e, "bert")
	if err := s.RequireInteraction("Anna", demanded); err != nil {
		t.Fatal(err)
	}
	req := request(t, http.MethodPost, e.token(), refreshForm(tok.RefreshToken).Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "client-request-id", "01234567-89ab-cdef-0123-456789abcdef")
	a := do(t, req)
	wantError(t, a, http.StatusBadRequest, "interaction_required")
	body := a.json(t)
	if body["claims"] != demanded || body["suberror"] != "basic_action" || body["correlation_id"] != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("body %v", body)
	}
	for _, name := range []string{"error_codes", "timestamp", "trace_id", "error_description"} {
		if body[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	mustTokens(t, post(t, e.token(), refreshForm(other.RefreshToken)))
	if a := callAPI(t, s, tok.AccessToken); a.status != http.StatusOK {
		t.Errorf("an issued token died: %d", a.status)
	}

	signIn(t, e, "anna") // without claims: does not help
	wantError(t, post(t, e.token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "interaction_required")

	q := authorizeQuery()
	q.Set("claims", demanded)
	getCode(t, e, "bert", q) // somebody else: does not help
	wantError(t, post(t, e.token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "interaction_required")

	getCode(t, e, "anna", q)
	mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken))) // and it was never spent
	if got := s.Stats(); got.RefreshReused != 0 || got.FamiliesRevoked != 0 {
		t.Errorf("stats %+v", got)
	}
	for _, claims := range []string{"", "null", "[]", "x"} {
		if s.RequireInteraction("anna", claims) == nil {
			t.Errorf("claims %q were accepted", claims)
		}
	}
}
