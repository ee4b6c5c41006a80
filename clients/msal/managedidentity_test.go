package msal_test

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// One request to the platform is enough for all on all machines that have the identity.
func TestManagedIdentity(t *testing.T) {
	p, s := appService(t), newShared(t)
	machines := []*msal.ManagedIdentity{
		s.identity(t, managedidentity.SystemAssigned(), system()), s.identity(t, managedidentity.SystemAssigned(), system()),
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			req := vault()
			if i%3 == 0 {
				req = tokencache.Request{Resource: "https://vault.test", Tenant: "any", CAE: true} // as the Azure SDK asks
			}
			if tok, err := machines[i%2].AppToken(t.Context(), req); err != nil || tok.AccessToken != "marker-identity-token-1" {
				t.Errorf("another token, or %v", err)
			}
		})
	}
	wg.Wait()
	if all := p.asked(); len(all) != 1 || all[0].Get("resource") != "https://vault.test" {
		t.Errorf("the platform was asked %d times", len(all))
	}
}

// What differs has tokens of its own.
func TestIdentitiesApart(t *testing.T) {
	p, s := appService(t), newShared(t)
	const id, otherID = "8F3D2C1A-0000-4000-8000-000000000001", "8f3d2c1a-0000-4000-8000-000000000002"
	seen := map[tokencache.Secret]bool{}
	for _, m := range []*msal.ManagedIdentity{
		s.identity(t, managedidentity.SystemAssigned(), system()),
		s.identity(t, managedidentity.SystemAssigned(), &msal.ManagedIdentityOptions{Name: "staging"}),
		s.identity(t, managedidentity.UserAssignedClientID(id), nil),
		s.identity(t, managedidentity.UserAssignedClientID(otherID), nil),
		s.identity(t, managedidentity.UserAssignedObjectID(id), nil),
		s.identity(t, managedidentity.UserAssignedResourceID(id), nil),
	} {
		for _, resource := range []string{"https://vault.test", "https://storage.test"} {
			seen[get(t, m, tokencache.Request{Resource: resource})] = true
		}
	}
	if n := len(p.asked()); len(seen) != 12 || n != 12 {
		t.Errorf("%d tokens of 6 identities for 2 resources, asked %d times", len(seen), n)
	}
	if q := p.asked(); q[4].Get("client_id") != id || q[8].Get("object_id") != id || q[10].Get("mi_res_id") != id {
		t.Error("the platform was not asked for the identity")
	}
	same := s.identity(t, managedidentity.UserAssignedClientID(strings.ToLower(id)), nil)
	if get(t, same, vault()); len(p.asked()) != 12 {
		t.Error("an ID is another one in lower case")
	}
}

// A token that is refused does not come back: not from MSAL's cache in this process,
// which has it, and not from the platform's.
func TestIdentityRefused(t *testing.T) {
	p, s := appService(t), newShared(t)
	one, two := s.identity(t, managedidentity.SystemAssigned(), system()), s.identity(t, managedidentity.SystemAssigned(), system())
	old := get(t, one, vault())
	own, err := managedidentity.New(managedidentity.SystemAssigned())
	must(t, err)
	kept, err := own.AcquireToken(t.Context(), "https://vault.test")
	if err != nil || kept.AccessToken != string(old) || kept.Metadata.TokenSource != managedidentity.TokenSourceCache {
		t.Errorf("MSAL has changed: another client of the process does not find the token: %v", err)
	}
	req := vault()
	req.Refused = old
	renewed := get(t, one, req)
	if renewed == old || get(t, two, req) != renewed || get(t, two, vault()) != renewed || len(p.asked()) != 2 {
		t.Errorf("the refused token came back, or the platform was asked %d times", len(p.asked()))
	}
	req.Refused = renewed
	p.answers(func(w http.ResponseWriter, _ *http.Request) { answer(w, string(renewed), time.Now().Add(time.Hour)) })
	var stuck *tokencache.ServerError
	if _, err := one.AppToken(t.Context(), req); !errors.As(err, &stuck) {
		t.Errorf("the platform has the refused token alone: %v", err)
	} else {
		clean(t, err, "marker")
	}
}

// Claims are a reason to ask, and are told to nobody.
func TestIdentityClaims(t *testing.T) {
	p, s := appService(t), newShared(t)
	m := s.identity(t, managedidentity.SystemAssigned(), system())
	old, req := get(t, m, vault()), vault()
	req.Claims = `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`
	if fresh := get(t, m, req); fresh == old || get(t, m, req) != fresh {
		t.Error("the claims did not bring a token of their own")
	}
	if all := p.asked(); len(all) != 2 || len(all[0]) != len(all[1]) {
		t.Errorf("asked %d times, or MSAL has changed: the platform is told the claims", len(all))
	}
}

// A token that the platform would like to see replaced is served while it is.
func TestIdentityAhead(t *testing.T) {
	p, s := appService(t), newShared(t)
	m := s.identity(t, managedidentity.SystemAssigned(), system())
	p.answers(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"access_token":"marker-old","expires_in":3600,"refresh_in":1,"token_type":"Bearer"}`))
	})
	get(t, m, vault())
	arrived, release := make(chan struct{}), make(chan struct{})
	p.answers(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		answer(w, "marker-new", time.Now().Add(time.Hour))
	})
	for waiting := true; waiting; {
		if get(t, m, vault()) != "marker-old" {
			t.Fatal("a request has waited for the new token")
		}
		select {
		case <-arrived:
			waiting = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	if get(t, m, vault()) != "marker-old" {
		t.Error("a request has waited for the new token")
	}
	close(release)
	for end := time.Now().Add(10 * time.Second); get(t, m, vault()) != "marker-new"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new token does not come")
		}
	}
	if n := len(p.asked()); n != 2 {
		t.Errorf("the platform was asked %d times", n)
	}
}

// The platform's secret goes nowhere else.
func TestIdentityRedirect(t *testing.T) {
	p, s := appService(t), newShared(t)
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	p.answers(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	var down *tokencache.ServerError
	if _, err := s.identity(t, managedidentity.SystemAssigned(), system()).AppToken(t.Context(), vault()); !errors.As(err, &down) || elsewhere != 0 {
		t.Errorf("a redirect was followed %d times: %v", elsewhere, err)
	}
}

func TestIdentityUnreachable(t *testing.T) {
	_, s := appService(t), newShared(t)
	m := s.identity(t, managedidentity.SystemAssigned(), system())
	t.Setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
	_, err := m.AppToken(t.Context(), vault())
	var down *tokencache.ServerError
	if !errors.As(err, &down) || strings.Contains(err.Error(), "msi/token") {
		t.Errorf("got %v", err)
	}
	clean(t, err, "marker")
}

// Azure Arc wants a secret read from a file that it names, which here is none of its own.
func TestIdentityOfArc(t *testing.T) {
	p, s := appService(t), newShared(t)
	t.Setenv("IDENTITY_HEADER", "")
	t.Setenv("IMDS_ENDPOINT", "http://127.0.0.1:1")
	m := s.identity(t, managedidentity.SystemAssigned(), system())
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic realm=/etc/marker-file.key")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer agent.Close()
	t.Setenv("IDENTITY_ENDPOINT", agent.URL)
	_, err := m.AppToken(t.Context(), vault())
	var down *tokencache.ServerError
	if err == nil || errors.As(err, &down) || errors.Unwrap(err) == nil || len(p.asked()) != 0 {
		t.Errorf("got %v", err)
	}
	clean(t, err, "marker")
}

// On Service Fabric the platform is known by its certificate's thumbprint.
func TestIdentityOnServiceFabric(t *testing.T) {
	p, s := &platform{}, newShared(t)
	fabric := httptest.NewUnstartedServer(p)
	fabric.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not trust it
	fabric.StartTLS()
	defer fabric.Close()
	noPlatform(t)
	t.Setenv("IDENTITY_ENDPOINT", fabric.URL)
	t.Setenv("IDENTITY_HEADER", identityHeader)
	thumbprint := sha1.Sum(fabric.Certificate().Raw)
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", hex.EncodeToString(thumbprint[:]))
	get(t, s.identity(t, managedidentity.SystemAssigned(), system()), vault())

	o := system()
	o.HTTPClient = &http.Client{Transport: p}
	if _, err := s.try(t, managedidentity.SystemAssigned(), o); err == nil {
		t.Error("no error for a transport that cannot be told the thumbprint")
	}
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", strings.Repeat("0", 40))
	var down *tokencache.ServerError
	stranger := newShared(t).identity(t, managedidentity.SystemAssigned(), system())
	if _, err := stranger.AppToken(t.Context(), vault()); !errors.As(err, &down) || len(p.asked()) != 1 {
		t.Errorf("another certificate: %v", err)
	}
}

func TestIdentityFailures(t *testing.T) {
	t.Parallel()
	// In parallel, as MSAL waits for seconds between its attempts. The address that it
	// asks is that of virtual machines.
	in := func(d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { answer(w, "marker-strange", time.Now().Add(d)) }
	}
	for name, test := range map[string]struct {
		answer   http.HandlerFunc
		down     bool // a ServerError
		attempts int
	}{
		"no such identity": {status(400, `{"error":"invalid_request","error_description":"marker-text Identity not found"}`), false, 1},
		"unauthorized":     {status(401, "marker-text"), false, 1},
		"forbidden":        {status(403, ""), false, 1},
		"not there":        {status(404, "marker-text"), true, 3},
		"being updated":    {status(410, ""), true, 3},
		"overloaded":       {status(429, "marker-text"), true, 3},
		"error":            {status(500, "marker-text"), true, 3},
		"unavailable":      {status(503, ""), true, 3},
		"redirected":       {status(307, ""), true, 1},
		"not JSON":         {status(200, "<p>marker-text"), true, 1},
		"no expiry":        {status(200, `{"access_token":"marker-token"}`), true, 1},
		"strange expiry":   {status(200, `{"access_token":"marker-token","expires_on":"marker-text"}`), true, 1},
		"no token":         {status(200, `{"expires_in":3600}`), true, 1},
		"expired":          {in(-time.Minute), true, 1},
		"too large":        {status(200, strings.Repeat("a", 1<<20+1)), true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s, o := &platform{instead: test.answer}, newShared(t), system()
			o.HTTPClient = &http.Client{Transport: p}
			_, err := s.identity(t, managedidentity.SystemAssigned(), o).AppToken(t.Context(), vault())
			var down *tokencache.ServerError
			if err == nil || errors.As(err, &down) != test.down {
				t.Fatalf("got %v", err)
			}
			if n := len(p.asked()); n != test.attempts {
				t.Errorf("the platform was asked %d times, want %d", n, test.attempts)
			}
			if strings.Contains(name, "over") && down.RetryAfter != 7*time.Second {
				t.Errorf("Retry-After: %v", down.RetryAfter)
			}
			clean(t, err, "marker")
		})
	}
}

func TestIdentityOptions(t *testing.T) {
	t.Parallel()
	s := newShared(t)
	if _, err := msal.NewManagedIdentity(nil, managedidentity.SystemAssigned(), system()); err == nil {
		t.Error("no error without a cache")
	}
	for name, test := range map[string]struct {
		id managedidentity.ID
		o  *msal.ManagedIdentityOptions
	}{
		"none":             {nil, system()},
		"system, nameless": {managedidentity.SystemAssigned(), nil},
		"user, named":      {managedidentity.UserAssignedClientID("marker-id"), system()},
		"user, empty":      {managedidentity.UserAssignedClientID(""), nil},
	} {
		if _, err := s.try(t, test.id, test.o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	o := system()
	o.HTTPClient = &http.Client{Transport: &platform{}}
	m := s.identity(t, managedidentity.SystemAssigned(), o)
	for name, req := range map[string]tokencache.Request{
		"nothing":          {},
		"empty":            {Scopes: []string{"/.default"}},
		"not a resource":   {Scopes: []string{"https://vault.test/Read"}},
		"two":              {Scopes: []string{"https://vault.test/.default", "https://storage.test/.default"}},
		"another resource": {Scopes: []string{"https://vault.test/.default"}, Resource: "https://storage.test"},
	} {
		if _, err := m.AppToken(t.Context(), req); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	get(t, m, tokencache.Request{Scopes: []string{"https://vault.test/.default"}, Resource: "https://vault.test"})
}
