package xoauth2_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// proof is a way for the client to say who it is: what the server knows of it, and
// what it sends.
type proof struct {
	client  idp.Client
	options xoauth2.Options
	methods []string // that the server announces in place of its own
}

func proofs(t *testing.T) map[string]proof {
	t.Helper()
	rsaKey, ec := rsaSigner(t), ecSigner(t)
	rsaCert, ecCert := certificate(t, rsaKey), certificate(t, ec)
	sign := func(key crypto.Signer, o *xoauth2.AssertionOptions) xoauth2.Options {
		f, err := xoauth2.SignAssertion(idp.DefaultClientID, key, o)
		if err != nil {
			t.Fatal(err)
		}
		return xoauth2.Options{ClientAssertion: f}
	}
	secret := xoauth2.Options{ClientSecret: idp.DefaultClientSecret}
	return map[string]proof{
		"basic":                  {idp.Client{Secret: idp.DefaultClientSecret}, secret, nil},
		"post":                   {idp.Client{Secret: idp.DefaultClientSecret}, secret, []string{"client_secret_post"}},
		"RSA key":                {idp.Client{Key: rsaKey.Public()}, sign(rsaKey, nil), []string{"private_key_jwt"}},
		"ECDSA key":              {idp.Client{Key: ec.Public()}, sign(ec, nil), nil},
		"certificate":            {idp.Client{Certificate: rsaCert}, sign(rsaKey, &xoauth2.AssertionOptions{Certificate: rsaCert}), nil},
		"certificate with ECDSA": {idp.Client{Certificate: ecCert}, sign(ec, &xoauth2.AssertionOptions{Certificate: ecCert}), nil},
		"public":                 {idp.Client{Public: true}, xoauth2.Options{}, []string{"none"}},
	}
}

// announcing changes what the server says it takes.
type announcing struct {
	base    http.RoundTripper
	methods []string
}

func (a announcing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.base.RoundTrip(r)
	if err != nil || a.methods == nil || !strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		return resp, err
	}
	defer resp.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return nil, err
	}
	m["token_endpoint_auth_methods_supported"], m["revocation_endpoint_auth_methods_supported"] = a.methods, a.methods
	b, err := json.Marshal(m)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return resp, err
}

// fixture builds a server that knows the client, and the client.
func (p proof) fixture(t *testing.T, entra bool) *fixture {
	t.Helper()
	p.client.ID, p.client.RedirectURIs = idp.DefaultClientID, []string{callbackURL}
	f := &fixture{idp: listen(t, &idp.Options{Clients: []idp.Client{p.client}, DeviceInterval: time.Second})}
	issuer := f.idp.URL()
	if entra {
		issuer = f.idp.TenantURL()
	}
	o := p.options
	o.RedirectURL, o.Scopes, o.HTTPClient = callbackURL, []string{"profile", apiScope}, httpClient(t)
	o.HTTPClient.Transport = announcing{o.HTTPClient.Transport, p.methods}
	f.cache = newCache(t, issuer, nil)
	f.client = newClient(t, f.cache, &o)
	return f
}

// signInDevice has a user sign a device in.
func (f *fixture) signInDevice(t *testing.T, user string) (context.Context, error) {
	t.Helper()
	d, err := f.client.BeginDevice(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.idp.ApproveDevice(d.UserCode, user); err != nil {
		t.Fatal(err)
	}
	ticket, err := f.client.CompleteDevice(t.Context(), d)
	return tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())), err
}

// TestFlows: each way to prove who the client is works for each way to get tokens.
func TestFlows(t *testing.T) {
	t.Parallel()
	for name, p := range proofs(t) {
		for issuer, entra := range map[string]bool{"plain": false, "entra": true} {
			t.Run(name+"/"+issuer, func(t *testing.T) {
				t.Parallel()
				f := p.fixture(t, entra)
				device, err := f.signInDevice(t, "bob")
				if err != nil {
					t.Fatal(err)
				}
				for _, ctx := range []context.Context{f.signIn(t, "anna"), device} {
					f.refreshAndSignOut(t, ctx)
				}
				tok, err := f.client.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://coatcheck-example/.default"}})
				if (err != nil) != p.client.Public {
					t.Errorf("AppToken: %v", err)
				}
				if err == nil {
					f.wantMe(t, tok)
				}
				s := f.idp.Stats()
				if s.TokenRequests.RefreshToken != 2 || s.RefreshReused != 0 || s.Revocations != 2 || s.FamiliesRevoked != 2 {
					t.Errorf("stats %+v, want two refreshes and two revocations", s)
				}
			})
		}
	}
}

// refreshAndSignOut uses the tokens of one sign-in as long as there are any.
func (f *fixture) refreshAndSignOut(t *testing.T, ctx context.Context) {
	t.Helper()
	first, err := f.client.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.wantMe(t, first)
	f.expire(t, ctx)
	second, err := f.client.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if second.AccessToken == first.AccessToken {
		t.Error("the old token came again")
	}
	f.wantMe(t, second)
	if err := f.client.SignOut(ctx); err != nil {
		t.Error(err)
	}
	if _, err := f.client.Token(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want ErrNoTokens", err)
	}
}

func (f *fixture) wantMe(t *testing.T, tok tokencache.Token) {
	t.Helper()
	if status, body := f.me(t, tok); status != http.StatusOK {
		t.Errorf("the API answered %d %s", status, body)
	}
}

// TestWrongKey: the server's refusal is the configuration's fault, and nobody's
// sign-in ends.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	all := proofs(t)
	f := all["ECDSA key"].fixture(t, false)
	ctx := f.signIn(t, "anna")
	o := all["RSA key"].options
	o.HTTPClient = httpClient(t)
	_, err := newClient(t, f.cache, &o).Token(ctx, mailScope)
	var refused *xoauth2.ProtocolError
	if !errors.As(err, &refused) || refused.Code != "invalid_client" || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want invalid_client", err)
	}
	if _, err := f.client.Token(ctx, mailScope); err != nil {
		t.Error(err)
	}
}

// TestDeviceFlow: what the user does, and what happens to the server meanwhile.
func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		entra bool
		deny  bool
		life  time.Duration
		fault idp.Fault // of the token endpoint
		is    error
	}{
		"denied":             {deny: true, is: xoauth2.ErrDenied},
		"denied, Entra":      {entra: true, deny: true, is: xoauth2.ErrDenied},
		"never answered":     {life: 2 * time.Second, is: xoauth2.ErrDeviceCode},
		"down":               {fault: idp.Fault{Status: 503}},
		"no answer":          {fault: idp.Fault{Kind: "hang"}},
		"answer lost, Entra": {entra: true, fault: idp.Fault{Kind: "drop"}, is: xoauth2.ErrDeviceCode},
		"wrong audience":     {fault: idp.Fault{Kind: "wrong_audience"}, is: xoauth2.ErrIDToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{entra: tt.entra, timeout: time.Second, idp: idp.Options{DeviceInterval: time.Second, DeviceLifetime: tt.life}})
			d, err := f.client.BeginDevice(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.deny:
				err = f.idp.DenyDevice(d.UserCode)
			case tt.life == 0:
				err = f.idp.ApproveDevice(d.UserCode, "anna")
			}
			if err != nil {
				t.Fatal(err)
			}
			if fault := tt.fault; fault != (idp.Fault{}) {
				fault.Endpoint = "token"
				f.fault(t, fault)
			}
			ticket, err := f.client.CompleteDevice(t.Context(), d)
			clean(t, err, "marker")
			if !errors.Is(err, tt.is) || (err == nil) != (tt.is == nil) {
				t.Fatalf("got %v, want %v", err, tt.is)
			}
			if err != nil {
				return
			}
			tok, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key())))
			if err != nil {
				t.Fatal(err)
			}
			f.wantMe(t, tok)
		})
	}
}

// TestDeviceEndpointFails: nothing has begun, and it may be tried again.
func TestDeviceEndpointFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]idp.Fault{
		"down": {Status: 503}, "too many": {Status: 429}, "garbage": {Kind: "garbage"}, "huge": {Kind: "huge"}, "hang": {Kind: "hang"}, "drop": {Kind: "drop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{timeout: time.Second})
			fault.Endpoint = "device"
			f.fault(t, fault)
			_, err := f.client.BeginDevice(t.Context(), nil)
			var down *tokencache.ServerError
			if !errors.As(err, &down) {
				t.Errorf("got %v, want a ServerError", err)
			}
			clean(t, err, "marker")
			if _, err := f.client.BeginDevice(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
