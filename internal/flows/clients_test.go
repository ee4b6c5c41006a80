package flows_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// credentials are what clients prove who they are with.
type credentials struct {
	key         *ecdsa.PrivateKey
	certified   *rsa.PrivateKey
	certificate *x509.Certificate
}

var made = sync.OnceValues(func() (c credentials, err error) {
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return c, err
	}
	if c.certified, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return c, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certified"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.certified.Public(), c.certified)
	if err != nil {
		return c, err
	}
	c.certificate, err = x509.ParseCertificate(der)
	return c, err
})

// signing are the clients that prove who they are with a key, and a public one.
func signing(t *testing.T) []idp.Client {
	t.Helper()
	c, err := made()
	check(t, err)
	redirect := []string{"http://127.0.0.1/callback"}
	return []idp.Client{
		{ID: "signer", Key: c.key.Public(), RedirectURIs: redirect},
		{ID: "certified", Certificate: c.certificate, RedirectURIs: redirect},
		{ID: "device", Public: true, RedirectURIs: []string{"http://127.0.0.1", "http://localhost"}},
	}
}

// clientAssertion and certificate sign in, refresh and act for themselves without a
// secret.
func clientAssertion(t *testing.T, w *world) {
	c, err := made()
	check(t, err)
	w.signed(t, "signer", c.key, nil)
}

func certificate(t *testing.T, w *world) {
	c, err := made()
	check(t, err)
	w.signed(t, "certified", c.certified, c.certificate)
}

func (w *world) signed(t *testing.T, id string, key crypto.Signer, cert *x509.Certificate) {
	t.Helper()
	assertion, err := xoauth2.SignAssertion(id, key, &xoauth2.AssertionOptions{Certificate: cert})
	check(t, err)
	start := func() *machine {
		return w.machine(t, id, &xoauth2.Options{ClientAssertion: assertion, RedirectURL: callbackURL, Scopes: []string{secondScope}})
	}
	one, two := start(), start()
	ticket := one.signIn(t, "anna", nil)
	one.expire(t, ticket.Key())
	w.served(t, two.of(t, ticket.Key()), two, secondScope, one.token(t, one.of(t, ticket.Key()), secondScope))
	own, err := one.AppToken(t.Context(), tokencache.Request{Scopes: []string{thirdScope}})
	check(t, err)
	if again, err := two.AppToken(t.Context(), tokencache.Request{Scopes: []string{thirdScope}}); err != nil || again.AccessToken != own.AccessToken {
		t.Errorf("another machine got another token of the application's, error %v", err)
	}
	if got := w.idp.Stats().TokenRequests; got.RefreshToken != 1 || got.ClientCredentials != 1 {
		t.Errorf("the server was asked %+v", got)
	}
}

func deviceCode(t *testing.T, w *world) {
	start := func() *machine { return w.machine(t, "device", &xoauth2.Options{Scopes: []string{secondScope}}) }
	one, two := start(), start()
	d, err := one.BeginDevice(t.Context(), nil)
	check(t, err)
	check(t, w.idp.ApproveDevice(d.UserCode, "anna"))
	ticket, err := one.CompleteDevice(t.Context(), d)
	check(t, err)
	first := one.token(t, one.of(t, ticket.Key()), secondScope)
	w.served(t, two.of(t, ticket.Key()), two, secondScope, first)
	two.expire(t, ticket.Key())
	w.refreshed(t, two.of(t, ticket.Key()), two, secondScope, first)
}

// password is for a client with a secret and for a public one.
func password(t *testing.T, w *world) {
	public := func() *machine { return w.machine(t, "device", &xoauth2.Options{Scopes: []string{mineScope}}) }
	for name, start := range map[string]func() *machine{"public": public, "secret": func() *machine { return w.app(t) }} {
		one, two, three := start(), start(), start()
		if _, err := one.SignInWithPassword(t.Context(), "anna", "marker-wrong", nil); !errors.Is(err, xoauth2.ErrPassword) {
			t.Errorf("%s, the wrong password: %v", name, err)
		}
		ticket, err := one.SignInWithPassword(t.Context(), "anna", "marker-password", nil)
		check(t, err)
		first := one.token(t, one.of(t, ticket.Key()), mineScope)
		w.served(t, two.of(t, ticket.Key()), two, mineScope, first)
		two.expire(t, ticket.Key())
		after := w.refreshed(t, two.of(t, ticket.Key()), two, mineScope, first)
		w.served(t, three.of(t, ticket.Key()), three, mineScope, after)
		check(t, two.SignOut(two.of(t, ticket.Key())))
		if _, err := two.Token(two.of(t, ticket.Key()), mineScope); !errors.Is(err, tokencache.ErrRemoved) {
			t.Errorf("%s, after signing out: %v", name, err)
		}
	}
}
