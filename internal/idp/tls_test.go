package idp_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// trusting is a browser that trusts a server, over HTTP/1 or HTTP/2.
func trusting(t *testing.T, s *idp.Server, http2 bool) person {
	t.Helper()
	p := newPerson(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	p.Transport = transport
	return p
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		for _, addr := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", "127.0.0.9:0"} {
			t.Run(fmt.Sprint(addr, " HTTP/2 ", http2), func(t *testing.T) {
				t.Parallel()
				s, err := idp.Listen(addr, &idp.Options{TLS: true})
				if err != nil {
					t.Skip("cannot listen:", err)
				}
				defer func() { _ = s.Close(t.Context()) }()
				for _, issuer := range []string{s.URL(), s.TenantURL()} {
					signInOverTLS(t, s, issuer, trusting(t, s, http2))
				}
			})
		}
	}
}

func signInOverTLS(t *testing.T, s *idp.Server, issuer string, p person) {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), p.Client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatal(err)
	}
	doc := p.do(t, http.MethodGet, issuer+"/.well-known/openid-configuration", nil).body
	if !strings.HasPrefix(issuer, "https://") || strings.Contains(doc, `"http://`) {
		t.Errorf("issuer %s, document %s", issuer, doc)
	}
	conf := &oauth2.Config{
		ClientID: idp.DefaultClientID, ClientSecret: idp.DefaultClientSecret, Endpoint: provider.Endpoint(),
		RedirectURL: callback, Scopes: []string{"openid", apiScope},
	}
	v := oauth2.GenerateVerifier()
	a := p.do(t, http.MethodPost, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(v), oidc.Nonce("n")), url.Values{"username": {"anna"}})
	if !strings.Contains(a.header.Get("Set-Cookie"), "Secure") {
		t.Error("the cookie is not Secure")
	}
	token, err := conf.Exchange(ctx, redirected(t, a, callback).Get("code"), oauth2.VerifierOption(v))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if _, err := provider.Verifier(&oidc.Config{ClientID: conf.ClientID}).Verify(ctx, raw); err != nil {
		t.Error(err)
	}
	req := request(t, http.MethodGet, s.URL()+"/api/me", "", "Authorization", "Bearer "+token.AccessToken)
	resp, err := p.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("API: %d", resp.StatusCode)
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	s, other, plain := listen(t, &idp.Options{TLS: true}), listen(t, &idp.Options{TLS: true}), listen(t, nil)
	if plain.Certificate() != nil || plain.CertPool() != nil {
		t.Error("a server without TLS has a certificate")
	}
	c := s.Certificate()
	for _, name := range []string{"127.0.0.1", "::1", "localhost"} {
		if _, err := c.Verify(x509.VerifyOptions{DNSName: name, Roots: s.CertPool()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"127.0.0.2", "example.test"} {
		if c.VerifyHostname(name) == nil {
			t.Errorf("the certificate is good for %s", name)
		}
	}
	if c.IsCA || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Error("the certificate is good for more than a server")
	}
	if now := time.Now(); now.Before(c.NotBefore) || c.NotAfter.Sub(now) < 24*time.Hour || c.NotAfter.Sub(now) > 398*24*time.Hour {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	if c.SerialNumber.Cmp(other.Certificate().SerialNumber) == 0 {
		t.Error("two servers have one serial number")
	}
	for name, p := range map[string]person{"no trust": newPerson(t), "trust in another": trusting(t, other, true)} {
		if resp, err := p.Get(s.URL() + "/keys"); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: the server is believed", name)
		}
	}
	resp, err := newPerson(t).Get(strings.Replace(s.URL(), "https://", "http://", 1) + "/keys")
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("over http: %d", resp.StatusCode)
		}
	}
}

func TestDropFaultOverTLS(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s := listen(t, &idp.Options{TLS: true})
		p := trusting(t, s, http2)
		fault(t, s, idp.Fault{Endpoint: "token", Kind: "drop"})
		form := withClient(url.Values{"grant_type": {"client_credentials"}})
		req := request(t, http.MethodPost, s.URL()+"/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		if resp, err := p.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("HTTP/2 %v: got an answer: %d", http2, resp.StatusCode)
		}
		if n := s.Stats().TokenRequests.ClientCredentials; n != 1 {
			t.Errorf("HTTP/2 %v: %d requests, want 1", http2, n)
		}
	}
}
