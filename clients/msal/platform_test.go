package msal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const identityHeader = "marker-identity-header"

// platform hands out tokens of managed identities, a new one each time.
type platform struct {
	mu      sync.Mutex
	queries []url.Values
	instead http.HandlerFunc // or nil
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.queries = append(p.queries, r.URL.Query())
	n, instead := len(p.queries), p.instead
	p.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	answer(w, fmt.Sprintf("marker-identity-token-%d", n), time.Now().Add(time.Hour))
}

// answer is what App Service answers.
func answer(w http.ResponseWriter, token string, expires time.Time) {
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": "https://vault.test", "client_id": "marker-client",
		"expires_on": strconv.FormatInt(expires.Unix(), 10),
	})
}

func (p *platform) answers(instead http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = instead
}

// asked returns the queries of the requests that came.
func (p *platform) asked() []url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]url.Values(nil), p.queries...)
}

// RoundTrip is the way to the platform of a virtual machine, whose address is fixed.
func (p *platform) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// noPlatform takes away what tells MSAL where it runs.
func noPlatform(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT", "MSI_SECRET", "IMDS_ENDPOINT",
	} {
		t.Setenv(name, "")
	}
}

// appService makes MSAL believe that this is App Service.
func appService(t *testing.T) *platform {
	t.Helper()
	p := &platform{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != identityHeader {
			http.Error(w, "no header", http.StatusForbidden)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	noPlatform(t)
	t.Setenv("IDENTITY_ENDPOINT", s.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", identityHeader)
	return p
}

// shared is a store with the namespace of machines that share it.
type shared struct{ provider tokencache.Provider }

func newShared(t *testing.T) *shared {
	t.Helper()
	p, err := memory.New(nil)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	return &shared{p}
}

// identity is a managed identity on one more machine.
func (s *shared) identity(t *testing.T, id managedidentity.ID, o *msal.ManagedIdentityOptions) *msal.ManagedIdentity {
	t.Helper()
	m, err := s.try(t, id, o)
	must(t, err)
	return m
}

func (s *shared) try(t *testing.T, id managedidentity.ID, o *msal.ManagedIdentityOptions) (*msal.ManagedIdentity, error) {
	t.Helper()
	cache, err := tokencache.New(s.provider, tokencache.Namespace{Issuer: "https://login.test/v2.0", ClientID: "app"}, nil)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		must(t, cache.Close(ctx))
	})
	return msal.NewManagedIdentity(cache, id, o)
}

// system names the system-assigned identity of one deployment.
func system() *msal.ManagedIdentityOptions { return &msal.ManagedIdentityOptions{Name: "production"} }

func vault() tokencache.Request {
	return tokencache.Request{Scopes: []string{"https://vault.test/.default"}}
}

func get(t *testing.T, m *msal.ManagedIdentity, req tokencache.Request) tokencache.Secret {
	t.Helper()
	tok, err := m.AppToken(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Type != "Bearer" || time.Until(tok.Expires) < 50*time.Minute {
		t.Errorf("a token of type %q until %v", tok.Type, tok.Expires)
	}
	return tok.AccessToken
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(code)
		_, _ = io.Copy(w, strings.NewReader(body))
	}
}
