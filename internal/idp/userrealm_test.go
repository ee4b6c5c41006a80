package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// TestUserRealm asks as MSAL does, which has the name in one segment of the path.
func TestUserRealm(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{TLS: true})
	p := trusting(t, s, true)
	ask := func(user, query string) answer {
		t.Helper()
		return p.do(t, http.MethodGet, s.URL()+"/common/UserRealm/"+url.PathEscape(user)+query, nil)
	}
	managed := map[string]any{
		"ver": "1.0", "account_type": "Managed", "domain_name": "contoso.test",
		"cloud_instance_name": "microsoftonline.com", "cloud_audience_urn": "urn:federation:MicrosoftOnline",
	}
	unknown := map[string]any{
		"ver": "1.0", "account_type": "Unknown",
		"cloud_instance_name": "microsoftonline.com", "cloud_audience_urn": "urn:federation:MicrosoftOnline",
	}
	for user, want := range map[string]map[string]any{
		"anna": managed, "anna@contoso.test": managed, "bert/ü?&#%20": managed, "a b": managed,
		" ": unknown, "an\nna": unknown, "\xff": unknown, strings.Repeat("a", 2000): unknown,
	} {
		a := ask(user, "?api-version=1.0")
		if a.status != http.StatusOK {
			t.Errorf("%q: %d", user, a.status)
			continue
		}
		if diff := cmp.Diff(want, a.json(t)); diff != "" {
			t.Errorf("%.20q (-want +got):\n%s", user, diff)
		}
	}
	for _, query := range []string{"", "?api-version=2.0", "?api-version=1.0&api-version=1.0", "?api-version=%zz"} {
		wantError(t, ask("anna", query), http.StatusBadRequest, "invalid_request")
	}
	for _, path := range []string{"", "anna/bert"} {
		if a := p.do(t, http.MethodGet, s.URL()+"/common/UserRealm/"+path+"?api-version=1.0", nil); a.status != http.StatusNotFound {
			t.Errorf("%q: %d, want 404", path, a.status)
		}
	}
	fault(t, s, idp.Fault{Endpoint: "discovery", Status: 503})
	if a := ask("anna", "?api-version=1.0"); a.status != http.StatusServiceUnavailable {
		t.Errorf("with a fault: %d", a.status)
	}
}
