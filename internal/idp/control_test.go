package idp_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestControlStats(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tok := signIn(t, plain(s), "anna")
	mustTokens(t, post(t, plain(s).token(), refreshForm(tok.RefreshToken)))
	post(t, plain(s).token(), refreshForm(tok.RefreshToken))
	post(t, plain(s).token(), url.Values{"grant_type": {"client_credentials"}}) // refused, and counted
	callAPI(t, s, tok.AccessToken)
	want := map[string]any{
		"token_requests": map[string]any{
			"authorization_code": 1.0, "refresh_token": 2.0, "client_credentials": 1.0, "password": 0.0, "on_behalf_of": 0.0, "token_exchange": 0.0,
			"device_code": 0.0,
		},
		"on_behalf_of_distinct": 0.0, "on_behalf_of_most": 0.0, "token_exchange_distinct": 0.0, "token_exchange_most": 0.0,
		"back_channel_logouts": 0.0, "back_channel_logouts_failed": 0.0,
		"refresh_reused":   1.0,
		"families_revoked": 1.0, "revocations": 0.0, "sign_ins": 1.0, "api_requests": 1.0,
	}
	if diff := cmp.Diff(want, get(t, s.URL()+"/control/stats").json(t)); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestControlActions(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	e := plain(s)
	command := func(path string, q url.Values) {
		t.Helper()
		if a := post(t, s.URL()+"/control/"+path+"?"+q.Encode(), nil); a.status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	tok := signIn(t, e, "anna")
	command("interaction", url.Values{"user": {"anna"}, "claims": {`{"id_token":{}}`}})
	a := post(t, e.token(), refreshForm(tok.RefreshToken))
	wantError(t, a, http.StatusBadRequest, "interaction_required")
	if got := a.json(t)["claims"]; got != `{"id_token":{}}` {
		t.Errorf("claims %v", got)
	}
	command("revoke", url.Values{"user": {"ANNA"}})
	wantError(t, post(t, e.token(), refreshForm(tok.RefreshToken)), http.StatusBadRequest, "invalid_grant")

	tok = signIn(t, e, "bert")
	command("fault", url.Values{"endpoint": {"token"}, "status": {"503"}, "times": {"3"}, "delay": {"1ms"}})
	wantError(t, post(t, e.token(), refreshForm(tok.RefreshToken)), 503, "temporarily_unavailable")
	command("fault", url.Values{"endpoint": {"token"}, "times": {"0"}})
	tok = mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken)))
	command("fault", url.Values{"endpoint": {"token"}, "kind": {"no_refresh_token"}})
	if got := mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken))); got.RefreshToken != "" {
		t.Error("the fault had no effect")
	}
	if got := mustTokens(t, post(t, e.token(), refreshForm(tok.RefreshToken))); got.RefreshToken == "" {
		t.Error("times does not default to 1")
	}
}

func TestControlRefusesBadValues(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for _, path := range []string{
		"consent", "consent?user=anna&client=coatcheck-example", "consent?user=anna&client=x&scope=y", "consent?user=&client=coatcheck-example&scope=y",
		"consent?user=anna&client=coatcheck-example&scope=%22", "withdraw", "withdraw?user=",
		"device/approve", "device/approve?user_code=x&user=anna", "device/approve?user_code=&user=", "device/deny?user_code=BCDF-GHJK",
		"logout", "logout?user=", "revoke", "revoke?user=", "revoke?user=a%00b", "revoke?user=a&user=b", "revoke?name=anna", "revoke?user=%zz",
		"interaction?user=anna", "interaction?user=anna&claims=x", "interaction?claims={}",
		"fault", "fault?endpoint=token", "fault?endpoint=x&status=503", "fault?endpoint=x&times=0",
		"fault?endpoint=token&status=abc", "fault?endpoint=token&status=0", "fault?endpoint=token&status=200",
		"fault?endpoint=token&status=503&times=-1", "fault?endpoint=token&status=503&times=1000001",
		"fault?endpoint=token&status=503&times=1e3", "fault?endpoint=token&status=503&times=99999999999999999999",
		"fault?endpoint=token&status=503&delay=5", "fault?endpoint=token&status=503&delay=-1s",
		"fault?endpoint=token&status=503&delay=61s", "fault?endpoint=token&kind=x", "fault?endpoint=api&kind=wrong_nonce",
		"fault?endpoint=token&status=503&time=3",
	} {
		a := post(t, s.URL()+"/control/"+path, nil)
		wantError(t, a, http.StatusBadRequest, "invalid_request")
		if a.json(t)["error_description"] == nil {
			t.Errorf("%s: no description", path)
		}
	}
	if a := get(t, s.URL()+"/control/revoke?user=anna"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET of a command: %d, want 405", a.status)
	}
	wantError(t, post(t, plain(s).token(), refreshForm("x")), http.StatusBadRequest, "invalid_grant") // no fault was set
}

func TestControlIsForThisMachineOnly(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	tests := []struct {
		name, peer, host string
		header           [2]string
		ok               bool
	}{
		{"program", "127.0.0.1:5", "127.0.0.1:8090", [2]string{}, true},
		{"program, IPv6", "[::1]:5", "[::1]:8090", [2]string{}, true},
		{"program, by name", "127.0.0.1:5", "localhost", [2]string{}, true},
		{"address bar", "127.0.0.1:5", "localhost:8090", [2]string{"Sec-Fetch-Site", "none"}, true},
		{"own page", "127.0.0.1:5", "localhost:8090", [2]string{"Sec-Fetch-Site", "same-origin"}, true},
		{"remote peer", "192.0.2.1:5", "127.0.0.1:8090", [2]string{}, false},
		{"remote peer, IPv6", "[2001:db8::1]:5", "127.0.0.1:8090", [2]string{}, false},
		{"no peer", "", "127.0.0.1:8090", [2]string{}, false},
		{"cross-site page", "127.0.0.1:5", "127.0.0.1:8090", [2]string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another port's page", "127.0.0.1:5", "127.0.0.1:8090", [2]string{"Sec-Fetch-Site", "same-site"}, false},
		{"old browser", "127.0.0.1:5", "127.0.0.1:8090", [2]string{"Origin", "https://evil.test"}, false},
		{"rebound name", "127.0.0.1:5", "evil.test:8090", [2]string{"Sec-Fetch-Site", "same-origin"}, false},
		{"name that begins well", "127.0.0.1:5", "127.0.0.1.evil.test", [2]string{}, false},
		{"no host", "127.0.0.1:5", "", [2]string{}, false},
	}
	for _, tt := range tests {
		for _, req := range []*http.Request{
			httptest.NewRequest(http.MethodGet, "/control/stats", nil),
			httptest.NewRequest(http.MethodPost, "/control/revoke?user=anna", nil),
			httptest.NewRequest(http.MethodPost, "/control/interaction?user=bert&claims={}", nil),
			httptest.NewRequest(http.MethodPost, "/control/fault?endpoint=keys&status=500", nil),
		} {
			req.RemoteAddr, req.Host = tt.peer, tt.host
			if tt.header[0] != "" {
				req.Header.Set(tt.header[0], tt.header[1])
			}
			rec := httptest.NewRecorder()
			s.Handler().ServeHTTP(rec, req)
			if refused := rec.Code == http.StatusForbidden; refused == tt.ok {
				t.Errorf("%s, %s %s: got %d", tt.name, req.Method, req.URL.Path, rec.Code)
			}
		}
	}
}
