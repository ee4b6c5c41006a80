package idp_test

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestAskedOnce is the shape of a test of a cache: many callers, few assertions.
func TestAskedOnce(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	e := entra(s)
	var assertions []string
	for _, user := range []string{"anna", "bert", "carl"} {
		assertions = append(assertions, signIn(t, e, user, "openid", firstScope).AccessToken)
	}
	for i, assertion := range assertions {
		var wg sync.WaitGroup
		for _, scope := range []string{apiScope, secondScope} {
			wg.Go(func() { post(t, e.token(), oboForm("first-api", assertion, scope)) })
		}
		wg.Wait()
		want := int64(2 * (i + 1))
		if got := s.Stats(); got.OnBehalfOfMost != 1 || got.OnBehalfOfDistinct != want || got.TokenRequests.OnBehalfOf != want {
			t.Fatalf("stats %+v, want %d different ones, each once", got, want)
		}
	}
	post(t, e.token(), oboForm("first-api", assertions[1], apiScope))
	if got := s.Stats(); got.OnBehalfOfMost != 2 || got.OnBehalfOfDistinct != 6 || got.TokenRequests.OnBehalfOf != 7 {
		t.Errorf("stats %+v, want one that was asked for twice", got)
	}
}

func TestWhatCountsAsTheSame(t *testing.T) {
	t.Parallel()
	base := oboForm("first-api", "a.b.c", "x y")
	exchange := exchangeForm("first-api", "a.b.c")
	tests := []struct {
		name   string
		form   url.Values
		change url.Values
		same   bool
	}{
		{"itself", base, nil, true},
		{"order of scopes", base, url.Values{"scope": {"y  x y"}}, true},
		{"another client", base, url.Values{"client_id": {"second-api"}}, true},
		{"other assertion", base, url.Values{"assertion": {"a.b.d"}}, false},
		{"other scopes", base, url.Values{"scope": {"x"}}, false},
		{"other case", base, url.Values{"scope": {"x Y"}}, false},
		{"claims", base, url.Values{"claims": {"{}"}}, false},
		{"resource", base, url.Values{"resource": {"api://x"}}, false},
		{"exchange", exchange, nil, true},
		{"other subject", exchange, url.Values{"subject_token": {"a.b.d"}}, false},
		{"audience", exchange, url.Values{"audience": {"x"}}, false},
		{"type", exchange, url.Values{"requested_token_type": {jwtType}}, false},
	}
	s := listen(t, withAPIs())
	different := func(form url.Values) int64 {
		before := s.Stats()
		post(t, s.URL()+"/token", form)
		after := s.Stats()
		return after.OnBehalfOfDistinct - before.OnBehalfOfDistinct + after.TokenExchangeDistinct - before.TokenExchangeDistinct
	}
	if different(base) != 1 || different(exchange) != 1 {
		t.Fatal("the first of a kind is not new")
	}
	for _, tt := range tests {
		other := url.Values{}
		for _, from := range []url.Values{tt.form, tt.change} {
			for k, v := range from {
				other[k] = v
			}
		}
		if n := different(other); (n == 0) != tt.same {
			t.Errorf("%s: %d more, want the same: %v", tt.name, n, tt.same)
		}
		if n := different(other); n != 0 {
			t.Errorf("%s: new for the second time", tt.name)
		}
	}
}

// TestFaultsOfExchanges checks that faults answer the new grants, and that what
// they answer is counted.
func TestFaultsOfExchanges(t *testing.T) {
	t.Parallel()
	s := listen(t, withAPIs())
	e := plain(s)
	tok := signIn(t, e, "anna", "openid", firstScope)
	for _, form := range []url.Values{
		oboForm("first-api", tok.AccessToken, secondScope, "api://second-api/Data.Write"),
		exchangeForm("first-api", tok.AccessToken),
	} {
		form.Set("scope", secondScope+" api://second-api/Data.Write")
		fault(t, s, idp.Fault{Endpoint: "token", Status: 503})
		wantError(t, post(t, e.token(), form), http.StatusServiceUnavailable, "temporarily_unavailable")
		fault(t, s, idp.Fault{Endpoint: "token", Kind: "fewer_scopes"})
		if got := mustTokens(t, post(t, e.token(), form)); got.Scope != secondScope {
			t.Errorf("scope %q, want %q", got.Scope, secondScope)
		}
	}
	fault(t, s, idp.Fault{Endpoint: "token", Kind: "foreign_subject"})
	got := mustTokens(t, post(t, e.token(), oboForm("first-api", tok.AccessToken, "openid", secondScope)))
	if payload(t, got.IDToken)["oid"] == payload(t, tok.IDToken)["oid"] {
		t.Error("the ID token is about the same user")
	}
	st := s.Stats()
	if st.TokenRequests.OnBehalfOf != 3 || st.OnBehalfOfMost != 2 || st.TokenRequests.TokenExchange != 2 || st.TokenExchangeMost != 2 {
		t.Errorf("stats %+v", st)
	}
}
