package xoauth2_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

var ecKey = sync.OnceValues(func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })

func rsaSigner(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecSigner(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate returns a self-signed one of the key.
func certificate(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// remote is a key that is somewhere else: it has no type that a library could
// know, and may answer nonsense.
type remote struct {
	crypto.Signer
	answer func(signature []byte) ([]byte, error)
}

func (r remote) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if p, ok := o.(*rsa.PSSOptions); ok && p.SaltLength != rsa.PSSSaltLengthEqualsHash && p.SaltLength != sha256.Size {
		return nil, errors.New("only salts of the hash's length are supported")
	}
	signature, err := r.Signer.Sign(random, digest, o)
	if err != nil || r.answer == nil {
		return signature, err
	}
	return r.answer(signature)
}

func TestSignAssertion(t *testing.T) {
	t.Parallel()
	rsaKey, ec := rsaSigner(t), ecSigner(t)
	for name, tt := range map[string]struct {
		key     crypto.Signer
		options *xoauth2.AssertionOptions
		alg     jose.SignatureAlgorithm
	}{
		"RSA":                      {rsaKey, nil, jose.RS256},
		"RSA, named":               {rsaKey, &xoauth2.AssertionOptions{KeyID: "key-1"}, jose.RS256},
		"RSA with certificate":     {rsaKey, &xoauth2.AssertionOptions{Certificate: certificate(t, rsaKey)}, jose.PS256},
		"ECDSA":                    {ec, nil, jose.ES256},
		"ECDSA with certificate":   {ec, &xoauth2.AssertionOptions{Certificate: certificate(t, ec), KeyID: "key-2"}, jose.ES256},
		"elsewhere, RSA":           {remote{Signer: rsaKey}, nil, jose.RS256},
		"elsewhere, ECDSA":         {remote{Signer: ec}, nil, jose.ES256},
		"elsewhere, a certificate": {remote{Signer: rsaKey}, &xoauth2.AssertionOptions{Certificate: certificate(t, rsaKey)}, jose.PS256},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sign, err := xoauth2.SignAssertion("client-1", tt.key, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			for range 3 {
				text, err := sign(t.Context(), "https://login.example/token")
				if err != nil {
					t.Fatal(err)
				}
				checkAssertion(t, text, tt.key.Public(), tt.alg, seen)
				checkHeader(t, text, tt.options)
			}
		})
	}
}

// TestSignAssertionPads: the parts of an ECDSA signature have 32 bytes each, however
// small their numbers are (RFC 7518 §3.4).
func TestSignAssertionPads(t *testing.T) {
	t.Parallel()
	small := func([]byte) ([]byte, error) { return []byte{0x30, 7, 2, 1, 5, 2, 2, 0x12, 0x34}, nil }
	sign, err := xoauth2.SignAssertion("c", remote{Signer: ecSigner(t), answer: small}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sign(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	got, err := base64.RawURLEncoding.DecodeString(text[strings.LastIndex(text, ".")+1:])
	want := make([]byte, 64)
	want[31], want[62], want[63] = 5, 0x12, 0x34
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the signature is %x, want %x", got, want)
	}
}

func checkAssertion(t *testing.T, text string, public crypto.PublicKey, alg jose.SignatureAlgorithm, seen map[string]bool) {
	t.Helper()
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatal("not a JWT signed with ", alg)
	}
	var c jwt.Claims
	if err := token.Claims(public, &c); err != nil {
		t.Fatal("the signature does not verify")
	}
	now := time.Now()
	if c.Issuer != "client-1" || c.Subject != "client-1" || len(c.Audience) != 1 || c.Audience[0] != "https://login.example/token" {
		t.Errorf("issuer %q, subject %q, audience %q", c.Issuer, c.Subject, c.Audience)
	}
	if seen[c.ID] || len(c.ID) < 22 {
		t.Error("jti is short, or came before")
	}
	seen[c.ID] = true
	if c.IssuedAt == nil || c.NotBefore == nil || c.Expiry == nil {
		t.Fatal("a time is missing")
	}
	iat, exp := c.IssuedAt.Time(), c.Expiry.Time()
	if now.Sub(iat).Abs() > 2*time.Second || c.NotBefore.Time() != iat || exp.Sub(iat) > 5*time.Minute || exp.Before(now.Add(time.Minute)) {
		t.Errorf("issued %v, valid from %v to %v", iat, c.NotBefore.Time(), exp)
	}
}

func checkHeader(t *testing.T, text string, o *xoauth2.AssertionOptions) {
	t.Helper()
	first, _, _ := strings.Cut(text, ".")
	b, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		t.Fatal("the header is not base64url")
	}
	var got map[string]string
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal("the header is not JSON of texts")
	}
	want := map[string]string{"alg": got["alg"], "typ": "JWT"}
	if o != nil && o.KeyID != "" {
		want["kid"] = o.KeyID
	}
	if o != nil && o.Certificate != nil {
		sum1, sum256 := sha1.Sum(o.Certificate.Raw), sha256.Sum256(o.Certificate.Raw)
		want["x5t"] = base64.RawURLEncoding.EncodeToString(sum1[:])
		want["x5t#S256"] = base64.RawURLEncoding.EncodeToString(sum256[:])
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("header %v, want %v", got, want)
	}
}

// odd is a public key of no known kind.
type odd struct{ crypto.Signer }

func (odd) Public() crypto.PublicKey { return "marker-key" }

func TestSignAssertionRefuses(t *testing.T) {
	t.Parallel()
	rsaKey, ec := rsaSigner(t), ecSigner(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		id          string
		key         crypto.Signer
		certificate *x509.Certificate
		says        string
	}{
		"no client ID":               {"", rsaKey, nil, "client ID"},
		"no key":                     {"c", nil, nil, "a key"},
		"weak":                       {"c", weak, nil, "2048"},
		"empty":                      {"c", remote{Signer: odd{}}, nil, "P-256"},
		"another curve":              {"c", p384, nil, "P-256"},
		"EdDSA":                      {"c", ed, nil, "P-256"},
		"another key's certificate":  {"c", rsaKey, certificate(t, other), "another key"},
		"another kind's certificate": {"c", ec, certificate(t, rsaKey), "another key"},
		"empty certificate":          {"c", ec, &x509.Certificate{}, "another key"},
	} {
		sign, err := xoauth2.SignAssertion(tt.id, tt.key, &xoauth2.AssertionOptions{Certificate: tt.certificate})
		if err == nil || sign != nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, tt.says)
		}
		clean(t, err, "marker")
	}
}

func TestSignAssertionFails(t *testing.T) {
	t.Parallel()
	down := errors.New("the service is down")
	for name, answer := range map[string]func([]byte) ([]byte, error){
		"down":      func([]byte) ([]byte, error) { return nil, down },
		"empty":     func([]byte) ([]byte, error) { return nil, nil },
		"no ASN.1":  func([]byte) ([]byte, error) { return []byte("marker-signature"), nil },
		"more":      func(b []byte) ([]byte, error) { return append(b, 0), nil },
		"large":     func([]byte) ([]byte, error) { return sequence(33), nil },
		"enormous":  func([]byte) ([]byte, error) { return sequence(120), nil },
		"zero":      func([]byte) ([]byte, error) { return []byte{0x30, 6, 2, 1, 0, 2, 1, 0}, nil },
		"negative":  func([]byte) ([]byte, error) { return []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil },
		"one part":  func([]byte) ([]byte, error) { return []byte{0x30, 3, 2, 1, 1}, nil },
		"two forms": func([]byte) ([]byte, error) { return bytes.Repeat([]byte{1}, 64), nil },
	} {
		sign, err := xoauth2.SignAssertion("c", remote{Signer: ecSigner(t), answer: answer}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := sign(t.Context(), "a")
		if err == nil || text != "" || name == "down" && !errors.Is(err, down) {
			t.Errorf("%s: got %v", name, err)
		}
		clean(t, err, "marker")
	}
	sign, err := xoauth2.SignAssertion("c", ecSigner(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sign(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// sequence is an ASN.1 signature whose first part has n bytes.
func sequence(n int) []byte {
	part := append([]byte{2, byte(n)}, bytes.Repeat([]byte{0x7f}, n)...)
	part = append(part, 2, 1, 1)
	if len(part) < 128 {
		return append([]byte{0x30, byte(len(part))}, part...)
	}
	return append([]byte{0x30, 0x81, byte(len(part))}, part...)
}
