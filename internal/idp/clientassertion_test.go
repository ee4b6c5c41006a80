package idp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// signers are made once: RSA keys take their time.
var signers = sync.OnceValue(func() (k struct {
	rsa, other, weak *rsa.PrivateKey
	ec, big          *ecdsa.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.other, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.weak, _ = rsa.GenerateKey(rand.Reader, 1024)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.big, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return k
})

func certificate(t *testing.T, key crypto.Signer, until time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// assertionOf are good claims of a client, to be changed by a test.
func assertionOf(client string, e endpoints) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": client, "sub": client, "aud": e.token(), "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func assertionForm(assertion string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
}

func withKeys(t *testing.T) (*idp.Options, map[string]*x509.Certificate) {
	t.Helper()
	k := signers()
	certs := map[string]*x509.Certificate{
		"cert": certificate(t, k.rsa, time.Now().Add(time.Hour)), "old": certificate(t, k.rsa, time.Now().Add(-time.Minute)),
	}
	uris := []string{callback}
	return &idp.Options{Clients: []idp.Client{
		{ID: "rsa", Key: &k.rsa.PublicKey, RedirectURIs: uris},
		{ID: "ec", Key: &k.ec.PublicKey, RedirectURIs: uris},
		{ID: "cert", Certificate: certs["cert"], RedirectURIs: uris},
		{ID: "old", Certificate: certs["old"], RedirectURIs: uris},
		{ID: "both", Secret: "both-secret", Key: &k.ec.PublicKey, Certificate: certs["cert"], RedirectURIs: uris},
	}}, certs
}

func TestClientAssertions(t *testing.T) {
	t.Parallel()
	o, certs := withKeys(t)
	s := listen(t, o)
	k := signers()
	sum1, sum256 := sha1.Sum(certs["cert"].Raw), sha256.Sum256(certs["cert"].Raw)
	std, raw := base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString
	type header = map[jose.HeaderKey]any
	tests := []struct {
		name, client string
		alg          jose.SignatureAlgorithm
		key          any
		header       header
		ok           bool
	}{
		{"RS256", "rsa", jose.RS256, k.rsa, nil, true},
		{"PS256", "rsa", jose.PS256, k.rsa, nil, true},
		{"ES256", "ec", jose.ES256, k.ec, nil, true},
		{"type and key ID", "ec", jose.ES256, k.ec, header{"typ": "JWT", "kid": "x"}, true},
		{"certificate as MSAL names it", "cert", jose.PS256, k.rsa, header{"typ": "JWT", "x5t#S256": std(sum256[:])}, true},
		{"certificate as the RFC names it", "cert", jose.PS256, k.rsa, header{"x5t#S256": raw(sum256[:])}, true},
		{"certificate by SHA-1", "cert", jose.RS256, k.rsa, header{"x5t": raw(sum1[:])}, true},
		{"certificate with itself", "cert", jose.RS256, k.rsa, header{"x5t": std(sum1[:]), "x5c": []string{std(certs["cert"].Raw)}}, true},
		{"both, by certificate", "both", jose.RS256, k.rsa, header{"x5t": std(sum1[:])}, true},
		{"both, by key", "both", jose.ES256, k.ec, nil, true},

		{"RS384", "rsa", jose.RS384, k.rsa, nil, false},
		{"PS512", "rsa", jose.PS512, k.rsa, nil, false},
		{"ES384", "ec", jose.ES384, k.big, nil, false},
		{"HS256 with the ID", "both", jose.HS256, []byte(strings.Repeat("both-secret", 3)), nil, false},
		{"another key", "rsa", jose.RS256, k.other, nil, false},
		{"another kind of key", "rsa", jose.ES256, k.ec, nil, false},
		{"key in the header", "rsa", jose.RS256, k.other, header{"jwk": jose.JSONWebKey{Key: &k.other.PublicKey}}, false},
		{"certificate unnamed", "cert", jose.RS256, k.rsa, nil, false},
		{"certificate misnamed", "cert", jose.RS256, k.rsa, header{"x5t": raw(sum256[:20])}, false},
		{"one name of two is wrong", "cert", jose.RS256, k.rsa, header{"x5t": raw(sum1[:]), "x5t#S256": "x"}, false},
		{"name is no text", "cert", jose.RS256, k.rsa, header{"x5t": 1}, false},
		{"named, and another key", "cert", jose.RS256, k.other, header{"x5t": raw(sum1[:])}, false},
		{"key, with a name", "rsa", jose.RS256, k.rsa, header{"x5t": raw(sum1[:])}, false},
		{"both, by key with the certificate's name", "both", jose.ES256, k.ec, header{"x5t": raw(sum1[:])}, false},
		{"unknown critical header", "ec", jose.ES256, k.ec, header{"crit": []string{"x"}, "x": 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, e := range []endpoints{plain(s), entra(s)} {
				a := post(t, e.token(), assertionForm(signed(t, tt.alg, tt.key, tt.header, assertionOf(tt.client, e))))
				if !tt.ok {
					wantError(t, a, http.StatusUnauthorized, "invalid_client")
					continue
				}
				if c := payload(t, mustTokens(t, a).AccessToken); c["azp"] != tt.client {
					t.Errorf("azp %v, want %s", c["azp"], tt.client)
				}
			}
		})
	}
	old := sha256.Sum256(certs["old"].Raw)
	a := post(t, plain(s).token(), assertionForm(signed(t, jose.PS256, k.rsa, header{"x5t#S256": std(old[:])}, assertionOf("old", plain(s)))))
	wantError(t, a, http.StatusUnauthorized, "invalid_client")
	if !strings.Contains(a.body, "AADSTS1000502") {
		t.Errorf("expired certificate: %s", a.body)
	}
}

func TestClientAssertionClaims(t *testing.T) {
	t.Parallel()
	o, _ := withKeys(t)
	s := listen(t, o)
	e := entra(s)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	tests := []struct {
		name   string
		change map[string]any // nil removes
		ok     bool
	}{
		{"none", nil, true},
		{"issuer as audience", map[string]any{"aud": e.issuer}, true},
		{"audience in a list", map[string]any{"aud": []string{e.token()}}, true},
		{"no iat and nbf", map[string]any{"iat": nil, "nbf": nil}, true},
		{"two audiences", map[string]any{"aud": []string{e.token(), e.issuer}}, false},
		{"no audience", map[string]any{"aud": nil}, false},
		{"other audience", map[string]any{"aud": "https://other.test/token"}, false},
		{"other issuer's endpoint", map[string]any{"aud": plain(s).token()}, false},
		{"no exp", map[string]any{"exp": nil}, false},
		{"expired", map[string]any{"exp": in(-time.Second)}, false},
		{"exp far ahead", map[string]any{"exp": in(11 * time.Minute)}, false},
		{"exp as text", map[string]any{"exp": "soon"}, false},
		{"nbf ahead", map[string]any{"nbf": in(time.Minute)}, false},
		{"iat ahead", map[string]any{"iat": in(time.Minute)}, false},
		{"no jti", map[string]any{"jti": nil}, false},
		{"long jti", map[string]any{"jti": strings.Repeat("x", 257)}, false},
		{"odd jti", map[string]any{"jti": "a\x00b"}, false},
		{"other iss", map[string]any{"iss": "rsa"}, false},
		{"other sub", map[string]any{"sub": "rsa"}, false},
		{"unknown client", map[string]any{"iss": "x", "sub": "x"}, false},
		{"no sub", map[string]any{"iss": nil, "sub": nil}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			claims := assertionOf("ec", e)
			maps.Copy(claims, tt.change)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			form := assertionForm(signed(t, jose.ES256, signers().ec, nil, claims))
			if a := post(t, e.token(), form); tt.ok {
				mustTokens(t, a)
			} else {
				wantError(t, a, http.StatusUnauthorized, "invalid_client")
			}
		})
	}
}

func TestClientAssertionRequests(t *testing.T) {
	t.Parallel()
	o, _ := withKeys(t)
	s := listen(t, o)
	e := plain(s)
	key := signers().ec
	good := func() url.Values { return assertionForm(signed(t, jose.ES256, key, nil, assertionOf("both", e))) }
	set := func(form url.Values, k, v string) url.Values { form.Set(k, v); return form }
	without := func(form url.Values, k string) url.Values { form.Del(k); return form }
	for name, tt := range map[string]struct {
		form   url.Values
		status int
		code   string
	}{
		"its client_id":      {set(good(), "client_id", "both"), 200, ""},
		"another client_id":  {set(good(), "client_id", "ec"), 401, "invalid_client"},
		"a secret as well":   {set(good(), "client_secret", "both-secret"), 400, "invalid_request"},
		"no type":            {without(good(), "client_assertion_type"), 401, "invalid_client"},
		"another type":       {set(good(), "client_assertion_type", "x"), 401, "invalid_client"},
		"type alone":         {without(good(), "client_assertion"), 401, "invalid_client"},
		"garbage":            {set(good(), "client_assertion", "x.y.z"), 401, "invalid_client"},
		"no key, no secret":  {url.Values{"grant_type": {"client_credentials"}, "client_id": {"ec"}}, 401, "invalid_client"},
		"secret of a client": {url.Values{"grant_type": {"client_credentials"}, "client_id": {"both"}, "client_secret": {"both-secret"}}, 200, ""},
	} {
		if a := post(t, e.token(), tt.form); a.status != tt.status || a.errorCode(t) != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, tt.status, tt.code)
		}
	}
	req := request(t, http.MethodPost, e.token(), good().Encode(), "Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("both", "both-secret")
	wantError(t, do(t, req), http.StatusBadRequest, "invalid_request")
	if a := post(t, e.base+"/revoke", set(good(), "token", "x")); a.status != http.StatusOK {
		t.Errorf("revocation: %d %s", a.status, a.body)
	}
}

func TestClientAssertionIsUsedOnce(t *testing.T) {
	t.Parallel()
	const n = 16
	o, _ := withKeys(t)
	s := listen(t, o)
	e := plain(s)
	claims := assertionOf("ec", e)
	form := assertionForm(signed(t, jose.ES256, signers().ec, nil, claims))
	var (
		wg      sync.WaitGroup
		answers [n]answer
	)
	for i := range n {
		wg.Go(func() { answers[i] = post(t, e.token(), form) })
	}
	wg.Wait()
	ok := 0
	for _, a := range answers {
		if a.status == http.StatusOK {
			ok++
		}
	}
	if ok != 1 {
		t.Errorf("an assertion was good %d times, want 1", ok)
	}
	claims["iss"], claims["sub"] = "rsa", "rsa" // the jti is another client's
	mustTokens(t, post(t, e.token(), assertionForm(signed(t, jose.RS256, signers().rsa, nil, claims))))
}

func TestClientKeysAreValidated(t *testing.T) {
	t.Parallel()
	k := signers()
	for name, c := range map[string]idp.Client{
		"weak key":         {Key: &k.weak.PublicKey},
		"another curve":    {Key: &k.big.PublicKey},
		"private key":      {Key: k.rsa},
		"nil key":          {Key: (*rsa.PublicKey)(nil)},
		"no key":           {Key: "x"},
		"weak certificate": {Certificate: certificate(t, k.big, time.Now().Add(time.Hour))},
	} {
		c.ID, c.RedirectURIs = "c", []string{callback}
		if s, err := idp.Listen("127.0.0.1:0", &idp.Options{Clients: []idp.Client{c}}); err == nil {
			_ = s.Close(t.Context())
			t.Errorf("%s: no error", name)
		}
	}
}
