package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestInstanceDiscovery(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s := listen(t, &idp.Options{TLS: secure})
		p := trusting(t, s, true)
		host := s.URL()[strings.Index(s.URL(), "://")+3:]
		ask := func(q url.Values) answer {
			t.Helper()
			return p.do(t, http.MethodGet, s.URL()+"/common/discovery/instance?"+q.Encode(), nil)
		}
		for _, tenant := range []string{idp.DefaultTenant, "common", "other.test"} {
			a := ask(url.Values{"api-version": {"1.1"}, "authorization_endpoint": {s.URL() + "/" + tenant + "/oauth2/v2.0/authorize"}})
			want := map[string]any{
				"tenant_discovery_endpoint": s.URL() + "/" + tenant + "/v2.0/.well-known/openid-configuration", "api-version": "1.1",
				"metadata": []any{map[string]any{"preferred_network": host, "preferred_cache": host, "aliases": []any{host}}},
			}
			if diff := cmp.Diff(want, a.json(t)); a.status != http.StatusOK || diff != "" {
				t.Errorf("%s: %d (-want +got):\n%s", tenant, a.status, diff)
			}
			if tenant == idp.DefaultTenant {
				doc := p.do(t, http.MethodGet, want["tenant_discovery_endpoint"].(string), nil)
				if doc.json(t)["issuer"] != s.TenantURL() {
					t.Errorf("the endpoint leads to %d %s", doc.status, doc.body)
				}
			}
		}
		good := s.URL() + "/common/oauth2/v2.0/authorize"
		for _, endpoint := range []string{
			"https://login.microsoftonline.com/common/oauth2/v2.0/authorize", "https://evil.test/common/oauth2/v2.0/authorize",
			strings.Replace(good, "://", "://a@", 1), good + "?x=y", good + "#x", good + "/", s.URL() + "/common/oauth2/authorize",
			s.URL() + "//oauth2/v2.0/authorize", s.URL() + "/../oauth2/v2.0/authorize", s.URL() + "/a%20b/oauth2/v2.0/authorize", "x", "%zz",
		} {
			a := ask(url.Values{"api-version": {"1.1"}, "authorization_endpoint": {endpoint}})
			wantError(t, a, http.StatusBadRequest, "invalid_instance")
			if !strings.Contains(a.body, "AADSTS50049") {
				t.Errorf("%s: not Entra's error: %s", endpoint, a.body)
			}
		}
		for _, q := range []url.Values{
			{"authorization_endpoint": {good}}, {"api-version": {"1.1"}}, {"api-version": {"2"}, "authorization_endpoint": {good}},
			{"api-version": {"1.1", "1.1"}, "authorization_endpoint": {good}}, {"api-version": {"1.1"}, "authorization_endpoint": {good, good}},
		} {
			wantError(t, ask(q), http.StatusBadRequest, "invalid_request")
		}
	}
}
