package main

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestMSAL is the way of a user, with Microsoft's library: nothing differs.
func TestMSAL(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, store ...string) {
		s := open(t, append(store, "-client=msal", "-auto-login")...)
		v := s.signedIn(t, "ada")
		first := v.me(t)
		if first.Name != "ada" || !strings.HasSuffix(first.Account, "."+idp.DefaultTenant) || first.Source != "l1" {
			t.Errorf("got %+v", first)
		}
		origin := " form-action 'self' " + s.idp().URL() + ";"
		if got := v.get(t, "/").header.Get("Content-Security-Policy"); !strings.HasPrefix(s.idp().URL(), "https:") || !strings.Contains(got, origin) {
			t.Errorf("the policy is %s, and the identity server is at %s", got, s.idp().URL())
		}
		v.expire(t)
		if got := v.me(t); got.Account != first.Account || s.refreshes() != 1 {
			t.Errorf("got %+v after %d refreshes, want 1", got, s.refreshes())
		}

		// A token that the API refuses is replaced, unless the server refuses that too.
		s.fault(t, idp.Fault{Endpoint: "api", Status: http.StatusUnauthorized, Times: 1})
		if got := v.me(t); got.Source != "server" || s.refreshes() != 2 {
			t.Errorf("got %+v after %d refreshes, want 2", got, s.refreshes())
		}
		v.post(t, "/api/revoke", nil).want(t, http.StatusNoContent, "")
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")

		// What the user has to allow is asked for.
		v = s.signedIn(t, "ada")
		if page := v.get(t, "/task"); page.status != http.StatusOK || !strings.Contains(page.body, "Permissions requested") {
			t.Fatalf("no page asks for consent: status %d: %.300s", page.status, page.body)
		}
		if err := s.idp().Consent("ada", clientID, writeScope); err != nil {
			t.Fatal(err)
		}
		v.get(t, "/task").want(t, http.StatusOK, "")
		page := v.post(t, "/task", url.Values{"text": {"Buy pears"}})
		if page.status != http.StatusOK || !strings.Contains(page.body, "The API has your task: Buy pears<") {
			t.Errorf("writing: status %d: %.300s", page.status, page.body)
		}

		before := s.idp().Stats()
		if page = v.post(t, "/signout", nil); page.status != http.StatusOK || !strings.Contains(page.body, "You are signed out.") {
			t.Errorf("signing out: status %d: %.300s", page.status, page.body)
		}
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		if got := s.idp().Stats(); got.Revocations != before.Revocations+1 || got.RefreshReused != 0 {
			t.Errorf("the server counts %+v, and before it was %+v: want one revocation", got, before)
		}
	})
}

// TestWhichClient: MSAL has no parameter for a resource, and xoauth2 has.
func TestWhichClient(t *testing.T) {
	t.Parallel()
	eachClient(t, func(t *testing.T, client string) {
		s := open(t, client)
		_, err := s.nodes[0].client.AppToken(t.Context(), tokencache.Request{Scopes: []string{apiScope}, Resource: "https://api.example.com"})
		if errors.Is(err, errors.ErrUnsupported) != (client == "-client=msal") {
			t.Errorf("got %v", err)
		}
		var out buffer
		s.announce(&out)
		if got := out.String(); strings.Contains(got, "will warn you") != strings.HasPrefix(s.issuer.url, "https:") || !strings.Contains(got, s.issuer.url+"\n") {
			t.Errorf("it says %s", got)
		}
	})
}

// TestClientsShareTokens has three processes over one store, of which the second asks
// for tokens itself, at the tenant of the first one's identity server.
func TestClientsShareTokens(t *testing.T) {
	t.Parallel()
	eachShared(t, func(t *testing.T, store ...string) {
		cert := filepath.Join(t.TempDir(), "idp.pem")
		first := open(t, append(store, "-client=msal", "-auto-login", "-idp-cert-file="+cert)...)
		there := append(store, "-issuer="+first.issuer.url, "-issuer-ca="+cert)
		sites := []*site{first, open(t, there...), open(t, append(there, "-client=msal")...)}
		for i, s := range sites {
			v := s.signedIn(t, "ada")
			account := v.me(t).Account
			for j := range sites {
				next := v.at(sites[(i+j+1)%len(sites)].nodes[0])
				until(t, func() bool { // a busy store may be late
					if next.post(t, "/api/expire", nil).status != http.StatusNoContent {
						return false
					}
					before := first.refreshes()
					got := next.me(t)
					return got.Account == account && first.refreshes() == before+1
				})
			}
			v.post(t, "/api/revoke", nil).want(t, http.StatusNoContent, "")
			v.soon(t, "/api/me", http.StatusUnauthorized, "sign_in_required")
		}
		if got := first.idp().Stats().RefreshReused; got != 0 {
			t.Errorf("the server saw %d refresh tokens again", got)
		}
	})
}

// TestIssuerCA: a start that cannot trust the identity server says what to do.
func TestIssuerCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, contents string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, stale := filepath.Join(dir, "right.pem"), filepath.Join(dir, "stale.pem")
	open(t, "-client=msal", "-idp-cert-file="+stale)
	s := open(t, "-client=msal", "-idp-cert-file="+right)
	tests := []struct{ ca, want string }{
		{"", "-issuer-ca FILE"},
		{stale, "-issuer-ca FILE"},
		{filepath.Join(dir, "none.pem"), "-issuer-ca: open"},
		{dir, "-issuer-ca: read"},
		{file("empty.pem", ""), "no certificate"},
		{file("text.pem", "a text"), "no certificate"},
		{file("large.pem", strings.Repeat("x", maxCertificates+1)), "too large"},
	}
	for _, test := range tests {
		for _, client := range []string{"-client=msal", "-client=xoauth2"} {
			err := run(t.Context(), []string{"-addr=127.0.0.1:0", client, "-issuer=" + s.issuer.url, "-issuer-ca=" + test.ca}, noEnv, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q, %s: got %v, want %s", test.ca, client, err, test.want)
			}
		}
	}
	open(t, "-client=msal", "-issuer="+s.issuer.url, "-issuer-ca="+right)
}

// TestCertificateFile: each start writes it anew, over nothing but a certificate.
func TestCertificateFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pem := filepath.Join(dir, "idp.pem")
	var before string
	for range 2 {
		open(t, "-client=msal", "-idp-cert-file="+pem)
		now := read(t, pem)
		if now == before || strings.Contains(now, "PRIVATE") || !strings.HasPrefix(now, "-----BEGIN CERTIFICATE-----\n") {
			t.Errorf("the file holds %s", now)
		}
		before = now
	}
	keys := filepath.Join(dir, "keys.json")
	if err := tokencache.CreateKeyFile(keys); err != nil {
		t.Fatal(err)
	}
	held := read(t, keys)
	for _, path := range []string{keys, dir, os.DevNull, filepath.Join(dir, "none", "idp.pem"), filepath.Join(keys, "idp.pem")} {
		err := run(t.Context(), []string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0", "-client=msal", "-idp-cert-file=" + path}, noEnv, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "-idp-cert-file") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if read(t, keys) != held {
		t.Error("the keys are gone")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
