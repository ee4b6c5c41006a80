package xoauth2_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	tenantA = "aaaaaaaa-2222-3333-4444-555555555555"
	tenantB = "bbbbbbbb-2222-3333-4444-555555555555"
)

// published is a key with what its document says of it.
type published struct {
	key    *rsa.PrivateKey
	id     string
	issuer any // nil: none
}

// publish makes the fake's documents of keys consist of these, by their path.
func (f *fake) publish(t *testing.T, documents map[string][]published) {
	t.Helper()
	mux := http.NewServeMux()
	for address, keys := range documents {
		var list []map[string]any
		for _, k := range keys {
			b, err := jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Use: "sig"}.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			members := make(map[string]any)
			if err := json.Unmarshal(b, &members); err != nil {
				t.Fatal(err)
			}
			if k.issuer != nil {
				members["issuer"] = k.issuer
			}
			list = append(list, members)
		}
		mux.HandleFunc(address, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": list})
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	f.metadata["jwks_uri"] = s.URL + path.Join("/", f.tenant, "keys")
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// tokenOf signs a token of a tenant that passes for any kind, by what the claims add.
func (f *fake) tokenOf(t *testing.T, tenant, typ string, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": f.URL + "/" + tenant + "/v2.0", "tid": tenant, "oid": "o-1", "aud": idp.DefaultClientID,
	}
	maps.Copy(all, claims)
	return f.accessToken(t, typ, key, all)
}

// A client of all tenants takes a key for those tenants only which it is published
// for. The keys of the hostile tenant are in the same document.
func TestKeysOfTenants(t *testing.T) {
	t.Parallel()
	all, hostile, free := newKey(t), newKey(t), newKey(t)
	f := newFake(t, "common")
	f.metadata["issuer"] = f.URL + "/{tenantid}/v2.0"
	f.publish(t, map[string][]published{"/common/keys": {
		{key: all, id: "1", issuer: f.URL + "/{tenantid}/v2.0"},
		{key: hostile, id: "1", issuer: f.URL + "/" + tenantB + "/v2.0"}, // with the ID of the good one
		{key: free, id: "1"},
	}})
	_, c := f.client(t, nil)
	var n int
	for name, tt := range map[string]struct {
		key    *rsa.PrivateKey
		tenant string
		good   bool
	}{
		"the key of all for A":  {all, tenantA, true},
		"the key of all for B":  {all, tenantB, true},
		"the key of B for B":    {hostile, tenantB, true},
		"the key of B for A":    {hostile, tenantA, false},
		"the key of nobody's":   {free, tenantA, true},
		"a key not in there":    {f.key, tenantA, false},
		"all's, odd tenant":     {all, "{tenantid}", false},
		"B's key, odd tenant":   {hostile, "../" + tenantB, false},
		"B's key, no tenant":    {hostile, "", false},
		"B's key, other letter": {hostile, strings.ToUpper(tenantB), false},
	} {
		check := func(kind string, err, want error) {
			t.Helper()
			if (err == nil) != tt.good || err != nil && !errors.Is(err, want) {
				t.Errorf("%s: %s: %v", name, kind, err)
			}
			if tt.key == hostile && tt.tenant == tenantA && (err == nil || !strings.Contains(err.Error(), "issuer of the key")) {
				t.Errorf("%s: %s: another reason: %v", name, kind, err)
			}
			clean(t, err, tenantA, tenantB, "o-1")
		}
		_, err := f.signInWith(t, c, func(nonce string) string {
			return f.tokenOf(t, tt.tenant, "JWT", tt.key, map[string]any{"nonce": nonce, "scp": nil})
		})
		check("ID token", err, xoauth2.ErrIDToken)
		_, err = c.Verifier().Verify(t.Context(), f.tokenOf(t, tt.tenant, "JWT", tt.key, nil))
		check("access token", err, xoauth2.ErrAccessToken)
		n++
		err = c.BackChannelLogout(t.Context(), f.tokenOf(t, tt.tenant, "logout+jwt", tt.key, map[string]any{
			"jti": strings.Repeat("i", n), "scp": nil,
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}))
		check("logout token", err, xoauth2.ErrLogoutToken)
	}
}

// signInWith completes a sign-in whose ID token is made for its nonce.
func (f *fake) signInWith(t *testing.T, c *xoauth2.Client, idToken func(nonce string) string) (tokencache.Ticket, error) {
	t.Helper()
	authURL, s := (&fixture{client: c}).begin(t, nil)
	u, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	f.answer(reply{body: tokens(map[string]any{"id_token": idToken(u.Query().Get("nonce"))})})
	return c.CompleteSignIn(t.Context(), s, url.Values{"state": {u.Query().Get("state")}, "code": {"marker-code"}})
}

// A client of one tenant that asks another's endpoint verifies the answer with the
// other's document, in which the same keys are said to be the other's.
func TestKeysOfAnotherTenant(t *testing.T) {
	t.Parallel()
	shared := newKey(t)
	f := newFake(t, tenantA)
	f.publish(t, map[string][]published{
		"/" + tenantA + "/keys": {{key: shared, id: "1", issuer: f.issuer()}},
		"/" + tenantB + "/keys": {{key: shared, id: "1", issuer: f.URL + "/" + tenantB + "/v2.0"}},
		"/":                     {{key: shared, id: "1", issuer: 5}},
	})
	cache, c := f.client(t, nil)
	info := clientInfo("o-1", tenantA)
	ticket, err := f.signInWith(t, c, func(nonce string) string {
		return f.tokenOf(t, tenantA, "JWT", shared, map[string]any{"nonce": nonce})
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := tokencache.NewContext(t.Context(), cache.Partition(ticket.Key()))
	ask := func(tenant, scope string) error {
		f.answer(reply{body: tokens(map[string]any{
			"id_token": f.tokenOf(t, tenant, "JWT", shared, nil), "client_info": info, "refresh_token": nil, "scope": scope,
		})})
		_, err := c.Acquire(ctx, tokencache.Request{Tenant: tenant, Scopes: []string{scope}})
		return err
	}
	if err := ask(tenantB, "b"); err != nil {
		t.Errorf("the answer of another tenant's endpoint: %v", err)
	}
	const odd = "cccccccc-2222-3333-4444-555555555555"
	if err := ask(odd, "c"); !errors.Is(err, xoauth2.ErrIDToken) || !strings.Contains(err.Error(), "issuer of the key") {
		t.Errorf("a key whose issuer is no text: %v", err)
	}
	if _, err := c.Verifier().Verify(t.Context(), f.tokenOf(t, tenantB, "JWT", shared, nil)); !errors.Is(err, xoauth2.ErrAccessToken) {
		t.Errorf("a token of another tenant for this API: %v", err)
	}
}

// Elsewhere the member means nothing, and is ignored as RFC 7517 §4 asks for.
func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	f.publish(t, map[string][]published{"/": {{key: f.key, id: "1", issuer: "https://a.example"}}})
	_, c := f.client(t, nil)
	if _, err := f.signIn(t, c, nil, nil); err != nil {
		t.Error(err)
	}
}

// The keys of one server are asked for by many at once.
func TestKeysAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{entra: true})
	ctx := f.signIn(t, "anna")
	tok, err := f.client.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v := f.client.Verifier("api://coatcheck-example")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if claims, err := v.Verify(t.Context(), string(tok.AccessToken)); err != nil || claims.Expires.Before(time.Now()) {
				t.Errorf("a token of the local server: %v", err)
			}
		})
	}
	wg.Wait()
}
