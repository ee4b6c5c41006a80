package idp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func fault(t *testing.T, s *idp.Server, f idp.Fault) {
	t.Helper()
	if err := s.Fault(f); err != nil {
		t.Fatal(err)
	}
}

func TestStatusFaultAtEveryEndpoint(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for endpoint, call := range map[string]func() answer{
		"token":     func() answer { return post(t, entra(s).token(), refreshForm("x")) },
		"authorize": func() answer { return get(t, plain(s).base+"/authorize?"+authorizeQuery().Encode()) },
		"api":       func() answer { return callAPI(t, s, "x") },
		"revoke":    func() answer { return post(t, plain(s).base+"/revoke", refreshForm("x")) },
		"userinfo":  func() answer { return get(t, entra(s).base+"/userinfo") },
		"discovery": func() answer { return get(t, s.TenantURL()+"/.well-known/openid-configuration") },
		"keys":      func() answer { return get(t, s.URL()+"/keys") },
		"device":    func() answer { return post(t, entra(s).base+"/devicecode", withClient(url.Values{})) },
	} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			normal := call().status
			fault(t, s, idp.Fault{Endpoint: endpoint, Status: 503, Times: 2})
			for range 2 {
				a := call()
				wantError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
				if a.header.Get("Retry-After") != "1" {
					t.Errorf("Retry-After %q, want 1", a.header.Get("Retry-After"))
				}
			}
			if got := call().status; got != normal {
				t.Errorf("after the fault: %d, want %d", got, normal)
			}
			fault(t, s, idp.Fault{Endpoint: endpoint, Status: 500}) // once by default
			if got := call().status; got != 500 {
				t.Errorf("second fault: %d, want 500", got)
			}
			if got := call().status; got != normal {
				t.Errorf("after the second fault: %d, want %d", got, normal)
			}
		})
	}
}

func TestFaultedRefreshIsCountedAndSpendsNothing(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	fault(t, s, idp.Fault{Endpoint: "token", Status: 503, Times: 3})
	for range 3 {
		wantError(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)), 503, "temporarily_unavailable")
	}
	mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)))
	if got := s.Stats(); got.TokenRequests.RefreshToken != 4 || got.RefreshReused != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestUnauthorizedFaultOfTheAPI(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	fault(t, s, idp.Fault{Endpoint: "api", Status: 401})
	a := callAPI(t, s, tok.AccessToken)
	if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("%d %q", a.status, a.header.Get("WWW-Authenticate"))
	}
}

func TestDelayFault(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	fault(t, s, idp.Fault{Endpoint: "keys", Delay: 150 * time.Millisecond})
	for _, wantSlow := range []bool{true, false} {
		start := time.Now()
		if a := get(t, s.URL()+"/keys"); a.status != http.StatusOK {
			t.Fatalf("status %d", a.status)
		}
		if slow := time.Since(start) >= 150*time.Millisecond; wantSlow && !slow {
			t.Error("the answer was not delayed")
		}
	}
}

func TestGarbageAndHugeFaults(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "garbage"})
	a := post(t, plain(s).token(), refreshForm("x"))
	if a.status != http.StatusOK || strings.HasPrefix(a.body, "{") {
		t.Errorf("garbage: %d %q", a.status, a.body)
	}
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "huge"})
	a = post(t, plain(s).token(), refreshForm("x"))
	if a.status != http.StatusOK || len(a.body) < 4<<20 || !strings.HasPrefix(a.body, `{"`) {
		t.Errorf("huge: %d with %d bytes", a.status, len(a.body))
	}
}

func TestDropFault(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "drop"})
	req := request(t, http.MethodPost, plain(s).token(), refreshForm(tok.RefreshToken).Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if resp, err := browser(t).Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("got an answer: %d", resp.StatusCode)
	}
	// The refresh happened all the same, so the token is spent.
	wantError(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "invalid_grant")
	if got := s.Stats().RefreshReused; got != 1 {
		t.Errorf("RefreshReused %d, want 1", got)
	}
}

func TestHangFault(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	fault(t, s, idp.Fault{Endpoint: "api", Kind: "hang", Delay: 100 * time.Millisecond})
	start := time.Now()
	wantError(t, callAPI(t, s, "x"), http.StatusServiceUnavailable, "temporarily_unavailable")
	if time.Since(start) < 100*time.Millisecond {
		t.Error("did not hang")
	}

}

// TestHangEndsWithTheClient sends a body, because the server hears of a client's
// leaving only once the body has been read.
func TestHangEndsWithTheClient(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	ended := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		s.Handler().ServeHTTP(w, r)
	}))
	defer front.Close()

	fault(t, s, idp.Fault{Endpoint: "api", Kind: "hang", Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req := request(t, http.MethodPost, front.URL+"/api/echo", strings.Repeat("x", 1<<20)).WithContext(ctx)
	if resp, err := browser(t).Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("got an answer: %d", resp.StatusCode)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the request still hangs after its client has gone")
	}
}

func TestCloseReleasesHangingRequests(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "hang", Times: 4})
	statuses := make(chan int, 4)
	for range 4 {
		go func() {
			resp, err := http.PostForm(plain(s).token(), refreshForm("x"))
			if err != nil {
				statuses <- 0
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	for deadline := time.Now().Add(10 * time.Second); s.Stats().TokenRequests.RefreshToken < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the requests did not arrive")
		}
	}
	start := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Close took %s", took)
	}
	for range 4 {
		if got := <-statuses; got != http.StatusServiceUnavailable {
			t.Errorf("a hanging request ended with %d, want 503", got)
		}
	}
	if resp, err := browser(t).Get(s.URL() + "/keys"); err == nil {
		_ = resp.Body.Close()
		t.Error("the server still answers")
	}
}

func TestTokenShapingFaults(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	good := payload(t, signIn(t, plain(s), "anna").IDToken)
	tests := map[string]func(*testing.T, tokens, map[string]any){
		"wrong_nonce": func(t *testing.T, _ tokens, id map[string]any) {
			if id["nonce"] == "the-nonce" || id["nonce"] == nil || id["sub"] != good["sub"] {
				t.Errorf("claims %v", id)
			}
		},
		"wrong_audience": func(t *testing.T, _ tokens, id map[string]any) {
			if id["aud"] == idp.DefaultClientID || id["nonce"] != "the-nonce" {
				t.Errorf("claims %v", id)
			}
		},
		"foreign_subject": func(t *testing.T, tok tokens, id map[string]any) {
			if id["sub"] == good["sub"] || id["oid"] == good["oid"] || id["nonce"] != "the-nonce" {
				t.Errorf("claims %v", id)
			}
			if payload(t, tok.AccessToken)["sub"] != good["sub"] {
				t.Error("the access token changed too")
			}
		},
		"no_refresh_token": func(t *testing.T, tok tokens, _ map[string]any) {
			if tok.RefreshToken != "" {
				t.Error("there is a refresh token")
			}
		},
		"fewer_scopes": func(t *testing.T, tok tokens, _ map[string]any) {
			if want := "openid " + apiScope; tok.Scope != want {
				t.Errorf("scope %q, want %q", tok.Scope, want)
			}
			if scp := payload(t, tok.AccessToken)["scp"]; scp != "Data.Read" {
				t.Errorf("scp %v", scp)
			}
		},
	}
	for kind, check := range tests {
		t.Run(kind, func(t *testing.T) {
			code := getCode(t, plain(s), "anna", authorizeQuery("openid", "offline_access", apiScope, "api://coatcheck-example/Data.Write"))
			fault(t, s, idp.Fault{Endpoint: "token", Kind: kind})
			tok := mustTokens(t, post(t, plain(s).token(), codeForm(code)))
			check(t, tok, payload(t, tok.IDToken))
		})
	}
}

func TestNoRefreshTokenFaultLeavesTheTokenInForce(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "no_refresh_token"})
	if got := mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken))); got.RefreshToken != "" {
		t.Error("there is a refresh token")
	}
	mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)))
}

func TestFaultValidation(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for name, f := range map[string]idp.Fault{
		"no endpoint":        {Status: 503},
		"unknown endpoint":   {Endpoint: "x", Status: 503},
		"nothing to do":      {Endpoint: "token"},
		"status 200":         {Endpoint: "token", Status: 200},
		"status 600":         {Endpoint: "token", Status: 600},
		"unknown kind":       {Endpoint: "token", Kind: "x"},
		"status and kind":    {Endpoint: "token", Status: 503, Kind: "hang"},
		"token kind at keys": {Endpoint: "keys", Kind: "wrong_nonce"},
		"negative times":     {Endpoint: "token", Status: 503, Times: -1},
		"too many times":     {Endpoint: "token", Status: 503, Times: 1_000_001},
		"negative delay":     {Endpoint: "token", Delay: -1},
		"long delay":         {Endpoint: "token", Delay: time.Minute + 1},
	} {
		if err := s.Fault(f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	wantError(t, post(t, plain(s).token(), refreshForm("x")), http.StatusBadRequest, "invalid_grant")
	fault(t, s, idp.Fault{Endpoint: "token", Status: 503, Times: 1_000_000})
	s.ClearFault("token")
	wantError(t, post(t, plain(s).token(), refreshForm("x")), http.StatusBadRequest, "invalid_grant")
}
